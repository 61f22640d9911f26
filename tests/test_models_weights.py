"""load_checkpoint: files of MMAction2, PySlowFast, torchvision and our own, and files that do not fit.

The state dicts are written here in the names of each project, independent of the mapping under test.
"""

import pickle
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F

from vidload import models

SMALL = {"width": 16, "depths": (1, 2, 1, 1)}


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small(name, num_classes=5, **options):
    return models.create(name, num_classes, **SMALL, **options)


def random_state(model):
    return {key: torch.randn_like(v) if v.is_floating_point() else v for key, v in model.state_dict().items()}


def norm(key, channels):
    entries = {key + ".weight": torch.rand(channels), key + ".bias": torch.randn(channels)}
    entries |= {key + ".running_mean": torch.randn(channels), key + ".running_var": torch.rand(channels)}
    return entries


def torchvision_state(width=16, depths=(1, 2, 1, 1), num_classes=1000):
    """A ResNet of bottlenecks as torchvision names it; without num_batches_tracked, as its older files."""
    state = OrderedDict({"conv1.weight": torch.randn(width, 3, 7, 7), **norm("bn1", width)})
    channels = width
    for stage, depth in enumerate(depths):
        planes = width * 2**stage
        for block in range(depth):
            key = f"layer{stage + 1}.{block}"
            state[f"{key}.conv1.weight"] = torch.randn(planes, channels, 1, 1)
            state |= norm(f"{key}.bn1", planes)
            state[f"{key}.conv2.weight"] = torch.randn(planes, planes, 3, 3)
            state |= norm(f"{key}.bn2", planes)
            state[f"{key}.conv3.weight"] = torch.randn(4 * planes, planes, 1, 1)
            state |= norm(f"{key}.bn3", 4 * planes)
            if block == 0:
                state[f"{key}.downsample.0.weight"] = torch.randn(4 * planes, channels, 1, 1)
                state |= norm(f"{key}.downsample.1", 4 * planes)
            channels = 4 * planes
    state |= {"fc.weight": torch.randn(num_classes, channels), "fc.bias": torch.randn(num_classes)}
    return state


def pyslowfast_pathway(index, width, depths, kernels, stem, lateral=(0, 0, 0, 0)):
    """One pathway as PySlowFast names it; `kernels`: temporal kernels of the blocks of each stage."""
    state = {f"s1.pathway{index}_stem.conv.weight": torch.randn(width, 3, stem, 7, 7)}
    state |= norm(f"s1.pathway{index}_stem.bn", width)
    channels = width
    for stage, depth in enumerate(depths):
        planes, channels = width * 2**stage, channels + lateral[stage]
        for block in range(depth):
            key = f"s{stage + 2}.pathway{index}_res{block}"
            if block == 0:
                state[f"{key}.branch1.weight"] = torch.randn(4 * planes, channels, 1, 1, 1)
                state |= norm(f"{key}.branch1_bn", 4 * planes)
            state[f"{key}.branch2.a.weight"] = torch.randn(planes, channels, kernels[stage][block], 1, 1)
            state |= norm(f"{key}.branch2.a_bn", planes)
            state[f"{key}.branch2.b.weight"] = torch.randn(planes, planes, 1, 3, 3)
            state |= norm(f"{key}.branch2.b_bn", planes)
            state[f"{key}.branch2.c.weight"] = torch.randn(4 * planes, planes, 1, 1, 1)
            state |= norm(f"{key}.branch2.c_bn", 4 * planes)
            channels = 4 * planes
    return state


def pyslowfast_slowfast(num_classes=5):
    depths = SMALL["depths"]
    state = pyslowfast_pathway(0, 16, depths, ((1,), (1, 1), (3,), (3,)), 1, lateral=(4, 16, 32, 64))
    state |= pyslowfast_pathway(1, 2, depths, ((3,), (3, 3), (3,), (3,)), 5)
    for stage, channels in enumerate((2, 8, 16, 32), 1):
        state[f"s{stage}_fuse.conv_f2s.weight"] = torch.randn(2 * channels, channels, 5, 1, 1)
        state |= norm(f"s{stage}_fuse.bn", 2 * channels)
    state["head.projection.weight"] = torch.randn(num_classes, 512 + 64)
    state["head.projection.bias"] = torch.randn(num_classes)
    return state


def saved(tmp_path, content):
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    return path


# --- naming --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.list_models())
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda s: {"meta": {"epoch": 100}, "state_dict": s}, id="mmaction2-0.x"),
        pytest.param(
            lambda s: {"state_dict": {"data_preprocessor.mean": torch.zeros(3), **s}},
            id="mmaction2-1.x",
        ),
        pytest.param(lambda s: s, id="bare"),
        pytest.param(lambda s: {"model": {f"module.{k}": v for k, v in s.items()}}, id="distributed"),
        pytest.param(lambda s: {"model": {f"_orig_mod.{k}": v for k, v in s.items()}}, id="compiled"),
    ],
)
def test_own_and_mmaction2_names_come_back_as_they_were_saved(tmp_path, name, wrap):
    model = small(name)
    state = random_state(model)
    report = models.load_checkpoint(model, saved(tmp_path, wrap(state)))
    assert (report.source, report.num_loaded) == ("mmaction2", len(state))
    assert (report.missing, report.unused) == ((), ())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name, shifted", [("tsn_r50_1x1x3", ""), ("tsm_r50_1x1x8", ".net")])
