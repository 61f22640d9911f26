"""Classifies a video: the five most likely classes, averaged over the views used for testing in the
model's paper.

    python examples/predict.py VIDEO --checkpoint tsm.pth --model tsm_r50_1x1x8 --labels label_map_k400.txt
    python examples/predict.py VIDEO --checkpoint runs/train/last.pth              # knows its model and classes

--labels: one class name per line, in class order.
"""

import argparse
from pathlib import Path

import torch

from vidload import VideoDataset, models


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="+")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--model", default="i3d_r50_32x2x1", help=", ".join(models.list_models()))
    parser.add_argument("--labels", type=Path, help="class names, one per line")
    parser.add_argument(
        "--views",
        choices=("val", "test"),
        default="test",
        help="one view, or all of the paper's (default: %(default)s)",
    )
    parser.add_argument("--clip", help="clip_len x frame_interval x num_clips (default: as trained)")
    parser.add_argument("--size", type=int, help="height and width of the training input (default: as trained)")
    args = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    content = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    model = models.create(**content.get("made", {"name": args.model}))
    models.load_checkpoint(model, args.checkpoint)
    model.to(device).eval()
    names = args.labels.read_text().splitlines() if args.labels else content.get("classes")
    if names is None:
        names = [f"class {number}" for number in range(model.num_classes)]
    if len(names) != model.num_classes:
        parser.error(f"{args.labels}: {len(names)} names for the {model.num_classes} classes of the model")

    size, clip = args.size or content.get("size"), args.clip or content.get("clip")
    options = model.recipe.dataset_options(args.views, size, clip)
    videos = VideoDataset([(video, -1) for video in args.video], **options)
    for i, video in enumerate(args.video):
        clips, _ = videos[i]
        (probabilities,) = model.predict(clips.unsqueeze(0).to(device), max_views=8)
        print(video)
        for probability, number in zip(*probabilities.topk(min(5, len(names))), strict=True):
            print(f"  {probability:6.1%}  {names[number]}")


if __name__ == "__main__":
    main()
