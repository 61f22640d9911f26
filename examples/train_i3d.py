"""Trains an action-recognition model on videos, from one CPU to many GPUs. Copy it and make it yours.

    python examples/train_i3d.py --train train.txt --val val.txt --root videos    # lines "path label"
    python examples/train_i3d.py --train videos/train --val videos/val            # one folder per class
    torchrun --nproc-per-node 8 examples/train_i3d.py --train ...                 # one process per GPU
    python examples/train_i3d.py --demo                                           # no data needed: makes its own

Clips, crops, learning rate and schedule follow the model's recipe unless an option overrides it; --recipe modern trains
as video transformers are trained (modern_recipe.py: RandAugment, MixUp, CutMix, AdamW; needs torchvision). With
--resume a run continues in mid-epoch from OUT/last.pth; on the CPU it ends with exactly the weights of an
uninterrupted run.
"""

import argparse
import contextlib
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import modern_recipe
import synthetic_clips
import torch
import torch.distributed as dist
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler, Subset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from vidload import VideoDataset, VideoLoader, models
from vidload.annotations import read_folder
from vidload.models.recognizer import Recognizer

RANK, WORLD_SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--train", type=Path, metavar="LIST_OR_DIR", help='lines "path label", or one folder per class')
    add("--val", type=Path, metavar="LIST_OR_DIR")
    add("--root", default="", help="folder that a list's paths are relative to")
    add("--out", type=Path, default=Path("runs/train"), help="checkpoint, logs, curves (default: %(default)s)")
    add("--model", default="i3d_r50_32x2x1", metavar="NAME", help=", ".join(models.list_models()))
    add("--recipe", choices=("paper", "modern"), default="paper", help="the model's own, or modern_recipe.py")
    add("--tiny", action="store_true", help="a narrow, shallow version of the model, for a CPU")
    add("--checkpoint", help="weights to start from: MMAction2, PySlowFast, torchvision or last.pth")
    add("--clip", help="clip_len x frame_interval x num_clips (default: the recipe's)")
    add("--size", type=int, help="height and width of the input (default: the recipe's)")
    add("--flip", type=float, help="flip probability; use 0 if classes distinguish left and right (default: 0.5)")
    add("--epochs", type=int, help="the schedule is scaled to this many (default: the recipe's)")
    add("--batch-size", type=int, help="videos per batch on each device (default: the recipe's)")
    add("--accumulate", type=int, default=1, help="batches whose gradients are accumulated in one step")
    add("--lr", type=float, help="learning rate (default: the recipe's, scaled to the number of videos per step)")
    add("--schedule", choices=("step", "cosine"), help="x0.1 at 40 %% and 80 %%, or down to 0 (default: the recipe's)")
    add("--warmup", type=int, metavar="EPOCHS", help="epochs of linear warm-up (default: the recipe's)")
    add("--views", choices=("val", "test"), default="val", help="validate on one view, or on all of the paper's")
    add("--amp", choices=("bf16", "fp16"), help="mixed precision")
    add("--compile", action="store_true")
    add("--channels-last", action="store_true", help="even where the recipe does not ask for it")
    add("--workers", type=int, help="decoding threads (default: all cores)")
    add("--seed", type=int, default=0)
    add("--save-every", type=int, default=500, metavar="STEPS")
    add("--resume", action="store_true", help="continue from OUT/last.pth if it exists")
    add("--stop-after", type=int, metavar="STEPS", help="save and exit after this many steps, to --resume later")
    add("--demo", action="store_true", help="synthetic clips, a tiny model: over 90 %% accuracy (chance: 25 %%)")
    add("--budget", choices=("full", "short"), default="full", help="number of epochs of --demo")
    args = parser.parse_args(argv)
    if args.demo:
        epochs, clips = 40 if args.budget == "full" else 20, args.out / "clips"
        parser.set_defaults(
            model="i3d_r50_heavy_8x8x1",
            tiny=True,
            clip="8x2x1",
            size=48,
            flip=0.0,
            batch_size=16,
            lr=0.02,
            schedule="cosine",
            epochs=epochs,
            train=clips / "train",
            val=clips / "val",
        )
        args = parser.parse_args(argv)
    elif not (args.train and args.val):
        parser.error("--train and --val are needed (or --demo)")
    return args


