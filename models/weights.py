"""Loads published checkpoints into our models: names are mapped, every shape is checked, and no code in a file
is run.

In: a model and a file of MMAction2 (0.x or 1.x) or the MMAction before it, PySlowFast (.pyth), the TSM
repository, torchvision (an ImageNet ResNet), or one written by examples/train_i3d.py. Out: the model's weights, or an error that lists what did not fit,
and then an unchanged model.
"""

import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .slowfast import SlowFast

Rules = tuple[tuple[str, str], ...]


class CheckpointError(RuntimeError):
    """A file that cannot be read as a checkpoint, or whose weights do not fit the model."""


@dataclass(frozen=True)
class LoadReport:
    """What `load_checkpoint` did. `source`: "mmaction2", "mmaction", "pyslowfast", "tsm" or "torchvision". `missing`: the
    model's entries that kept their values; `unused`: the file's entries that found no place, each with
    the reason.
    """

    source: str
    num_loaded: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]


# Patterns are tried in order on the whole key; the first that matches renames it.
_PYSLOWFAST: Rules = (
    (r"s1\.pathway(\d)_stem\.(conv|bn)\.(.+)", r"<\1>conv1.\2.\3"),
    (r"s1_fuse\.conv_f2s\.(.+)", r"<0>conv1_lateral.conv.\1"),
    (r"s1_fuse\.bn\.(.+)", r"<0>conv1_lateral.bn.\1"),
    (r"s(\d)_fuse\.conv_f2s\.(.+)", r"<0>layer{\1}_lateral.conv.\2"),
    (r"s(\d)_fuse\.bn\.(.+)", r"<0>layer{\1}_lateral.bn.\2"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch1_bn\.(.+)", r"<\2>layer{\1}.\3.downsample.bn.\4"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch1\.(.+)", r"<\2>layer{\1}.\3.downsample.conv.\4"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch2\.([abc])_bn\.(.+)", r"<\2>layer{\1}.\3.conv[\4].bn.\5"),
    (r"s(\d)\.pathway(\d)_res(\d+)\.branch2\.([abc])\.(.+)", r"<\2>layer{\1}.\3.conv[\4].conv.\5"),
    (r"head\.projection\.(.+)", r"cls_head.fc_cls.\1"),
)
_TORCHVISION: Rules = (
    (r"conv1\.weight", r"backbone.conv1.conv.weight"),
    (r"bn1\.(.+)", r"backbone.conv1.bn.\1"),
    (r"(layer\d\.\d+)\.conv(\d)(\.net)?\.weight", r"backbone.\1.conv\2.conv.weight"),
    (r"(layer\d\.\d+)\.bn(\d)\.(.+)", r"backbone.\1.conv\2.bn.\3"),
    (r"(layer\d\.\d+)\.downsample\.0\.weight", r"backbone.\1.downsample.conv.weight"),
    (r"(layer\d\.\d+)\.downsample\.1\.(.+)", r"backbone.\1.downsample.bn.\2"),
    (r"new_fc\.(.+)", r"cls_head.fc_cls.\1"),  # the TSN and TSM repositories'
)


def load_checkpoint(model: nn.Module, path: str | os.PathLike[str], strict: bool = True) -> LoadReport:
    """Loads the weights in `path` into `model`.

    2D weights are inflated where the model is 3D: repeated over time and divided by the temporal size. An
    ImageNet classifier is left out, so the model's own stays. Raises CheckpointError if a weight of the
    model gets no value, or one of the file no place; with `strict` False what fits is loaded and the report
    lists the rest. Raises FileNotFoundError if there is no such file.

    PySlowFast's SlowFast has batch norm after its laterals: create the model with `lateral_norm=True`.
    Its I3D has no temporal stride in the stem: create "i3d_r50_32x2x1" with `stem_stride=1`. Both were
    trained on pixels / 255 with mean 0.45 and std 0.225.
    """
    state = _state_dict(path)
    own = model.state_dict()
    source, renamed = _renamed(state)
    fitting: dict[str, Tensor] = {}
    unused: list[str] = []
    misfits: list[str] = []
    for key, (name, value) in renamed.items():
        target = _place(name, own)
        if source == "torchvision" and key.startswith("fc."):
            unused.append(f"{key}: the classes of ImageNet")
        elif target is None:
            misfits.append(f"{key}: the model has no {name}" if name != key else f"{key}: the model has no such weight")
        else:
            value = _fitted(value, own[target], source, target, model)
            if value.shape == own[target].shape:
                fitting[target] = value
            else:
                misfits.append(f"{key}: {list(value.shape)}, but the model's {target} is {list(own[target].shape)}")
    missing = [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
    if source == "torchvision":
        missing = [name for name in missing if not name.startswith("cls_head.")]
    if strict and (misfits or missing):
        raise CheckpointError(_complaint(model, path, source, misfits, missing))
    model.load_state_dict({**own, **fitting})
    return LoadReport(source, len(fitting), tuple(missing), tuple(unused + misfits))


def _state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: contains Python objects beside tensors, which are not loaded because they can run code; "
            "keep only the weights, in the program that wrote it: "
            f'torch.save({{"state_dict": checkpoint["state_dict"]}}, "weights.pth") ({_first_line(error)})'
        ) from error
    except (RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path}: cannot be read as a PyTorch checkpoint ({_first_line(error)})") from error
    for wrapper in ("state_dict", "model_state", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors: dict[str, Tensor] = {}
    if isinstance(content, Mapping):
        for key, value in content.items():
            name = re.sub(r"^((module|_orig_mod)\.)+", "", str(key))
            if isinstance(value, Tensor) and not name.startswith("data_preprocessor."):
                tensors[name] = value
    if not tensors:
        raise CheckpointError(
            f"{path}: there are no weights in it, neither at the top nor under state_dict, model_state, model"
        )
    return tensors


def _renamed(state: Mapping[str, Tensor]) -> tuple[str, dict[str, tuple[str, Tensor]]]:
    """The source, and for each key of the file our name and the value."""
    if any(key.startswith("s1.pathway0") for key in state):
        paths = ("slow_path.", "fast_path.") if "s1.pathway1_stem.conv.weight" in state else ("", "")

        def finished(name: str) -> str:
            name = re.sub(r"<(\d)>", lambda m: f"backbone.{paths[int(m[1])]}", name)
            name = re.sub(r"\{(\d)\}", lambda m: str(int(m[1]) - 1), name)
            return re.sub(r"\[([abc])\]", lambda m: str("abc".index(m[1]) + 1), name)

        return "pyslowfast", {key: (finished(_first_match(key, _PYSLOWFAST)), v) for key, v in state.items()}
    if {"conv1.weight", "bn1.weight"} <= state.keys():
        return "torchvision", {key: (_first_match(key, _TORCHVISION), v) for key, v in state.items()}
    for prefix, source in (("base_model.", "tsm"), ("backbone.", "mmaction")):  # torchvision's names within
        if f"{prefix}conv1.weight" in state:
            names = {key: _first_match(key.removeprefix(prefix), _TORCHVISION) for key in state}
            return source, {key: (names[key], v) for key, v in state.items()}
    return "mmaction2", {key: (key, v) for key, v in state.items()}


def _first_match(key: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, replacement, key)
    return key


def _place(name: str, own: Mapping[str, Tensor]) -> str | None:
    """The model's entry for `name`; TSM keeps the convolutions it shifts one level deeper."""
    if name in own:
        return name
    deeper = name.removesuffix(".weight") + ".net.weight"
    return deeper if deeper in own else None


def _fitted(value: Tensor, own: Tensor, source: str, target: str, model: nn.Module) -> Tensor:
    if value.ndim == 4 and own.ndim == 5:  # [out, in, H, W] -> [out, in, T, H, W]
        return value.unsqueeze(2).repeat(1, 1, own.shape[2], 1, 1) / own.shape[2]
    if source == "pyslowfast" and target == "cls_head.fc_cls.weight" and isinstance(model, SlowFast):
        slow, fast = torch.split(value, [own.shape[1] - model.fast_channels, model.fast_channels], dim=1)
        return torch.cat([fast, slow], dim=1)
    return value


def _complaint(
    model: nn.Module, path: str | os.PathLike[str], source: str, misfits: list[str], missing: list[str]
) -> str:
    lines = [f"{path}: does not fit {type(model).__name__} (read as a checkpoint of {source}); nothing was loaded"]
    for title, entries in (
        ("in the file, without a place", misfits),
        ("in the model, without a value", missing),
    ):
        if entries:
            lines.append(f"  {title} ({len(entries)}):")
            lines += [f"    {entry}" for entry in entries[:10]]
            lines += [f"    ... and {len(entries) - 10} more"] if len(entries) > 10 else []
    if any("_fuse.bn" in entry for entry in misfits):
        lines.append("  PySlowFast normalizes after its laterals: create the model with lateral_norm=True")
    elif any("cls_head.fc_cls" in entry for entry in misfits):
        lines.append("  for other classes: create it with the file's num_classes, load, then reset_classifier(n)")
    lines.append("  strict=False loads what fits")
    return "\n".join(lines)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