def test_imagenet_resnet_goes_into_2d_models(tmp_path, name, shifted):
    model, source = small(name), torchvision_state()
    classifier = model.cls_head.fc_cls.weight.clone()
    report = models.load_checkpoint(model, saved(tmp_path, source))
    assert report.source == "torchvision"
    assert [entry.split(":")[0] for entry in report.unused] == ["fc.weight", "fc.bias"]
    for ours, theirs in {
        "conv1.conv.weight": "conv1.weight",
        "conv1.bn.running_var": "bn1.running_var",
        f"layer2.1.conv1.conv{shifted}.weight": "layer2.1.conv1.weight",
        "layer2.1.conv3.bn.bias": "layer2.1.bn3.bias",
        "layer4.0.downsample.conv.weight": "layer4.0.downsample.0.weight",
        "layer4.0.downsample.bn.bias": "layer4.0.downsample.1.bias",
    }.items():
        assert torch.equal(model.backbone.state_dict()[ours], source[theirs]), ours
    assert torch.equal(model.cls_head.fc_cls.weight, classifier)


@pytest.mark.parametrize(
    "source, prefix, head",
    [("tsm", "module.base_model.", "module.new_fc."), ("mmaction", "backbone.", "cls_head.fc_cls.")],
)
def test_torchvision_names_within_a_trained_tsm_come_with_its_classifier(tmp_path, source, prefix, head):
    model, state = small("tsm_r50_1x1x8"), {}
    for key, value in torchvision_state(num_classes=5).items():
        key = key.replace(".conv1.weight", ".conv1.net.weight") if key.startswith("layer") else key
        state[head + key.removeprefix("fc.") if key.startswith("fc.") else prefix + key] = value
    report = models.load_checkpoint(model, saved(tmp_path, {"state_dict": state}))
    assert (report.source, report.num_loaded, report.unused) == (source, len(state), ())
    assert torch.equal(model.backbone.layer2[1].conv1.conv.net.weight, state[f"{prefix}layer2.1.conv1.net.weight"])
    assert torch.equal(model.cls_head.fc_cls.weight, state[head + "weight"])


@pytest.mark.parametrize("name", ["i3d_r50_32x2x1", "i3d_r50_heavy_8x8x1", "slowonly_r50_8x8x1"])
def test_imagenet_resnet_is_inflated_so_that_a_still_picture_means_the_same(tmp_path, name):
    model, source = small(name), torchvision_state()
    models.load_checkpoint(model, saved(tmp_path, source))
    stem = model.backbone.conv1.conv.weight
    torch.testing.assert_close(stem.sum(dim=2), source["conv1.weight"])
    picture = torch.randn(1, 3, 16, 16)
    video = picture.unsqueeze(2).expand(1, 3, stem.shape[2], 16, 16)
    still = F.conv3d(video, stem, padding=(0, 3, 3))
    flat = F.conv2d(picture, source["conv1.weight"], padding=3)
    torch.testing.assert_close(still.squeeze(2), flat, rtol=1e-4, atol=1e-4)
    for key in ("layer3.0", "layer4.0"):
        block = model.backbone.get_submodule(key)
        torch.testing.assert_close(block.conv1.conv.weight.sum(dim=2), source[f"{key}.conv1.weight"])
        torch.testing.assert_close(block.conv2.conv.weight.squeeze(2), source[f"{key}.conv2.weight"])


def test_a_2d_mmaction2_checkpoint_is_inflated_too(tmp_path):
    tsn, i3d = small("tsn_r50_1x1x3"), small("i3d_r50_heavy_8x8x1")
    path = saved(tmp_path, {"state_dict": tsn.state_dict()})
    models.load_checkpoint(i3d, path)
    torch.testing.assert_close(i3d.backbone.conv1.conv.weight.sum(dim=2), tsn.backbone.conv1.conv.weight)


@pytest.mark.parametrize(
    "name, kernels, stem",
    [
        ("slowonly_r50_8x8x1", ((1,), (1, 1), (3,), (3,)), 1),
        ("i3d_r50_32x2x1", ((3,), (3, 1), (3,), (1,)), 5),
    ],
)
def test_pyslowfast_with_one_pathway(tmp_path, name, kernels, stem):
    source = pyslowfast_pathway(0, 16, SMALL["depths"], kernels, stem)
    source |= {"head.projection.weight": torch.randn(5, 512), "head.projection.bias": torch.randn(5)}
    model = small(name)
    checkpoint = {"model_state": source, "epoch": 1, "cfg": "TRAIN: ..."}
    report = models.load_checkpoint(model, saved(tmp_path, checkpoint))
    assert (report.source, report.num_loaded) == ("pyslowfast", len(source))
    for ours, theirs in {
        "backbone.conv1.conv.weight": "s1.pathway0_stem.conv.weight",
        "backbone.layer2.1.conv2.conv.weight": "s3.pathway0_res1.branch2.b.weight",
        "backbone.layer3.0.conv3.bn.weight": "s4.pathway0_res0.branch2.c_bn.weight",
        "backbone.layer1.0.downsample.bn.bias": "s2.pathway0_res0.branch1_bn.bias",
        "cls_head.fc_cls.weight": "head.projection.weight",
    }.items():
        assert torch.equal(model.state_dict()[ours], source[theirs]), ours


