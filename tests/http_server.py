"""A server of files on loopback that knows ranges and ETags, with faults put in on demand."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What a fault does to a request before it is answered: given the number of GETs so far and the range, it returns a status to send instead
# of an answer, "reset", "short", "ignore range", a number of seconds to wait as a float, or None for nothing.
Fault = Callable[[int, tuple[int, int]], "int | float | str | None"]


@dataclass
class Server:
    """files: by their path, "/a.mp4"; may change at any time. ranges: (path, begin, end) of each GET that was answered, in order."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    num_heads: int = 0
    num_gets: int = 0
    fault: Fault | None = None
    released: threading.Event = field(default_factory=threading.Event)  # ends all waits
    most_at_once: int = 0

    @property
    def num_bytes(self) -> int:
        return sum(end - begin for _, begin, end in self.ranges)


@contextmanager
def http_server() -> Iterator[Server]:
    state = Server()
    lock = threading.Lock()
    num_at_once = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            state.num_heads += 1
            self.answer(with_body=False)

        def do_GET(self) -> None:
            nonlocal num_at_once
            with lock:
                num_at_once += 1
                state.most_at_once = max(state.most_at_once, num_at_once)
            try:
                self.answer(with_body=True)
            finally:
                with lock:
                    num_at_once -= 1

        def answer(self, with_body: bool) -> None:
            data = state.files.get(self.path)
            if data is None:
                return self.say(404)
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            begin, end = (int(match[1]), min(int(match[2]) + 1, len(data))) if match else (0, len(data))
            what: int | float | str | None = None
            if with_body:
                with lock:
                    number = state.num_gets
                    state.num_gets += 1
                what = state.fault(number, (begin, end)) if state.fault else None
            if isinstance(what, float):
                state.released.wait(what)
            if isinstance(what, int):
                return self.say(what)
            if what == "reset":
                self.close_connection = True
                return None
            if what == "ignore range":
                match, begin, end = None, 0, len(data)
            self.send_response(206 if match else 200)
            body = data[begin:end]
            if what == "short":
                body = body[: len(body) // 2]
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.md5(data[:100] + data[-100:]).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
            if match:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
            self.end_headers()
            if with_body:
                state.ranges.append((self.path, begin, end))
                try:
                    self.wfile.write(body)
                except OSError:  # whoever asked has gone
                    self.close_connection = True
            return None

        def say(self, status: int) -> None:
            body = b"slow down please" if status == 503 else b"no"
            self.send_response(status, "Slow Down" if status == 503 else None)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients go away in the middle

    server = Quiet(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
