"""Objects on a network, read through fsspec: what the core's requests for a URL become.

In: a URL and a range of bytes, and a RemoteReply that takes the answer. Out: all bytes of that range, or why there are none. Each request has
a thread of its own here, so that whoever waits for it can give up at any time; it is tried again where that may help, and ends with the
deadline. Which ranges are asked for, and what is done with them, is the core's business (csrc/source/remote_source).
"""

from __future__ import annotations

import hashlib
import os
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from vidload import _core, range_cache

_ATTEMPT_SECONDS = 20.0
_MAX_ATTEMPTS = 6
_FIRST_PAUSE_SECONDS = 0.1  # each of the later ones is twice as long
_GRACE_SECONDS = 2.0  # for an answer that says what went wrong, once the deadline has passed
_MAX_THREADS = 256
_IDLE_SECONDS = 30.0
_RETRIED_STATUS = (408, 409, 425, 429)  # beside 5xx

# What tells one state of an object from another, the surest first; file systems call it differently.
_TAGS = (
    *("ETag", "etag", "e_tag", "md5Hash", "content_md5", "Content-MD5", "Digest", "crc32c", "generation", "version", "VersionId"),
    *("blob_id", "checksum", "mtime", "LastModified", "last_modified", "Last-Modified", "updated", "modified", "created"),
)  # fmt: skip


class _Failure(Exception):
    """kind: as RemoteReply.fail has it; may_pass: whether another attempt may succeed."""

    def __init__(self, kind: str, reason: str, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.kind = kind
        self.may_pass = may_pass


def deadline_seconds() -> float:
    """How long one request may take, all its attempts together: VIDLOAD_REMOTE_SECONDS, or 60."""
    try:
        return max(float(os.environ.get("VIDLOAD_REMOTE_SECONDS", 60)), 0.1)
    except ValueError:
        return 60.0


def look_up(url: str, reply: _core.RemoteReply) -> float:
    """Asks for size and state of an object as it is now; returns how long an answer may take, in seconds."""
    return _start(url, "cannot look up", lambda seconds: reply.succeed_with_stamp(*_stamp(url, seconds)), reply)


def fetch(url: str, size: int, tag: int, begin: int, end: int, reply: _core.RemoteReply) -> float:
    """Asks for the bytes [begin, end) of an object, which had `size` and `tag`; as look_up."""
    cache = range_cache.of_environment()

    def answer(seconds: float) -> None:
        if cache is None:
            reply.succeed_with_bytes(_read(url, begin, end, size, seconds))
        else:
            data = cache.read(
                (url, size, tag), begin, end, size, lambda first, last: _read(url, first, last, size, seconds)
            )
            reply.succeed_with_bytes(data)

    return _start(url, f"cannot read bytes [{begin}, {end})", answer, reply)


def _start(url: str, action: str, answer: Callable[[float], None], reply: _core.RemoteReply) -> float:
    allowed = deadline_seconds()
    deadline = time.monotonic() + allowed

    def run() -> None:
        try:
            _persist(answer, deadline, reply)
        except _Failure as failure:
            reply.fail(url, failure.kind, _printable(f"{action}: {failure}"))
        except BaseException as error:  # whoever waits must hear of it
            reply.fail(url, "setup", _printable(f"{action}: {type(error).__name__}: {error}"))

    _threads.run(run)
    return allowed + _GRACE_SECONDS


def _persist(answer: Callable[[float], None], deadline: float, reply: _core.RemoteReply) -> None:
    """Tries until it succeeds, nobody waits any more, another attempt cannot help, or the time is up."""
    start = time.monotonic()
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        if not reply.is_wanted:
            raise _Failure("network", "given up")
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise _Failure("timeout", "it waited for its turn too long")
            return answer(min(_ATTEMPT_SECONDS, left))
        except Exception as error:
            failure = error if isinstance(error, _Failure) else _failure_of(error)
            pause = _FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1)
            if not failure.may_pass:
                raise failure from error
            if attempt == _MAX_ATTEMPTS or time.monotonic() + pause >= deadline:
                took = time.monotonic() - start
                raise _Failure(failure.kind, f"{failure} (tried {attempt} times in {took:.1f} s)") from error
        time.sleep(pause)


