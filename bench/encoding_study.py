"""Which encoding loads fastest per clip, and at how many bytes? The study behind `vidload prepare`'s
profiles.

    python bench/encoding_study.py                         # half an hour the first time, on 2 cores
    python bench/encoding_study.py --only h264             # only rows whose name contains this

In: the first seconds of some clips of build_data.py (or --data DIR). Every candidate encodes them at the
quality that reaches the same luma PSNR. Out: for each, its bytes relative to JPEG frames (`-q:v 2`), and the packets
and CPU milliseconds that a training clip costs: Markdown on stdout, bench/results/encoding_study.{md,
json,png}. Encoded files are kept in bench/data/encoding_study and reused. Times are CPU time of one thread, with
every candidate in turn in each round.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import build_data
import numpy as np
import timing
from tqdm import tqdm

from vidload import FrameFolderDataset, VideoDataset, VideoLoader, VideoReader, transforms
from vidload.prepare import CLIP_SPECS, PROFILES, EncodeSettings
from vidload.prepare.encode import encode_video
from vidload.prepare.frames import extract_frames
from vidload.prepare.settings import ENCODERS, Encoder
from vidload.sampling import ClipSpec, segments
from vidload.system.cores import available_cores
from vidload.system.random import sample_rng

PSNR = PROFILES["balanced"].psnr
CLIPS_PER_FILE = 4  # in a round


# --- encoders that vidload prepare does not offer


def mpeg_options(settings: EncodeSettings) -> dict[str, str]:
    """FFmpeg's own MPEG-2 and MPEG-4 part 2: rate-distortion decisions, B frames of the same quality as other frames."""
    num_b_frames = min(settings.b_frames, max(settings.gop - 2, 0))
    return {
        "g": str(settings.gop), "bf": str(num_b_frames), "sc_threshold": "1000000000", "flags": "+cgop", "strict": "unofficial",
        "mbd": "rd", "trellis": "1", "b_qfactor": "1.0", "b_qoffset": "0.0", "i_qfactor": "1.0",
    }  # fmt: skip


def mpeg2_options(settings: EncodeSettings) -> dict[str, str]:
    return mpeg_options(settings) | {"intra_vlc": "1", "dc": "10"}


ENCODERS |= {
    "mpeg2": Encoder("mpeg2video", "qscale", 1, 31, 1, 5, 1.2, "mpeg2video", mpeg2_options),
    "mpeg4": Encoder("mpeg4", "qscale", 1, 31, 1, 5, 1.2, "mpeg4", mpeg_options),
}


# --- what is tried


@dataclass(frozen=True)
class Candidate:
    """`profile`: the profile of vidload prepare that uses this encoding."""

    name: str
    settings: EncodeSettings
    profile: str = ""


def changed(settings: EncodeSettings, **changes: Any) -> EncodeSettings:
    """The settings with some of the encoder's parameters replaced: names as x264 or x265 know them, "_" for "-"."""
    key = {"h264": "x264-params", "hevc": "x265-params", "av1": "svtav1-params"}[settings.codec]
    options = ENCODERS[settings.codec].options(settings)
    parameters = dict(pair.split("=", 1) for pair in options[key].split(":"))
    parameters |= {name.replace("_", "-"): str(value) for name, value in changes.items()}
    text = ":".join(f"{name}={value}" for name, value in parameters.items())
    return dataclasses.replace(settings, extra=((key, text),))


def h264(gop: int, b_frames: int = 0, preset: str = "", **changes: Any) -> EncodeSettings:
    settings = EncodeSettings(gop=gop, b_frames=b_frames, psnr=PSNR, preset=preset)
    return changed(settings, **changes) if changes else settings


def other(codec: str, gop: int, b_frames: int = 0, **options: Any) -> EncodeSettings:
    return EncodeSettings(codec=codec, gop=gop, b_frames=b_frames, psnr=PSNR, **options)


