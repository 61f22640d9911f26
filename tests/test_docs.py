"""The pages of docs/ say what is true: their code runs, their commands parse, the messages that they explain exist, every public name is there."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pages
import pytest
import torch

import vidload
from vidload import cli
from vidload.transforms import random_resized_crop

MARKS = {"needs cuda": pytest.mark.needs_cuda, "needs dali": pytest.mark.needs_dali}


@pytest.fixture
def place(video, tmp_path: Path, monkeypatch) -> Path:
    """A folder, the current one, as the pages assume it: eight videos in videos/, and train.txt that lists them."""
    (tmp_path / "videos").mkdir()
    for number in range(8):
        shutil.copyfile(video("h264"), tmp_path / "videos" / f"{number}.mp4")
    (tmp_path / "train.txt").write_text("".join(f"{number}.mp4 {number}\n" for number in range(8)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names_of(place: Path) -> dict[str, Any]:
    """What a page may use without defining it."""
    train = vidload.VideoDataset.from_list(
        place / "train.txt", root="videos", clip="2x1x1", transform=random_resized_crop(16), seed=0
    )
    return {"vidload": vidload, "torch": torch, "train": train, "dataset": train}


def run(page: str, block: pages.Block, names: dict[str, Any]) -> None:
    code = "\n" * (block.line - 1) + block.code  # so that a traceback names the page's line
    exec(compile(code, str(pages.DOCS / page), "exec", dont_inherit=True), names)


def plain_blocks(page: str) -> list[pages.Block]:
    return [block for block in pages.blocks(page, "python") if not block.mark]


# ---- code


@pytest.mark.parametrize(
    "page", [page for page in pages.PAGES if plain_blocks(page) and page not in ("datasets.md", "training.md")]
)
def test_the_code_of_a_page_runs(page, place):
    names = names_of(place)
    for block in plain_blocks(page):
        run(page, block, names)


def special_blocks() -> list[Any]:
    return [
        pytest.param(page, block, id=f"{page}:{block.line}", marks=MARKS.get(block.mark, ()))
        for page in pages.PAGES
        for block in pages.blocks(page, "python")
        if block.mark
    ]


@pytest.mark.parametrize("page, block", special_blocks())
def test_a_block_that_needs_more_runs_where_there_is_more(page, block, place):
    if block.mark not in MARKS:
        assert block.mark == "outline" or (pages.ROOT / block.mark).is_file(), f"{block.mark!r}: nothing is known by it"
        pytest.skip(f"an outline: {page}" if block.mark == "outline" else f"{block.mark} runs it")
    names = names_of(place)
    for earlier in plain_blocks(page):
        if earlier.line < block.line:
            run(page, earlier, names)
    run(page, block, names)


# ---- dataset recipes, on miniature annotation files

ANNOTATIONS = {
    "kinetics/train.csv": "label,youtube_id,time_start,time_end,split\n"
    "archery,aaaaaaaaaaa,10,20,train\nzumba,bbbbbbbbbbb,0,10,train\nbowling,gone_______,0,10,train\n",
    "kinetics/validate.csv": "label,youtube_id,time_start,time_end,split\nzumba,ccccccccccc,5,15,validate\n",
    "sthv2/labels.json": '{"Holding something": "1", "Pulling something from left to right": "0"}',
    "sthv2/train.json": '[{"id": "7", "label": "holding a cup", "template": "Holding [something]", "placeholders": ["a cup"]},'
    ' {"id": "9", "label": "pulling a cup from left to right", "template": "Pulling [something] from left to right",'
    ' "placeholders": ["a cup"]}]',
    "ucf101/classInd.txt": "1 ApplyEyeMakeup\n2 YoYo\n",
    "ucf101/trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\nYoYo/v_YoYo_g25_c05.avi 2\n",
    "ucf101/testlist01.txt": "YoYo/v_YoYo_g01_c01.avi\n",
    "hmdb51/testTrainMulti_7030_splits/brush_hair_test_split1.txt": "a_brush_hair_f_0.avi 1 \nb_brush_hair_f_0.avi 2 \n",
    "hmdb51/testTrainMulti_7030_splits/wave_test_split1.txt": "(c)!_wave_f_0.avi 0 \nd_wave_f_0.avi 1 \n",
    "diving48/Diving48_V2_train.json": '[{"vid_name": "-mm_00155", "label": 0, "start_frame": 0, "end_frame": 48},'
    ' {"vid_name": "_8V_00001", "label": 47, "start_frame": 0, "end_frame": 70}]',
    "activitynet/activity_net.v1-3.min.json": '{"database": {"x-1": {"subset": "training", "duration": 1.9, "annotations":'
    ' [{"segment": [0.5, 2.4], "label": "Zumba"}, {"segment": [1.0, 1.0], "label": "Archery"}]}, "x-2": {"subset":'
    ' "validation", "duration": 1.9, "annotations": [{"segment": [0, 1], "label": "Bowling"}]}, "x-3": {"subset":'
    ' "testing", "duration": 1.9, "annotations": []}}}',
    "ego4d/annotations/fho_lta_train.json": '{"clips": [{"clip_uid": "u-1", "action_clip_start_sec": 0.2,'
    ' "action_clip_end_sec": 0.9, "verb_label": 3, "noun_label": 8}, {"clip_uid": "u-1", "action_clip_start_sec": 1.0,'
    ' "action_clip_end_sec": 1.7, "verb_label": 1, "noun_label": 5}]}',
}
VIDEOS = (
    *("kinetics/train/archery/aaaaaaaaaaa_000010_000020.mp4", "kinetics/train/zumba/bbbbbbbbbbb_000000_000010.mp4"),
    *("kinetics/val/zumba/ccccccccccc_000005_000015.mp4", "sthv2/videos/7.webm", "sthv2/videos/9.webm"),
    "ucf101/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
    "ucf101/UCF-101/YoYo/v_YoYo_g25_c05.avi",
    *("hmdb51/videos/brush_hair/a_brush_hair_f_0.avi", "hmdb51/videos/wave/d_wave_f_0.avi"),
    *("diving48/rgb/-mm_00155.mp4", "diving48/rgb/_8V_00001.mp4", "activitynet/videos/v_x-1.mkv"),
    "ego4d/clips/u-1.mp4",
)


@pytest.fixture
def recipes(place, video) -> dict[str, Any]:
    """What the page on datasets has made: its names, and in "datasets" the training set of each recipe."""
    for name, text in ANNOTATIONS.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    for name in VIDEOS:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).symlink_to(video("h264"))
    Path("features").mkdir()
    import numpy as np

    np.save("features/v_x-1.npy", np.zeros((5, 400), np.float32))
    names: dict[str, Any] = {"datasets": []}
    for block in plain_blocks("datasets.md"):
        run("datasets.md", block, names)
        if "train" in names:
            names["datasets"].append(names.pop("train"))
    return names


def test_the_recipes_of_the_datasets_page_read_the_published_files(recipes):
    assert Path("sthv2_train.txt").read_text() == "7.webm 1\n9.webm 0\n"
    assert Path("ucf101_train_1.txt").read_text() == (
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 0\nYoYo/v_YoYo_g25_c05.avi 1\n"
    )
    assert Path("ucf101_test_1.txt").read_text() == "YoYo/v_YoYo_g01_c01.avi 1\n"
    assert Path("hmdb51_train_1.txt").read_text() == "brush_hair/a_brush_hair_f_0.avi 0\nwave/d_wave_f_0.avi 1\n"
    assert Path("hmdb51_test_1.txt").read_text() == "brush_hair/b_brush_hair_f_0.avi 0\n"
    assert Path("diving48_train.txt").read_text() == "-mm_00155.mp4 0\n_8V_00001.mp4 47\n"
    assert recipes["items"] == [(Path("activitynet/videos/v_x-1.mkv"), 2, 0.5, 1.9)]
    assert [label for _, label in recipes["there"]] == [0, 2]  # without bowling, which is gone
    assert recipes["val"].annotations.label(0) == 2  # as in the training set


def test_the_datasets_of_the_recipes_load(recipes):
    kinds = [type(dataset).__name__ for dataset in recipes["datasets"]]
    assert kinds == ["VideoDataset"] * 6 + ["FeatureDataset", "Actions"]
    for dataset in recipes["datasets"]:
        for i in range(len(dataset)):
            if "gone_______" not in str(getattr(dataset, "annotations", None) and dataset.annotations.path(i)):
                dataset[i]


# ---- commands

SUBPARSERS: dict[str, argparse.ArgumentParser] = next(
    action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)
).choices
# Programs of others, whose options are theirs to check.
FOREIGN = ("pip", "pytest", "git", "sudo", "apt-get", "ffmpeg", "export", "conda", "docker", "python3", "source")


@pytest.mark.parametrize("page", [page for page in pages.PAGES + pages.OTHERS if any(pages.commands(page))])
def test_the_commands_of_a_page_parse(page):
    for line, command in pages.commands(page):
        where = f"{page}:{line}: {command}"
        words = shlex.split(command)
        while words and re.fullmatch(r"\w+=\S*", words[0]):  # environment variables
            words.pop(0)
        program, *rest = words
        if program == "vidload":
            try:
                cli._parser().parse_args(rest)
            except SystemExit as stop:
                raise AssertionError(f"{where}: does not parse") from stop
        elif program.split("/")[-1] == "python":
            script = pages.ROOT / rest[0]
            assert rest[0] == "-m" or script.is_file(), f"{where}: no such script"
            for option in [word for word in rest if word.startswith("--")]:
                assert f'"{option.split("=")[0]}"' in script.read_text(), f"{where}: {option} is no option of it"
        elif program == "make":
            makefile = (pages.ROOT / "Makefile").read_text()
            for target in [word for word in rest if "=" not in word]:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{where}: no target {target}"
        else:
            assert program.split("/")[-1] in FOREIGN, f"{where}: which program is that?"


@pytest.mark.parametrize("page", pages.PAGES + pages.OTHERS)
def test_the_options_in_a_page_s_text_exist(page):
    for command in re.findall(r"`vidload ([^`\n]+)`", pages.text_of(page)):
        name, *rest = command.split()
        assert name in SUBPARSERS or name.isupper(), f"{page}: vidload {command}: no such command"
        for option in [word.split("=")[0] for word in rest if word.startswith("-")]:
            assert option in SUBPARSERS[name]._option_string_actions, f"{page}: vidload {command}: no option {option}"


# ---- messages

SOURCES = [
    *(path for folder in ("vidload", "models") for path in (pages.ROOT / folder).rglob("*.py")),
    *(path for suffix in ("*.cpp", "*.h", "*.cu") for path in (pages.ROOT / "csrc").rglob(suffix)),
]
# Where one literal ends and the next begins, with whatever is put between them in C++ or Python.
_JOINT = re.compile(r'"\s*f?"')


def messages() -> list[str]:
    """The messages that the page on troubleshooting explains: the code spans of its tables' first columns."""
    rows = re.findall(r"^\| (`.*?) \|", pages.text_of("troubleshooting.md"), re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`+ ?(.*?) ?`+", row)]


@pytest.fixture(scope="module")
def literals() -> list[str]:
    return [
        _JOINT.sub("", path.read_text().replace("\\'", "'")) for path in SOURCES if "/vidload/models/" not in str(path)
    ]


@pytest.mark.parametrize("message", messages())
def test_each_message_of_the_troubleshooting_page_is_in_the_source(message, literals):
    parts = [re.escape(part.strip()) for part in re.split("…|: ", message) if part.strip()]  # a literal may end there
    pattern = re.compile(r".{0,600}?".join(parts), re.DOTALL)
    assert any(pattern.search(text) for text in literals), f"nothing in the source says {message!r}"


def test_the_troubleshooting_page_has_a_row_for_each_kind_of_error():
    text = pages.text_of("troubleshooting.md")
    for name in vidload.errors.__dict__:
        if name.endswith("Error") and name in vidload.__all__:
            assert f"`{name}`" in text, f"{name} is missing"


# ---- the figures of stats()


def test_the_performance_page_explains_every_figure_of_stats(place):
    loader = vidload.VideoLoader(names_of(place)["train"])
    explained = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", pages.text_of("performance.md"), re.M)))
    )
    assert set(loader.stats()) | {"dali_fallbacks"} == explained


