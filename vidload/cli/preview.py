"""`vidload preview`: a contact sheet of what the model will see, after sampling and the transform."""

from __future__ import annotations

import argparse
from typing import Any

from vidload import sampling, transforms
from vidload._core import LoaderPool
from vidload.annotations import read_videos
from vidload.cli import _shared
from vidload.dataset import VideoDataset
from vidload.errors import VideoError
from vidload.system import sheet

TRANSFORMS = (
    "random_resized_crop",
    "multi_scale_crop",
    "random_crop",
    "center_crop",
    "three_crop",
    "ten_crop",
)
_DESCRIPTION = """\
Draws what the model will see: for a few videos of a dataset, exactly the frames and crops that VideoDataset
returns for this clip, transform, seed and epoch, with file names, labels and frame numbers.

With a random transform (the default) these are training samples, with any other transform evaluation samples.
"""
_EXAMPLE = """\
examples:
  vidload preview train.txt --root videos --clip 32x2x1 -o sheet.png
  vidload preview val.txt --root videos --clip 8x8x10 --transform three_crop --size 256 -o views.png"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _shared.add_command(
        subparsers,
        "preview",
        help="draw what the model will see as a contact sheet",
        description=_DESCRIPTION,
        example=_EXAMPLE,
    )
    _shared.add_videos(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the PNG to write")
    parser.add_argument(
        "--clip",
        default="32x2x1",
        metavar="TxIxN",
        help="clip_len x frame_interval x num_clips (default: 32x2x1, one clip of 32 frames, taking every second frame)",
    )
    parser.add_argument("--transform", default=TRANSFORMS[0], choices=TRANSFORMS, help="default: %(default)s")
    parser.add_argument("--size", type=int, default=224, help="side of the crop in pixels (default: %(default)s)")
    parser.add_argument(
        "--sampling", default="segments", choices=sorted(sampling.SAMPLERS), help="default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--epoch", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--num-videos", type=int, default=6, metavar="N", help="rows (default: %(default)s)")
    parser.add_argument(
        "--num-frames", type=int, default=8, metavar="N", help="frames shown per row (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:

    if args.num_videos < 1 or args.num_frames < 1:
        raise ValueError("--num-videos and --num-frames must be at least 1")
    sheet.figure_class()  # fail before the work, not after it
    dataset = VideoDataset(
        read_videos(args.list_or_dir, args.root),
        clip=args.clip,
        transform=getattr(transforms, args.transform)(args.size),
        sampling=args.sampling,
        seed=args.seed,
    )
    dataset.set_epoch(args.epoch)
    rows: list[Any] = []
    titles, captions = [], []
    for i in sheet.evenly(len(dataset), args.num_videos).tolist():
        name = dataset.annotations.path(i)
        try:
            clip, label = dataset[i]
        except VideoError as error:
            print(f"left out: {error}")
            continue
        images = sheet.pixels(clip, dataset.transform, dataset.layout)
        shown = sheet.evenly(len(images), args.num_frames)
        texts = frame_captions(dataset, i)
        rows.append(images[shown])
        titles.append(f"{name}  label {label}")
        captions.append([texts[k] for k in shown])
    if not rows:
        raise ValueError(f"{args.list_or_dir}: none of the videos can be read")
    sheet.write_contact_sheet(args.output, rows, titles, captions)
    shape = list(dataset.sample_shape)
    print(f"{args.output}: {len(rows)} samples of {dataset.clip}, shape {shape} ({dataset.layout[1:]}) each")
    return 0


def frame_captions(dataset: VideoDataset, i: int) -> list[str]:
    """What to write under each image of sample `i`, view by view: the frame number, the crop number if there are several, and whether it
    is flipped."""
    batch = dataset.start_indexing(LoaderPool(0), [i])
    batch.wait()
    (info,) = batch.infos()
    assert info is not None  # the sample has been loaded
    request = dataset.request(i, dataset.epoch, info)
    frames = request.frames.reshape(-1, dataset.sample_shape[dataset.time_axis])
    captions = []
    for view, row in enumerate(request.views):
        crop = f" crop {view // len(frames)}" if len(request.views) > len(frames) else ""
        flipped = " flipped" if row["flip"] else ""
        captions += [f"frame {frame}{crop}{flipped}" for frame in frames[row["clip"]]]
    return captions
