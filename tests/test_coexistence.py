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
import importlib, sys
import numpy as np
path, names = sys.argv[1], sys.argv[2:]
for name in names:
    globals()[name] = importlib.import_module(name)
    if name == "torchcodec":
        import torchcodec.decoders
frames = {name: np.asarray(eval(READERS[name])).astype(int) for name in [*names, *reversed(names)]}
first = frames["vidload"]
for name, frame in frames.items():
    assert frame.shape == first.shape, name
    assert abs(frame - first).mean() < 3, name  # converters round differently
"""


@pytest.mark.parametrize("order", list(itertools.permutations(INSTALLED)), ids="-".join)
def test_libraries_with_their_own_ffmpeg_decode_side_by_side(order: tuple[str, ...], video) -> None:
    code = f"READERS = {READERS!r}\n{CODE}"
    result = subprocess.run([sys.executable, "-c", code, video("h264_bt601"), *order], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
