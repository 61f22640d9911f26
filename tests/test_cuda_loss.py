"""A GPU that is lost in mid-epoch, on the stub driver: one clear error, and the process can end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "stub_driver"))
from stub import HERE as STUB_DRIVER
from stub import build

CUDA_ERROR_ILLEGAL_ADDRESS = 700

# An epoch in which the device is lost at a launch (of which most are still to come when the first batch is there); prints the errors of going on, then comes to its end like any program.
PROGRAM = f"""
import sys
sys.path.insert(0, {str(STUB_DRIVER)!r})
from loading import dataset
from stub import Stub, build
import vidload
path, decoder = sys.argv[1:]
Stub.load(build())
Stub.add_videos([path])
loader = vidload.VideoLoader(
    dataset([path] * 40), 2, num_workers=3, device="cuda", decoder=decoder, on_error="skip", prefetch_factor=2
)
iterator = iter(loader)
kept = next(iterator)
Stub.fail("cuLaunchKernel", 9, {CUDA_ERROR_ILLEGAL_ADDRESS})
for attempt in range(2):
    try:
        for batch in iterator:
            pass
        print("over")
    except RuntimeError as error:
        print(type(error).__name__, error)
try:
    next(iter(loader))
except RuntimeError as error:
    print("again", type(error).__name__, error)
print("failures", loader.stats()["failures"])
"""


@pytest.mark.parametrize("decoder", ["cpu", "nvdec"])
def test_a_lost_gpu_ends_the_epoch_with_one_error_and_the_process_ends(video, decoder):
    build()  # or skips
    command = [sys.executable, "-c", PROGRAM, video("h264"), decoder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)  # a hang fails here
    assert done.returncode == 0, done.stderr
    first, second, again, failures = done.stdout.splitlines()
    assert first.startswith("RuntimeError CUDA: cannot ")
    assert second.startswith("RuntimeError this pass over the epoch was ended by RuntimeError")
    assert again.startswith("again RuntimeError CUDA: cannot ")
    assert failures == "failures []"  # no video is to blame
