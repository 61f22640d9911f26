"""Ctrl-C, a timeout, or closing an iterator end a scan, a decode and a slow read soon; nothing holds the process when it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.faults import run_with_faults


@pytest.fixture
def long_video(video, tmp_path: Path) -> Path:
    """Takes seconds to scan."""
    path = tmp_path / "long.ts"
    path.write_bytes(Path(video("h264_ts")).read_bytes() * 1500)
    return path


@pytest.mark.parametrize("how", ["close", "delete", "timeout"])
def test_a_read_that_hangs_holds_neither_the_caller_nor_the_process(how: str, video) -> None:
    # The reads take ten minutes, and run_with_faults waits for two.
    out = run_with_faults(
        """
        path, how = sys.argv[1:]
        loader = VideoLoader(dataset([path] * 20), batch_size=2, num_workers=3, timeout=1 if how == "timeout" else 0)
        iterator = iter(loader)
        next(iterator)
        faults.fault_read_wait(600_000)
        vidload._core.clear_index_cache()
        if how == "timeout":
            try:
                for _ in range(20):
                    next(iterator)
            except RuntimeError as error:
                assert "timed out" in str(error)
        elif how == "close":
            time.sleep(0.3)
            iterator.close()
        del iterator, loader
        import gc; gc.collect()
        print("done", flush=True)
        """,
        video("h264"),
        how,
    )
    assert out == "done\n"


@pytest.mark.parametrize("what", ["loader of threads", "loader without threads", "reader", "index"])
def test_ctrl_c_ends_a_long_scan_within_a_second(what: str, long_video: Path, tmp_path: Path) -> None:
    out = run_with_faults(
        """
        import signal
        path, what, folder = sys.argv[1:]
        started = []
        def interrupt():
            time.sleep(0.3)
            started.append(time.process_time())
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt, daemon=True).start()
        try:
            if what == "reader":
                vidload.VideoReader(path)
            elif what == "index":
                vidload.build_index([path], os.path.join(folder, "index"), num_workers=1)
            else:
                list(VideoLoader(dataset([path]), num_workers=2 if what == "loader of threads" else 0))
            print("was not interrupted")
        except KeyboardInterrupt:
            late = time.process_time() - started[0]  # a scan is all work
            print("done" if late < 1 else late)
        """,
        long_video,
        what,
        tmp_path,
    )
    assert out == "done\n"