X264_DEFAULTS: dict[str, Any] = dict(
    cabac=1, no_deblock=0, ref=3, weightp=2, weightb=1, aq_mode=1, psy=1, mbtree=1, rc_lookahead=40
)
CANDIDATES = (
    # structure: how far a frame is from its references
    Candidate("h264 keyframes only", h264(1)),
    *(Candidate(f"h264 chain {gop}", h264(gop)) for gop in (2, 3, 4, 6, 8, 16)),
    Candidate("h264 star 3", h264(3, 1)),
    Candidate("h264 star 4", PROFILES["balanced"], "balanced"),
    Candidate("h264 star 6", h264(6, 4)),
    Candidate("h264 star 8", h264(8, 6)),
    Candidate("h264 star 16", h264(16, 14)),
    Candidate("h264 8, b between", h264(8, 1)),
    Candidate("h264 8, bbb between", h264(8, 3)),
    Candidate("h264 16, bbb between", PROFILES["smallest"], "smallest"),
    Candidate("h264 16, 7 b between", h264(16, 7)),
    Candidate("h264 32, bbb between", h264(32, 3)),
    Candidate("h264 16, pyramid of 3", h264(16, 3, b_pyramid="strict", ref=2)),
    Candidate("h264 8, pyramid of 7", h264(8, 6, b_pyramid="normal", ref=4)),
    # tools, in a star of 4
    Candidate("h264 star 4, CABAC", h264(4, 2, cabac=1)),
    Candidate("h264 star 4, loop filter", h264(4, 2, no_deblock=0)),
    Candidate("h264 star 4, x264 defaults", h264(4, 2, **X264_DEFAULTS)),
    Candidate("h264 star 4, no 8x8 transform", changed(h264(4, 2), **{"8x8dct": 0})),
    Candidate("h264 star 4, 16x16 partitions", h264(4, 2, partitions="none")),
    Candidate("h264 star 4, direct none", h264(4, 2, direct="none")),
    Candidate("h264 star 4, preset veryfast", h264(4, 2, "veryfast")),
    Candidate("h264 star 4, preset slower", h264(4, 2, "slower")),
    Candidate("h264 star 4, finer P and B", h264(4, 2, ipratio=1.0, pbratio=1.0)),
    Candidate("h264 star 4, coarser P and B", h264(4, 2, ipratio=1.6, pbratio=1.5)),
    # other codecs
    Candidate("mjpeg", PROFILES["fastest"], "fastest"),
    Candidate("mpeg2 keyframes only", other("mpeg2", 1)),
    Candidate("mpeg2 star 3", other("mpeg2", 3, 1)),
    Candidate("mpeg2 star 4", other("mpeg2", 4, 2)),
    Candidate("mpeg4 keyframes only", other("mpeg4", 1)),
    Candidate("mpeg4 chain 2", other("mpeg4", 2)),
    Candidate("mpeg4 chain 4", other("mpeg4", 4)),
    Candidate("mpeg4 star 3", other("mpeg4", 3, 1)),
    Candidate("mpeg4 star 4", other("mpeg4", 4, 2)),
    Candidate("mpeg4 star 6", other("mpeg4", 6, 4)),
    Candidate("mpeg4 8, bbb between", other("mpeg4", 8, 3)),
    Candidate("mpeg4 16, bbb between", other("mpeg4", 16, 3)),
    Candidate("mpeg4 star 4, four vectors", other("mpeg4", 4, 2, extra=(("flags", "+cgop+mv4"),))),
    Candidate("mpeg4 star 4, MPEG matrices", other("mpeg4", 4, 2, extra=(("mpeg_quant", "1"),))),
    Candidate("mpeg4 star 4, coarser B", other("mpeg4", 4, 2, extra=(("b_qfactor", "1.25"),))),
    Candidate("hevc keyframes only", other("hevc", 1)),
    Candidate("hevc star 4", other("hevc", 4, 2)),
    Candidate("hevc 16, bbb between", other("hevc", 16, 3)),
    Candidate("vp9 keyframes only", other("vp9", 1)),
    Candidate("vp9 chain 4", other("vp9", 4)),
    Candidate("av1 keyframes only", other("av1", 1)),
    Candidate("av1 chain 4", other("av1", 4)),
    Candidate("av1 8, temporal layers", changed(other("av1", 8), pred_struct=2, hierarchical_levels=2, lookahead=0)),
)


# --- encoding


@dataclass
class Encoded:
    """A candidate's files and their costs."""

    name: str
    paths: list[str]
    num_bytes: int
    jpeg_bytes: int
    psnr: float  # of the worst file
    packets: dict[str, float] = dataclasses.field(default_factory=dict)
    milliseconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # one per round

    def best(self, clip: str) -> float:
        """The minimum over the rounds: disturbances make a round slower, never faster."""
        return min(self.milliseconds[clip])

    @property
    def geometric_mean(self) -> float:
        return timing.geometric_mean([self.best(clip) for clip in self.milliseconds])


def encode_one(source: str, settings: EncodeSettings, num_frames: int, path: Path) -> dict[str, Any] | str:
    """What encode_video returns, stored next to the file; or why it failed."""
    log = path.with_suffix(".json")
    key = repr((source, settings, ENCODERS[settings.codec].options(settings), num_frames))
    if log.exists():
        known = json.loads(log.read_text())
        if known["key"] == key:
            return dict(known["video"])
    try:
        video = dataclasses.asdict(encode_video(source, path, settings, max_frames=num_frames))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    log.write_text(json.dumps({"key": key, "video": video}))
    return video