def dataset(source: Path, split: str, args: argparse.Namespace, classes: tuple[str, ...] | None = None) -> VideoDataset:
    """A VideoDataset on a list or a folder, with the recipe's clips and crops."""
    options = models.get_recipe(args.model).dataset_options(split, args.size, args.clip)
    if args.flip is not None and split == "train":
        options["transform"] = dataclasses.replace(options["transform"], flip=args.flip)
    if args.recipe == "modern" and split == "train":
        options |= modern_recipe.dataset_options(options["transform"])
    if source.is_dir():
        return VideoDataset(read_folder(source, classes=classes), seed=args.seed, **options)
    return VideoDataset.from_list(source, args.root, seed=args.seed, **options)


@torch.inference_mode()
def validate(model: Recognizer, loader: VideoLoader, device: torch.device, amp: torch.autocast) -> tuple[float, float]:
    """Top-1 and top-5 accuracy over all ranks."""
    model.eval()
    counts = torch.zeros(3, dtype=torch.float64, device=device)  # top-1 correct, top-5 correct, total
    for clips, labels in loader:
        with amp:
            scores = model.predict(clips.to(device, non_blocking=True), max_views=8)
        hits = scores.topk(min(5, scores.shape[1])).indices == labels.to(device)[:, None]
        counts += torch.stack([hits[:, 0].sum(), hits.sum(), torch.tensor(len(labels), device=device)])
    if WORLD_SIZE > 1:
        dist.all_reduce(counts)
    top1, top5 = (counts[:2] / counts[2]).tolist()
    return top1, top5