def test_pyslowfast_slowfast_fits_with_normalized_laterals(tmp_path):
    model, source = small("slowfast_r50_4x16x1", lateral_norm=True), pyslowfast_slowfast()
    report = models.load_checkpoint(model, saved(tmp_path, {"model_state": source}))
    slow, fast = model.backbone.slow_path, model.backbone.fast_path
    assert (report.num_loaded, report.unused) == (len(source), ())
    assert torch.equal(slow.conv1.conv.weight, source["s1.pathway0_stem.conv.weight"])
    assert torch.equal(slow.conv1_lateral.conv.weight, source["s1_fuse.conv_f2s.weight"])
    assert torch.equal(slow.layer3_lateral.bn.bias, source["s4_fuse.bn.bias"])
    assert torch.equal(fast.layer2[1].conv1.conv.weight, source["s3.pathway1_res1.branch2.a.weight"])


def test_pyslowfast_classifier_is_reordered_since_it_puts_the_slow_features_first(tmp_path):
    model, source = small("slowfast_r50_4x16x1", lateral_norm=True), pyslowfast_slowfast()
    models.load_checkpoint(model, saved(tmp_path, {"model_state": source}))
    slow, fast = torch.randn(1, 512), torch.randn(1, 64)
    weight, bias = source["head.projection.weight"], source["head.projection.bias"]
    theirs = F.linear(torch.cat([slow, fast], dim=1), weight, bias)
    torch.testing.assert_close(model.cls_head.fc_cls(torch.cat([fast, slow], 1)), theirs)


# --- what does not fit ---------------------------------------------------------------------------------


def refused(model, path, message):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(models.CheckpointError, match=message) as caught:
        models.load_checkpoint(model, path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "changed"
    return str(caught.value)


def test_other_classes_are_named_with_both_shapes_and_the_remedy(tmp_path):
    path = saved(tmp_path, {"state_dict": small("tsn_r50_1x1x3", 400).state_dict()})
    text = refused(small("tsn_r50_1x1x3", 5), path, "checkpoint.pth: does not fit TSN")
    assert "cls_head.fc_cls.weight: [400, 512], but the model's cls_head.fc_cls.weight is [5, 512]" in text
    assert "reset_classifier" in text


def test_normalized_laterals_in_the_file_are_answered_with_the_option(tmp_path):
    path = saved(tmp_path, {"model_state": pyslowfast_slowfast()})
    text = refused(small("slowfast_r50_4x16x1"), path, "read as a checkpoint of pyslowfast")
    assert "s1_fuse.bn.weight: the model has no backbone.slow_path.conv1_lateral.bn.weight" in text
    assert "lateral_norm=True" in text


def test_another_architecture_is_refused_with_a_short_list(tmp_path):
    path = saved(tmp_path, {"state_dict": small("i3d_r50_32x2x1").state_dict()})
    text = refused(small("slowfast_r50_4x16x1"), path, "in the model, without a value")
    assert len(text.splitlines()) < 30
    assert "more" in text


def test_what_fits_is_loaded_when_asked_and_the_rest_reported(tmp_path):
    source, model = small("tsn_r50_1x1x3", 400), small("tsn_r50_1x1x3", 5)
    state = random_state(source)
    del state["backbone.conv1.bn.bias"]
    report = models.load_checkpoint(model, saved(tmp_path, state), strict=False)
    assert torch.equal(model.backbone.conv1.conv.weight, state["backbone.conv1.conv.weight"])
    assert report.missing == ("backbone.conv1.bn.bias", "cls_head.fc_cls.weight", "cls_head.fc_cls.bias")
    assert len(report.unused) == 2


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    model = small("tsn_r50_1x1x3")
    mark = tmp_path / "ran"
    path = saved(tmp_path, {"state_dict": model.state_dict(), "message_hub": Bomb(mark)})
    refused(model, path, "contains Python objects beside tensors, which are not loaded")
    assert not mark.exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"not a checkpoint", "checkpoint.pth: "),
        (pickle.dumps({"blobs": {"conv1_w": [1, 2]}}, protocol=2), "checkpoint.pth: "),
        (b"", "checkpoint.pth: cannot be read as a PyTorch checkpoint"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(content)
    refused(small("tsn_r50_1x1x3"), path, message)


def test_a_file_without_weights_and_a_missing_one_are_told_apart(tmp_path):
    refused(small("tsn_r50_1x1x3"), saved(tmp_path, {"epoch": 3}), "there are no weights in it")
    with pytest.raises(FileNotFoundError):
        models.load_checkpoint(small("tsn_r50_1x1x3"), tmp_path / "missing.pth")