def encode_all(
    sources: dict[str, str], candidates: list[Candidate], num_frames: int, work: Path, jobs: int
) -> tuple[list[Encoded], dict[str, str]]:
    """The candidates that could be encoded, and why the rest could not. `sources`: name -> path."""
    paths = {}
    for candidate in candidates:
        folder = work / "".join(c if c.isalnum() else "_" for c in candidate.name)
        folder.mkdir(parents=True, exist_ok=True)
        paths[candidate.name] = [folder / f"{name}.mp4" for name in sources]
    made, failed = [], {}
    with (
        ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool,
        tqdm(total=len(candidates) * len(sources), unit="file", disable=None) as bar,
    ):
        running = {
            candidate.name: [
                pool.submit(encode_one, source, candidate.settings, num_frames, path)
                for source, path in zip(sources.values(), paths[candidate.name], strict=True)
            ]
            for candidate in candidates
        }
        for name, futures in running.items():
            results = []
            for future in futures:
                results.append(future.result())
                bar.update()
            errors = [result for result in results if isinstance(result, str)]
            if errors:
                failed[name] = errors[0]
                continue
            videos = [result for result in results if not isinstance(result, str)]
            made.append(
                Encoded(
                    name,
                    [str(path) for path in paths[name]],
                    num_bytes=sum(video["num_bytes"] for video in videos),
                    jpeg_bytes=sum(video["jpeg_bytes"] for video in videos),
                    psnr=min(video["psnr"] for video in videos),
                )
            )
    return made, failed


def jpeg_frames(sources: dict[str, str], work: Path, jpeg_bytes: int) -> Encoded:
    """The same frames as JPEG files, through vidload: the baseline for all candidates."""
    folders = []
    for name, source in sources.items():
        folder = work / "jpeg_frames" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            extract_frames(source, folder, EncodeSettings(codec="mjpeg", gop=1, crf=2))
        folders.append(f"{folder}")
    return Encoded("JPEG frames, -q:v 2", folders, jpeg_bytes, jpeg_bytes, math.nan)


# --- timing


def clip_loader(paths: list[str], clip: str, num_frames: int) -> VideoLoader:
    options: dict[str, Any] = {"clip": clip, "transform": transforms.random_resized_crop(224), "seed": 0}
    if Path(paths[0]).is_dir():
        dataset: Any = FrameFolderDataset([(path, num_frames, 0) for path in paths] * CLIPS_PER_FILE, **options)
    else:
        dataset = VideoDataset([(path, 0) for path in paths] * CLIPS_PER_FILE, **options)
    return VideoLoader(dataset, batch_size=4, num_workers=0)  # small: all candidates' batches are in memory at once


def count_packets(paths: list[str], clip: str) -> float:
    """Mean number of packets decoded per clip."""
    counts = []
    for path in paths:
        with VideoReader(path) as reader:
            for number in range(32):
                rng = sample_rng(0, 0, number)
                frames = segments(reader.num_frames, reader.average_fps, ClipSpec.parse(clip), rng)
                counts.append(reader.plan(np.unique(frames)).num_packets_decoded)
    return statistics.fmean(counts)


def measure(rows: list[Encoded], num_frames: int, num_rounds: int) -> None:
    for clip in CLIP_SPECS:
        loaders = {row.name: clip_loader(row.paths, clip, num_frames) for row in rows}
        for row in rows:
            spec = ClipSpec.parse(clip)
            is_frames = Path(row.paths[0]).is_dir()
            row.packets[clip] = spec.clip_len * spec.num_clips if is_frames else count_packets(row.paths, clip)
            run_epoch(loaders[row.name], 0)  # scans the files
        for round_number in range(num_rounds):
            for row in rows:
                row.milliseconds.setdefault(clip, []).append(run_epoch(loaders[row.name], 1 + round_number))
        print(f"{clip}: {num_rounds} rounds", flush=True)


def run_epoch(loader: VideoLoader, epoch: int) -> float:
    """CPU milliseconds per clip."""
    loader.set_epoch(epoch)
    start = time.process_time()
    for _ in loader:
        pass
    num_clips: int = len(loader.dataset)  # type: ignore[arg-type]
    return (time.process_time() - start) / num_clips * 1e3


# --- the result