# ---- the API


def public_names() -> list[str]:
    """Every public name, as its page calls it; modules that have a page of their own are not in the list."""
    names = []
    for module in ("vidload", "vidload.transforms", "vidload.sampling", "vidload.prepare", "vidload.models"):
        names += [f"{module}.{name}" for name in importlib.import_module(module).__all__]
    names += [
        f"vidload.augment.{name}"
        for name, value in vars(vidload.augment).items()
        if getattr(value, "__module__", "") == "vidload.augment" and not name.startswith("_")
    ]
    names += [f"vidload.cuda.{name}" for name in vidload.cuda.__all__]
    source = (pages.ROOT / "vidload/dali/__init__.py").read_text()  # nvidia-dali is an extra
    names += [f"vidload.dali.{name}" for name in re.findall(r'"(\w+)"', source.split("__all__ =")[1])]
    modules = ("vidload.augment", "vidload.cuda", "vidload.sampling", "vidload.transforms")
    return [name for name in names if name not in modules]


def test_the_api_pages_have_every_public_name_and_no_other():
    text = "".join(pages.text_of(page) for page in pages.PAGES if page.startswith("api/"))
    shown = re.findall(r"^::: (\S+)", text, re.MULTILINE)
    shown = [re.sub(r"^models\.", "vidload.models.", name) for name in shown]
    assert sorted(shown) == sorted(public_names())


# ---- links


@pytest.mark.parametrize("page", pages.PAGES + pages.OTHERS)
def test_the_links_of_a_page_lead_somewhere(page):
    for target in pages.links(page):
        assert (pages.DOCS / page).parent.joinpath(target).exists(), f"{page}: {target} does not exist"
