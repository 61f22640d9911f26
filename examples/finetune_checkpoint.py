"""Fine-tunes a trained model on new classes: loads a checkpoint, replaces the head, trains a few steps.

    python examples/finetune_checkpoint.py CHECKPOINT train.txt --root videos --model tsm_r50_1x1x8

CHECKPOINT: the model's weights as published by MMAction2 or PySlowFast, torchvision's ImageNet
ResNet-50, or train_i3d.py's last.pth. The output file OUT can be passed to predict.py. For a full
training run with validation: train_i3d.py --checkpoint.
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from vidload import VideoDataset, VideoLoader, models


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("data", type=Path, help='lines "path label", or one folder per class')
    parser.add_argument("--root", default="", help="folder that a list's paths are relative to")
    parser.add_argument("--model", default="i3d_r50_32x2x1", help=", ".join(models.list_models()))
    parser.add_argument("--out", type=Path, default=Path("finetuned.pth"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--lr",
        type=float,
        default=0.01,
        help="learning rate of the head; the rest uses a tenth of it (default: %(default)s)",
    )
    parser.add_argument("--clip", help="clip_len x frame_interval x num_clips (default: the recipe's)")
    parser.add_argument("--size", type=int, help="height and width of the input (default: the recipe's)")
    args = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    # A file of train_i3d.py says how its model was created; others hold the model with Kinetics' 400 classes.
    made = torch.load(args.checkpoint, map_location="cpu", weights_only=True).get("made", {"name": args.model})
    model = models.create(**made)
    report = models.load_checkpoint(model, args.checkpoint)
    print(f"{args.checkpoint}: {report.num_loaded} weights ({report.source})")

    options = model.recipe.dataset_options("train", args.size, args.clip)
    load = VideoDataset.from_folder if args.data.is_dir() else VideoDataset.from_list
    train = load(args.data, **({} if args.data.is_dir() else {"root": args.root}), **options)
    loader = VideoLoader(train, args.batch_size, shuffle=True, drop_last=len(train) >= args.batch_size)

    num_classes = int(train.annotations.labels.max()) + 1
    model.reset_classifier(num_classes)
    model.freeze_bn(partial=False)  # a few steps on a few videos would only spoil its statistics
    model.to(device).train()
    groups = [
        {"params": [p for p in model.backbone.parameters() if p.requires_grad], "lr": args.lr / 10},
        {"params": model.cls_head.parameters(), "lr": args.lr},
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4, fused=True)

    batches = (batch for _ in iter(int, 1) for batch in loader)  # one epoch after the other
    bar = tqdm(islice(batches, args.steps), total=args.steps)
    for clips, labels in bar:
        loss = F.cross_entropy(model(clips.to(device, non_blocking=True)), labels.to(device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{loss.item():.3f}")

    content = {"model": model.state_dict(), "made": {**made, "num_classes": num_classes}}
    content |= {"classes": train.annotations.classes, "size": args.size, "clip": args.clip}
    torch.save(content, args.out)
    print(f"wrote {args.out}; try: python examples/predict.py VIDEO --checkpoint {args.out}")


if __name__ == "__main__":
    main()