def report(rows: list[Encoded], failed: dict[str, str], args: argparse.Namespace) -> str:
    about = timing.machine()
    jpeg = rows[0]
    header = ["encoding", "of JPEG bytes", "worst PSNR", *(f"{clip}, packets" for clip in CLIP_SPECS)]
    header += [f"{clip}, ms" for clip in CLIP_SPECS] + ["mean ms", "speed of JPEG"]
    table = []
    for row in rows:
        psnr = "" if math.isnan(row.psnr) else f"{row.psnr:.1f}"
        cells = [row.name, f"{row.num_bytes / row.jpeg_bytes:.3f}", psnr]
        cells += [f"{row.packets[clip]:.1f}" for clip in CLIP_SPECS]
        cells += [f"{row.best(clip):.2f}" for clip in CLIP_SPECS]
        table.append([*cells, f"{row.geometric_mean:.2f}", f"{jpeg.geometric_mean / row.geometric_mean:.2f}x"])
    lines = [
        f"{about['cpu']}, one thread, CPU milliseconds per clip, best of {args.rounds} rounds; load at start "
        f"{about['load_at_start']}. {args.num_videos} videos, {args.num_frames} frames of each, every one at {PSNR:g} dB or more.",
        "",
        timing.markdown_table(header, table),
    ]
    lines += [f"\n{name} could not be encoded: {why}" for name, why in failed.items()]
    return "\n".join(lines) + "\n"


COLORS = {
    "JPEG": "#000000",
    "h264": "#d62728",
    "mjpeg": "#1f77b4",
    "mpeg2": "#2ca02c",
    "mpeg4": "#98df8a",
    "hevc": "#9467bd",
    "vp9": "#ff7f0e",
    "av1": "#8c564b",
}


def draw(rows: list[Encoded], path: Path) -> None:
    """Time against bytes, with the Pareto front."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    points = {row.name: (row.num_bytes / row.jpeg_bytes, row.geometric_mean) for row in rows}
    front = {
        name
        for name, (share, ms) in points.items()
        if not any(s <= share and m <= ms and (s, m) != (share, ms) for s, m in points.values())
    }
    profiles = {candidate.name: candidate.profile for candidate in CANDIDATES if candidate.profile}
    for family, color in COLORS.items():
        chosen = [point for name, point in points.items() if name.split()[0] == family]
        if chosen:
            shares, milliseconds = zip(*chosen, strict=True)
            axes.scatter(shares, milliseconds, color=color, label=family, s=28)
    placed: list[tuple[float, float]] = []
    for name in (*profiles, rows[0].name, *sorted(front), *points):
        share, ms = points.get(name, (math.nan, math.nan))
        near = [abs(math.log(share / s)) < 0.45 and abs(math.log(ms / m)) < 0.045 for s, m in placed]
        if math.isnan(share) or any(near):
            continue  # not among these rows, or its label would overlap another
        placed.append((share, ms))
        text, weight = (f"{name} = {profiles[name]}", "bold") if name in profiles else (name, "normal")
        axes.annotate(text, (share, ms), xytext=(4, 4), textcoords="offset points", fontsize=7, fontweight=weight)
    axes.plot(*zip(*sorted(points[name] for name in front), strict=True), color="#888888", linewidth=0.8, zorder=0)
    timing.log_scale(axes, (0.05, 0.1, 0.2, 0.5, 1), (3, 5, 10, 20))
    axes.set_xlabel("bytes, relative to JPEG frames")
    axes.set_ylabel("CPU ms per clip, geometric mean of five specs")
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with your own videos (default: those of build_data.py)")
    parser.add_argument("--num-videos", type=int, default=6, help="default: %(default)s")
    parser.add_argument("--num-frames", type=int, default=150, help="frames of each video (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--only", nargs="+", default=[""], help="only candidates whose name contains one of these")
    parser.add_argument(
        "--work",
        type=Path,
        default=build_data.DATA / "encoding_study",
        help="folder for the encoded files (default: bench/data/encoding_study)",
    )
    parser.add_argument("--jobs", type=int, default=available_cores(), help="encoding processes (default: the cores)")
    parser.add_argument("--output", type=Path, default=timing.RESULTS / "encoding_study", help="default: %(default)s.*")
    args = parser.parse_args()
    root = args.data or build_data.build()[250]
    chosen = build_data.videos_in(root, args.num_videos)
    args.num_videos = len(chosen)
    sources = {
        "_".join(Path(path).resolve().relative_to(root.resolve()).with_suffix("").parts): path for path in chosen
    }
    candidates = [c for c in CANDIDATES if any(text in c.name for text in args.only)]
    if not candidates:
        parser.error(
            f"--only {' '.join(args.only)}: matches no candidate; the candidates are {', '.join(c.name for c in CANDIDATES)}"
        )
    encoded, failed = encode_all(sources, candidates, args.num_frames, args.work, args.jobs)
    if not encoded:
        raise SystemExit("\n".join(f"{name} could not be encoded: {why}" for name, why in failed.items()))
    rows = [jpeg_frames(sources, args.work, encoded[0].jpeg_bytes), *encoded]
    measure(rows, args.num_frames, args.rounds)
    text = report(rows, failed, args)
    print("\n" + text)
    timing.write_json(args.output.with_suffix(".json"), [dataclasses.asdict(row) for row in rows])
    args.output.with_suffix(".md").write_text(text)
    draw(rows, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
