"""Train BMN on features with planted actions, and show that it finds them.

    python examples/train_bmn.py --out runs/bmn                    # synthetic; half a minute on 2 free cores
    python examples/train_bmn.py --annotations anet.json --features cuhk_mean_100 \\
        --temporal-dim 100 --feat-dim 400 --width 1 --epochs 9     # ActivityNet, as published

A synthetic video is noise in 16 channels; during an action three of them rise, plus one at its start and one at
its end. Expect, on the held-out videos, AR@1 0.32-0.34 (with two or three actions per video, one proposal cannot
find more), AR@100 0.94, AUC 92-93 and mAP 0.89-0.92; random segments get an AUC of 53-55. Writes results.json
(ActivityNet's format), bmn.pth and segments.png.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

import vidload
from vidload.models import bmn, localization
from vidload.models.localization_metrics import average_recall, mean_average_precision


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", help="JSON with subsets 'training' and 'validation' (default: synthetic)")
    parser.add_argument("--features", help="folder of feature files")
    parser.add_argument("--num-videos", type=int, default=240, help="number of synthetic videos (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/bmn"))
    parser.add_argument("--temporal-dim", type=int, default=48)
    parser.add_argument("--feat-dim", type=int, default=16)
    parser.add_argument(
        "--width",
        type=float,
        default=0.25,
        help="width of the hidden layers, relative to the published network (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=bmn.BMN.recipe.lr)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def write_synthetic(folder: Path, feat_dim: int, seed: int, num_videos: int) -> Path:
    """Feature files of videos of 60 to 300 snippets, and their annotations; a fifth is for validation."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    annotations = {}
    for v in range(num_videos):
        num_snippets = int(random.integers(60, 300))
        features = random.normal(size=(num_snippets, feat_dim))
        segments: list[list[float]] = []
        end = 0.0
        while len(segments) < 4:
            start = end + random.uniform(0.05, 0.35)
            end = start + random.uniform(0.06, 0.5)
            if end > 0.98:
                break
            segments.append([start, end])
            first, last = int(start * num_snippets), int(end * num_snippets)
            features[first:last, :3] += 1.5
            features[first : first + 3, 3] += 3.0
            features[last - 3 : last, 4] += 3.0
        np.save(folder / f"v{v:03}.npy", features.astype(np.float32))
        seconds = num_snippets * 16 / 25
        annotations[f"v{v:03}"] = {
            "duration_second": seconds,
            "duration_frame": num_snippets * 16,
            "feature_frame": num_snippets * 16,
            "subset": "validation" if v % 5 == 0 else "training",
            "annotations": [{"segment": [s * seconds, e * seconds], "label": "planted"} for s, e in segments],
        }
    path = folder / "annotations.json"
    path.write_text(json.dumps(annotations))
    return path


def predict(model: bmn.BMN, dataset: vidload.FeatureDataset, batch_size: int, device: str) -> dict[str, Any]:
    """Result entries of every video."""
    model.eval()
    results = {}
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=vidload.FeatureDataset.collate)
    for features, _, video_indices in loader:
        with torch.no_grad():
            outputs = [output.cpu() for output in model(features.to(device))]
        for video_index, *output in zip(video_indices.tolist(), *outputs, strict=True):
            video = dataset.videos[video_index]
            proposals = bmn.bmn_proposals(*output)
            results[video.name] = localization.detections(proposals, video.covered_seconds, bmn.BMN_SOFT_NMS)
    return results


def random_results(dataset: vidload.FeatureDataset, seed: int) -> dict[str, Any]:
    """100 random segments in every video: the baseline for the metrics."""
    random = np.random.default_rng(seed)
    return {
        video.name: [
            {"score": float(random.random()), "segment": np.sort(random.random(2) * video.duration_seconds)}
            for _ in range(100)
        ]
        for video in dataset.videos
    }


def plot(path: Path, dataset: vidload.FeatureDataset, results: dict[str, Any], num_videos: int = 12) -> None:
    """True segments above, the most confident predictions below, one row per video."""
    from matplotlib.figure import Figure  # no display is needed

    figure = Figure(figsize=(9, 0.55 * num_videos + 1), layout="constrained")
    axes = figure.subplots()
    videos = [video for video in dataset.videos if len(video.segments)][:num_videos]
    for row, video in enumerate(videos):
        for start, end in video.segments / video.duration_seconds:
            axes.barh(row - 0.2, end - start, left=start, height=0.3, color="tab:green")
        for found in results[video.name][: len(video.segments)]:
            start, end = (seconds / video.duration_seconds for seconds in found["segment"])
            axes.barh(row + 0.2, end - start, left=start, height=0.3, color="tab:blue", alpha=0.6)
    axes.set_yticks(range(len(videos)), [video.name for video in videos])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of the video", title="annotated (green) and predicted (blue) segments")
    figure.savefig(path, dpi=100)


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.annotations is None:
        args.features = args.out / "features"
        args.annotations = write_synthetic(args.features, args.feat_dim, args.seed, args.num_videos)
    options = {"temporal_dim": args.temporal_dim, "feat_dim": args.feat_dim}
    train_set, val_set = (
        vidload.FeatureDataset(args.annotations, args.features, subset=subset, on_error="substitute", **options)
        for subset in ("training", "validation")
    )
    loader = DataLoader(
        train_set, args.batch_size, shuffle=True, drop_last=True, collate_fn=vidload.FeatureDataset.collate
    )

    hidden = {name: int(width * args.width) for name, width in (("1d", 256), ("2d", 128), ("3d", 512))}
    model = bmn.BMN(**options, **{f"hidden_{name}": width for name, width in hidden.items()}).to(args.device)
    recipe = model.recipe
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], args.lr, weight_decay=recipe.weight_decay
    )
    milestones = [round(m / recipe.epochs * args.epochs) for m in recipe.milestones]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)

    started = time.perf_counter()
    for epoch in range(args.epochs):
        model.train()
        losses = []
        progress = tqdm(loader, desc=f"epoch {epoch + 1}/{args.epochs}", unit="batch")
        for features, segments, _ in progress:
            labels = bmn.bmn_labels(segments, args.temporal_dim)
            # The published loss is NaN for a batch in which no cell fits an action well; the intended one is not.
            loss = bmn.bmn_loss(model(features.to(args.device)), labels, sampling="intended").total
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            progress.set_postfix(loss=f"{np.mean(losses):.3f}")
        schedule.step()
    seconds = time.perf_counter() - started

    results = predict(model, val_set, args.batch_size, args.device)
    localization.write_results(args.out / "results.json", results)
    torch.save(model.state_dict(), args.out / "bmn.pth")
    plot(args.out / "segments.png", val_set, results)
    recall = average_recall(val_set.ground_truth(), results)
    chance = average_recall(val_set.ground_truth(), random_results(val_set, args.seed))
    precision = mean_average_precision(val_set.ground_truth(), results, per_class=False)
    print(f"trained on {len(train_set)} videos in {seconds:.0f} s; on {len(val_set)} held-out videos:")
    print("  ".join(f"AR@{k} {recall.at(k):.3f}" for k in (1, 5, 10, 100)), f" AUC {recall.auc:.1f}")
    print(
        "  ".join(f"AR@{k} {chance.at(k):.3f}" for k in (1, 5, 10, 100)),
        f" AUC {chance.auc:.1f} for random segments",
    )
    print(f"mAP at tIoU 0.5 {precision.mean[0]:.3f}, 0.75 {precision.mean[5]:.3f}, average {precision.average:.3f}")
    print(f"wrote results.json, bmn.pth and segments.png to {args.out}")


if __name__ == "__main__":
    main()