def plot(history: dict[str, list[float]], path: Path) -> None:
    figure = Figure((9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(history["step"], history["loss"])
    left.set(xlabel="step", ylabel="training loss")
    right.plot(history["val_step"], history["top1"], marker=".")
    right.set(xlabel="step", ylabel="validation accuracy, top-1", ylim=(0, 1.02))
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.recipe == "modern":
        modern_recipe.check()
    args.out.mkdir(parents=True, exist_ok=True)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    torch.manual_seed(args.seed)
    if args.tiny:
        torch.set_num_threads(1)  # threads cost so small a network more than they gain
    if cuda:
        torch.cuda.set_device(device)
    if args.demo and RANK == 0:
        synthetic_clips.write_clips(args.train, 60, seed=0)
        synthetic_clips.write_clips(args.val, 15, seed=1)
    if WORLD_SIZE > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
        dist.barrier()

    # Data
    recipe = models.get_recipe(args.model)
    train = dataset(args.train, "train", args)
    val = dataset(args.val, args.views, args, train.annotations.classes)
    num_classes = int(max(train.annotations.labels.max(), val.annotations.labels.max())) + 1
    batch_size = args.batch_size or recipe.training.batch_size
    workers = {"num_workers": args.workers, "pin_memory": cuda}
    sampler: DistributedSampler[Any] | None = DistributedSampler(train, seed=args.seed) if WORLD_SIZE > 1 else None
    mixing = modern_recipe.batch_transform(num_classes, device) if args.recipe == "modern" else None
    loader = VideoLoader(train, batch_size, sampler is None, sampler, drop_last=True, batch_transform=mixing, **workers)
    share = Subset(val, range(RANK, len(val), WORLD_SIZE))  # every video once, whatever the number of ranks
    val_loader = VideoLoader(share, batch_size if args.views == "val" else 1, **workers)

    # Model
    tiny = {"width": 8, "depths": (1, 1, 1, 1), "dropout": 0.2} if args.tiny else {}
    made = {"name": args.model, "num_classes": num_classes, **tiny}  # saved with the weights
    model = models.create(**made)
    if args.checkpoint:
        print(models.load_checkpoint(model, args.checkpoint))
    memory_format = recipe.channels_last if args.channels_last else recipe.memory_format(device.type)
    model = model.to(device, memory_format=memory_format)
    trained: Any = DistributedDataParallel(model, [device] if cuda else None) if WORLD_SIZE > 1 else model
    trained = torch.compile(trained) if args.compile else trained

    # Recipe: its learning rate is for its own number of videos per step
    training = recipe.training.stretched(args.epochs or recipe.training.epochs)
    training = modern_recipe.schedule(training) if args.recipe == "modern" else training
    schedule = {} if args.warmup is None else {"warmup_epochs": args.warmup}
    if args.schedule:
        schedule["milestones"] = (0.4 * training.epochs, 0.8 * training.epochs) if args.schedule == "step" else ()
    training = dataclasses.replace(training, **schedule)
    steps_per_epoch = len(loader) // args.accumulate
    if steps_per_epoch == 0:
        raise SystemExit(f"{args.train}: {len(train)} videos are too few for one step; reduce --batch-size")
    share_of_step = batch_size * args.accumulate * WORLD_SIZE / (training.batch_size * training.num_gpus)
    groups = model.param_groups(args.lr or training.lr * share_of_step, training.weight_decay)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, momentum=training.momentum, fused=True)
    if args.recipe == "modern":
        optimizer = modern_recipe.optimizer(groups)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: training.lr_factor(n / steps_per_epoch))
    amp = torch.autocast(device.type, torch.float16 if args.amp == "fp16" else torch.bfloat16, bool(args.amp))
    scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "fp16")

    # Resume where it stopped
    last, step = args.out / "last.pth", 0
    history: dict[str, list[float]] = {"step": [], "loss": [], "val_step": [], "top1": []}
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler, "loader": loader}
    if args.resume and last.exists():
        state = torch.load(last, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        step, history = state["step"], state["history"]

    def save() -> None:
        if RANK == 0:
            content = {"step": step, "history": history, "made": made}
            content |= {name: part.state_dict() for name, part in parts.items()}
            content |= {"classes": train.annotations.classes, "size": args.size, "clip": args.clip}
            torch.save(content, last.with_suffix(".part"))
            last.with_suffix(".part").replace(last)  # a run that dies while saving leaves the previous file intact

    writer = SummaryWriter(args.out, purge_step=step) if RANK == 0 else None

    # Training
    last_step = training.epochs * steps_per_epoch
    stop = min(last_step, step + (args.stop_after or last_step))
    while step < stop:
        epoch, first_step, right, seen = step // steps_per_epoch, step, 0, 0
        end = (epoch + 1) * steps_per_epoch
        trained.train()
        started, waited = time.perf_counter(), loader.stats()["wait_seconds"]
        bar = tqdm(desc=f"epoch {epoch + 1}/{training.epochs}", total=steps_per_epoch, initial=step % steps_per_epoch,
                   disable=RANK > 0)  # fmt: skip
        for number, (clips, labels) in enumerate(loader, 1):
            if step == end:
                continue  # too few batches left for a step
            if number % args.accumulate == 1 % args.accumulate:
                torch.manual_seed(args.seed + step * WORLD_SIZE + RANK)  # for dropout, so its state need not be saved
            clips, labels = clips.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            is_step = number % args.accumulate == 0
            with trained.no_sync() if WORLD_SIZE > 1 and not is_step else contextlib.nullcontext():
                with amp:
                    logits = trained(clips)
                    loss = F.cross_entropy(logits, labels)
                scaler.scale(loss / args.accumulate).backward()
            classes = labels.argmax(1) if labels.ndim == 2 else labels
            right, seen = right + (logits.argmax(1) == classes).sum(), seen + len(labels)
            if not is_step:
                continue
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()
            step += 1
            bar.update()
            if step % 10 == 0 or step == end:  # reading the loss waits for the device
                seconds = time.perf_counter() - started
                values = {"loss": loss.item(), "top1": right.item() / seen, "s/iter": seconds / (step - first_step),
                          "waiting": (loader.stats()["wait_seconds"] - waited) / seconds}  # fmt: skip
                bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()})
                history["step"].append(step)
                history["loss"].append(values["loss"])
                if writer:
                    for name, value in {**values, "lr": scheduler.get_last_lr()[0]}.items():
                        writer.add_scalar(f"train/{name}", value, step)
            if step < end and (step % args.save_every == 0 or step == stop):
                save()
            if step == stop < end:
                break
        bar.close()
        if step < end:
            break  # stopped in mid-epoch
        top1, top5 = validate(model, val_loader, device, amp)
        history["val_step"], history["top1"] = [*history["val_step"], step], [*history["top1"], top1]
        save()
        if writer:
            print(f"validation: top-1 {top1:.1%}, top-5 {top5:.1%} of {len(val)} videos")
            plot(history, args.out / "curves.png")
            writer.add_scalar("val/top1", top1, step)
            writer.add_scalar("val/top5", top5, step)
    if WORLD_SIZE > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
