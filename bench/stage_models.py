"""What the speed optimizations in models/ gain: a training step as it is usually written, and with each
optimization added.

    python bench/stage_models.py                      # about 3 minutes on 2 cores
    python bench/stage_models.py --model tsm_r50_1x1x8 --size 224 --batch-size 8 --device cuda --amp

In: random clips held in memory. Out: Markdown and bench/results/stage_models.json. "As usually written"
is the same network with plain nn.Conv3d, TSM's shift by slicing and concatenating, and SGD's loop over
the parameters. The steps of all variants are interleaved; CPU time, which other programs disturb less,
is shown next to wall time. For SlowFast, also the share of a step that its concatenations take.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timing
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidload import models
from vidload.models.layers import conv_unit, temporal_shift

CHOSEN = (conv_unit.Conv3d.forward, temporal_shift.temporal_shift)


def shift_as_usual(x: Tensor, num_segments: int) -> Tensor:
    x = x.view(-1, num_segments, *x.shape[1:])
    fold = x.shape[2] // 8
    following, previous, rest = x[:, :, :fold], x[:, :, fold : 2 * fold], x[:, :, 2 * fold :]
    following = torch.cat([following[:, 1:], torch.zeros_like(following[:, :1])], dim=1)
    previous = torch.cat([torch.zeros_like(previous[:, :1]), previous[:, :-1]], dim=1)
    return torch.cat([following, previous, rest], dim=2).flatten(0, 1)


AS_USUAL = (nn.Conv3d.forward, shift_as_usual)

VARIANTS: dict[str, tuple[tuple[Any, Any], dict[str, bool], bool]] = {  # layers, SGD's option, channels-last
    "as usually written": (AS_USUAL, {"foreach": False}, False),
    "layers": (CHOSEN, {"foreach": False}, False),
    "layers, foreach SGD": (CHOSEN, {"foreach": True}, False),
    "layers, fused SGD (default)": (CHOSEN, {"fused": True}, False),
    "the same, channels-last": (CHOSEN, {"fused": True}, True),
    "as usually written, fused, channels-last": (AS_USUAL, {"fused": True}, True),
}


def stepper(name: str, variant: str, args: argparse.Namespace) -> Callable[[], None]:
    layers, sgd, channels_last = VARIANTS[variant]
    torch.manual_seed(0)
    model = models.create(name).train()
    recipe = model.recipe
    clips = torch.randn(recipe.sample_shape(args.batch_size, args.size))
    if channels_last:
        model = model.to(memory_format=torch.channels_last if recipe.layout == "NVCTHW" else torch.channels_last_3d)
        clips = clips.movedim(-4, -1).contiguous().movedim(-1, -4)
    model, clips = model.to(args.device), clips.to(args.device)
    labels = torch.arange(args.batch_size, device=args.device)
    optimizer = torch.optim.SGD(model.param_groups(0.01, 1e-4), momentum=0.9, **sgd)

    def step() -> None:
        conv_unit.Conv3d.forward, temporal_shift.temporal_shift = layers
        with torch.autocast(args.device, torch.bfloat16, enabled=args.amp):
            loss = F.cross_entropy(model(clips), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if args.device == "cuda":
            torch.cuda.synchronize()

    return step


def concatenations(args: argparse.Namespace) -> Callable[[], None]:
    """Those of SlowFast 4x16x1 alone, forward and backward."""
    size, n = args.size // 4, args.batch_size
    maps = [(64, 16, size), (256, 64, size), (512, 128, size // 2), (1024, 256, size // 4)]
    pairs = [
        tuple(
            torch.randn(n, channels, 4, side, side, device=args.device, requires_grad=True) for channels in (slow, fast)
        )
        for slow, fast, side in maps
    ]
    gradients = [torch.randn(n, slow + fast, 4, side, side, device=args.device) for slow, fast, side in maps]

    def step() -> None:
        for pair, gradient in zip(pairs, gradients, strict=True):
            torch.autograd.grad(torch.cat(pair, dim=1), pair, gradient)
        if args.device == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=models.list_models(), metavar="NAME")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, help="torch threads on the CPU (default: all cores)")
    parser.add_argument("--output", type=Path, default=timing.RESULTS / "stage_models.json")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    names = args.model or ["tsm_r50_1x1x8", "i3d_r50_32x2x1", "slowfast_r50_4x16x1", "r2plus1d_r34_8x8x1"]
    result = {"machine": timing.machine(), "threads": torch.get_num_threads(), "batch_size": args.batch_size}
    result |= {"size": args.size, "device": args.device, "amp": args.amp, "models": {}}
    print(
        f"Training steps on {args.device}, batch {args.batch_size}, {args.size}x{args.size}, {result['threads']} threads\n"
    )
    for name in names:
        steppers = {variant: stepper(name, variant, args) for variant in VARIANTS}
        if name == "slowfast_r50_4x16x1":
            steppers["concatenations alone"] = concatenations(args)
        seconds: dict[str, list[float]] = {variant: [] for variant in steppers}
        cpu_seconds: dict[str, list[float]] = {variant: [] for variant in steppers}
        for number in range(args.steps + 1):
            for variant, step in steppers.items():
                started, cpu_started = time.perf_counter(), time.process_time()
                step()
                if number > 0:
                    seconds[variant].append(time.perf_counter() - started)
                    cpu_seconds[variant].append(time.process_time() - cpu_started)
        result["models"][name] = {"seconds": seconds, "cpu_seconds": cpu_seconds}
        usual = (
            statistics.median(seconds["as usually written"]),
            statistics.median(cpu_seconds["as usually written"]),
        )
        rows = []
        for variant in steppers:
            clock, cpu = statistics.median(seconds[variant]), statistics.median(cpu_seconds[variant])
            rows.append((variant, f"{clock:.3f}", f"{cpu:.3f}", f"{clock / usual[0]:.2f}", f"{cpu / usual[1]:.2f}"))
        print(timing.markdown_table((name, "s/iter", "CPU s/iter", "relative", "relative, CPU"), rows), "\n")
    timing.write_json(args.output, result)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
