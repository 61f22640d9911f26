"""Libraries with an FFmpeg of their own in one process: none calls into another's, whichever is imported first.

Each order runs in a process of its own, imports all and then decodes the same clip with each; those that are not installed are left out.
Where vidload comes from a wheel, its FFmpeg is inside its module; else it is the system's, as TorchCodec's and SPDL's are.
"""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys

import pytest
from videos import make_video

# module -> code that decodes the first frame of `path` to RGB
READERS = {
    "vidload": "vidload.VideoReader(path).get_frames_at([0])[0]",
    "av": "next(av.open(path).decode(video=0)).to_ndarray(format='rgb24')",
    "cv2": "cv2.VideoCapture(path).read()[1][..., ::-1]",
    "torchcodec": "torchcodec.decoders.VideoDecoder(path, dimension_order='NHWC')[0].numpy()",
    "decord": "decord.VideoReader(path)[0].asnumpy()",
}
INSTALLED = [name for name in READERS if importlib.util.find_spec(name)]

CODE = """
import hashlib, importlib, sys
import numpy as np
path, names = sys.argv[1], sys.argv[2:]
for name in names:
    globals()[name] = importlib.import_module(name)
    if name == "torchcodec":
        import torchcodec.decoders
for name in [*names, *reversed(names)]:
    frame = np.ascontiguousarray(eval(READERS[name]))
    print(name, frame.shape, hashlib.sha256(frame.tobytes()).hexdigest())
"""


def first_frames(path: str, order: tuple[str, ...]) -> set[str]:
    """A line with name, shape and checksum for each library, imported and then used in this order, and once more the other way round."""
    code = f"READERS = {READERS!r}\n{CODE}"
    result = subprocess.run([sys.executable, "-c", code, path, *order], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines())


@pytest.fixture(scope="module")
def alone(video_cache) -> set[str]:
    """What each library gives in a process of its own."""
    path = str(make_video("h264", video_cache))
    return set().union(*(first_frames(path, (name,)) for name in INSTALLED))


@pytest.mark.parametrize("order", list(itertools.permutations(INSTALLED)), ids="-".join)
def test_libraries_with_their_own_ffmpeg_decode_side_by_side_as_they_do_alone(order, alone, video) -> None:
    assert len(alone) == len(INSTALLED)
    assert first_frames(video("h264"), order) == alone