def _failure_of(error: BaseException) -> _Failure:
    """What an exception of fsspec's, or of a library below it, says."""
    if isinstance(error, ImportError):
        return _Failure(
            "setup", f"{error}; URLs need fsspec and its package for this kind: pip install 'vidload[remote]'"
        )
    # HTTPFileSystem.info says FileNotFoundError whatever happened; what did is the cause.
    while isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    words = _words(error)
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return _Failure("missing", f"there is no such object ({words})")
    if isinstance(error, PermissionError) or status in (401, 403):
        return _Failure("refused", f"its server refuses access ({words}); check credentials and permissions")
    if isinstance(error, TimeoutError) or type(error).__name__ == "FSTimeoutError":
        return _Failure("timeout", f"its server does not answer ({words})", may_pass=True)
    if status is not None and status < 500 and status not in _RETRIED_STATUS:
        return _Failure("refused", f"its server refuses ({words})")
    if isinstance(error, NotImplementedError | ValueError | TypeError | IsADirectoryError):
        return _Failure("setup", words)
    return _Failure("network", words, may_pass=True)


def _printable(text: str) -> str:
    """Without what is no Unicode: names need not be UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _words(error: BaseException) -> str:
    text = str(error) or (repr(error.__cause__) if error.__cause__ is not None else "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an exception, if there is one."""
    while error is not None:
        response: Any = getattr(error, "response", None)
        candidates = [
            getattr(error, "status", None),  # aiohttp's
            getattr(error, "code", None) if type(error).__module__.startswith("gcsfs") else None,
            getattr(response, "status_code", None),
        ]
        if isinstance(response, dict):  # botocore's
            candidates.append(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        for candidate in candidates:
            if isinstance(candidate, int) and 100 <= candidate < 600:
                return candidate
        error = error.__cause__
    return None


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
        return found
    except ValueError as error:  # "Protocol not known: ..."
        raise _Failure("setup", str(error)) from error


def _options(fs: Any, seconds: float) -> dict[str, Any]:
    """A time limit, where the file system can keep one; else no reading ahead, which would fetch what nobody asked for."""
    return {"timeout": seconds} if getattr(fs, "async_impl", False) else {"cache_type": "none"}


def _stamp(url: str, seconds: float) -> tuple[int, int]:
    """(size, tag) of an object as it is now; the tag is a number made of what its server says of its state, 0 if that is nothing."""
    fs, path = _file_system(url)
    fs.invalidate_cache(path)
    info = fs.info(path, **({"timeout": seconds} if getattr(fs, "async_impl", False) else {}))
    size = info.get("size")
    if info.get("type") == "directory":
        raise _Failure("refused", "not a file; give the URL of a video")
    if not isinstance(size, int):
        raise _Failure("refused", "its server does not say how large it is, so that no part of it can be read")
    if info.get("partial") is False:
        raise _Failure("refused", "its server gives no parts of files (Accept-Ranges: none)")
    name = next((name for name in _TAGS if info.get(name) is not None), None)
    if name is None:
        return size, 0
    digest = hashlib.blake2b(f"{name}={info[name]}".encode(errors="surrogateescape"), digest_size=8).digest()
    return size, int.from_bytes(digest, "little") >> 1


def _read(url: str, begin: int, end: int, size: int, seconds: float) -> bytes:
    fs, path = _file_system(url)
    data = fs.cat_file(path, start=begin, end=end, **_options(fs, seconds))
    if len(data) == end - begin:
        return bytes(data)
    if len(data) == size:
        raise _Failure("refused", "its server sends the whole object, not the part that was asked for")
    if (size_now := _stamp(url, seconds)[0]) != size:
        raise _Failure("refused", f"it has {size_now} bytes now, not {size}")
    raise _Failure("network", f"its server sent {len(data)} of {end - begin} bytes", may_pass=True)


class _Threads:
    """Threads that run what they are given, as many as there is to do; daemons, so that one that hangs keeps no process alive."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._num_threads = self._num_busy = 0

    def run(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._num_busy += 1
            is_short = self._num_busy > self._num_threads and self._num_threads < _MAX_THREADS
            self._num_threads += is_short
        self._jobs.put(job)
        if is_short:
            threading.Thread(target=self._work, name="vidload-remote", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._num_busy < self._num_threads:
                        self._num_threads -= 1
                        return
                continue
            job()
            del job
            with self._lock:
                self._num_busy -= 1


_threads = _Threads()


def _forget_threads() -> None:
    global _threads
    _threads = _Threads()


os.register_at_fork(after_in_child=_forget_threads)
