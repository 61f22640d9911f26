"""The recognizers: equal to MMAction2's numbers, and at home in every part of PyTorch that training uses.

Full-size networks are compared with fixtures/models; everything else is shown on narrow, shallow ones of
the same classes.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidload import models
from vidload.models.layers.conv_unit import Conv3d
from vidload.models.layers.temporal_shift import temporal_shift

FIXTURES = Path(__file__).parent / "fixtures" / "models"
NAMES = models.list_models()
# Variants of one class differ in options and recipe only.
ONE_OF_EACH = [
    name for name in NAMES if name not in ("i3d_r50_heavy_8x8x1", "slowonly_r50_8x8x1", "slowfast_r50_8x8x1")
]
SIZE = 32  # of the small clips


@pytest.fixture(autouse=True)
def _two_threads_and_a_seed():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)


def small(name, num_classes=5, **options):
    """A network of the same class, 16 channels wide and 2 blocks deep in the last stage, batch norms of
    random scale.
    """
    model = models.create(name, num_classes, **{"width": 16, "depths": (1, 1, 1, 2), **options})
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def clips_for(model, n=2, size=SIZE):
    return torch.randn(model.recipe.sample_shape(n, size))


def is_2d(model):
    return model.recipe.layout == "NVCTHW"


# --- parity with MMAction2 -----------------------------------------------------------------------------


def filled_state(state):
    """The fixtures' weights: every entry from a generator seeded with its name."""
    filled = {}
    for key, value in state.items():
        rs = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
        shape = tuple(value.shape)
        if key.endswith("num_batches_tracked"):
            array = np.zeros(shape)
        elif key.endswith("running_var"):
            array = 0.5 + rs.rand(*shape)
        elif key.endswith("running_mean"):
            array = 0.1 * rs.standard_normal(shape)
        elif len(shape) >= 2:
            array = rs.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif key.endswith("bias"):
            array = 0.1 * rs.standard_normal(shape)
        else:
            array = 0.5 + rs.rand(*shape)
        filled[key] = torch.from_numpy(np.asarray(array)).to(value.dtype)
    return filled


def fixture_clips(fixture):
    rs = np.random.RandomState(int(fixture["input_seed"]))
    clips = torch.from_numpy(rs.standard_normal(fixture["input_shape"]).astype(np.float32))
    return clips if clips.ndim == 6 else clips.unsqueeze(3)  # the fixtures' 2D layout has no T


def assert_close(got, want, tolerance):
    error = np.abs(got.detach().numpy() - want).max() / want.std()
    assert error <= tolerance, f"off by {error:.1e} of the spread"


@pytest.mark.parametrize("name", NAMES)
def test_network_equals_mmaction2(name):
    expected = json.loads((FIXTURES / f"{name}.json").read_text())
    fixture = np.load(FIXTURES / f"{name}.npz")
    with torch.device("meta"):  # no fresh weights: they are replaced anyway
        model = models.create(name)

    state = model.state_dict()
    entries = [[key, list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in state.items()]
    assert entries == expected["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == expected["parameters_total"]

    weights, clips = filled_state(state), fixture_clips(fixture)
    model.load_state_dict(weights, assign=True)
    stages = {}
    hooks = [
        model.backbone.get_submodule(stage).register_forward_hook(
            lambda _module, _input, output, stage=stage: stages.update({stage: output.double()})
        )
        for stage in fixture["stage_names"].tolist()
    ]
    model.eval()
    with torch.no_grad():
        assert_close(model(clips), fixture["logits"], 1e-4)
    for i, stage in enumerate(fixture["stage_names"].tolist()):
        assert str(list(stages[stage].shape)) == fixture["stage_shapes"][i], stage
        assert stages[stage].mean().item() == pytest.approx(fixture["stage_mean"][i], rel=1e-4), stage
        assert stages[stage].std(correction=0).item() == pytest.approx(fixture["stage_std"][i], rel=1e-4), stage
    for hook in hooks:
        hook.remove()

    model.train()
    model.cls_head.dropout.p = 0.0
    with torch.no_grad():
        assert_close(model(clips), fixture["train_logits"], 1e-3)


# --- views and heads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_logits_have_one_row_a_video_for_one_and_several_views(name):
    model = small(name).eval()
    clips = clips_for(model, 3)
    views = clips if clips.ndim == 6 else clips.unsqueeze(1)
    assert model(clips).shape == (3, 5)
    assert model(torch.cat([views, views], dim=1)).shape == (3, 5)
    assert model.predict(clips).sum(dim=1).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("ts")])
def test_views_of_a_3d_model_are_averaged_as_logits_in_forward_and_as_probabilities_in_predict(name):
    model = small(name).eval()
    views = torch.stack([clips_for(model), clips_for(model), clips_for(model)], dim=1)  # [N, 3, C, T, H, W]
    single = torch.stack([model(views[:, v]) for v in range(3)])
    torch.testing.assert_close(model(views), single.mean(0))
    torch.testing.assert_close(model.predict(views), single.softmax(-1).mean(0))
    torch.testing.assert_close(model.predict(views, max_views=2), single.softmax(-1).mean(0))


def test_tsn_averages_the_features_of_all_views():
    model = small("tsn_r50_1x1x3").eval()
    clips = torch.randn(2, 6, 3, 1, SIZE, SIZE)
    features = model.forward_features(clips)  # [N, frames, features]
    logits = model.cls_head.fc_cls(features.mean(1))
    torch.testing.assert_close(model(clips), logits)
    torch.testing.assert_close(model.predict(clips), logits.softmax(1))


def test_tsm_scores_each_view_of_8_frames_and_does_not_mix_views():
    model = small("tsm_r50_1x1x8").eval()
    crops = torch.randn(2, 2, 8, 3, 1, SIZE, SIZE)  # crops are the outer axis
    first, second = model(crops[:, 0]), model(crops[:, 1])
    both = crops.flatten(1, 2)
    torch.testing.assert_close(model(both), (first + second) / 2)
    torch.testing.assert_close(model.predict(both), (first.softmax(1) + second.softmax(1)) / 2)


@pytest.mark.parametrize("name", ["tsn_r50_1x1x3", "tsm_r50_1x1x8"])
def test_a_2d_model_takes_its_frames_along_views_or_along_time(name):
    model = small(name).eval()
    clips = clips_for(model)  # [N, V, C, 1, H, W]
    torch.testing.assert_close(model(clips.squeeze(3).transpose(1, 2)), model(clips))


def test_slow_pathway_sees_every_alpha_th_frame():
    model = small("slowfast_r50_4x16x1").eval()
    clips = clips_for(model)
    slow = model.backbone.slow_path.conv1(clips[:, :, [0, 8, 16, 24]])
    seen = []
    model.backbone.slow_path.conv1.register_forward_hook(lambda _m, _i, output: seen.append(output))
    model(clips)
    torch.testing.assert_close(seen[0], slow)


@pytest.mark.parametrize(
    "name, shape, message",
    [
        (
            "i3d_r50_32x2x1",
            (2, 32, 3, 32, 32),
            r"got clips of shape \[2, 32, 3, 32, 32\]; it takes \[N, 3, T, H, W\]",
        ),
        ("tsm_r50_1x1x8", (1, 12, 3, 1, 32, 32), "got 12 frames per video .* multiples of 8"),
        ("slowfast_r50_4x16x1", (1, 3, 20, 32, 32), "clips of 20 frames; it takes multiples of alpha = 8"),
    ],
)
def test_clips_of_the_wrong_shape_are_refused_with_the_right_one(name, shape, message):
    with pytest.raises(ValueError, match=message):
        small(name)(torch.zeros(shape))


def test_reset_classifier_changes_the_classes_and_0_gives_features():
    model = small("slowonly_r50_4x16x1").eval()
    clips = clips_for(model)
    model.reset_classifier(7)
    assert model(clips).shape == (2, 7)
    model.reset_classifier(0)
    torch.testing.assert_close(model(clips), model.forward_features(clips).mean(1))


def test_forward_is_the_head_on_the_features():
    model = small("i3d_r50_32x2x1").eval()
    clips = clips_for(model)
    features = model.forward_features(clips)
    assert features.shape == (2, 1, model.num_features)
    torch.testing.assert_close(model.forward_head(features), model(clips))
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), features[:, 0])


# --- training ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_gradients_reach_every_parameter(name):
    model = small(name)
    F.cross_entropy(model(clips_for(model)), torch.tensor([0, 3])).backward()
    dead = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_dropout_and_batch_norm_work_in_training_and_rest_in_evaluation(name):
    model = small(name)
    clips = clips_for(model)
    before = model.state_dict()
    before = {key: value.clone() for key, value in before.items() if "running" in key}
    model.eval()
    assert torch.equal(model(clips), model(clips))
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    model.train()
    assert not torch.equal(model(clips), model(clips))
    assert not any(torch.equal(model.state_dict()[key], value) for key, value in before.items())


def test_fresh_weights_follow_the_recipes():
    plain, zeroed = models.create("i3d_r50_32x2x1"), models.create("slowonly_r50_4x16x1")
    assert plain.backbone.layer4[2].conv3.bn.weight.eq(1).all()
    assert zeroed.backbone.layer4[2].conv3.bn.weight.eq(0).all()
    assert zeroed.backbone.layer4[2].conv2.bn.weight.eq(1).all()
    conv = plain.backbone.layer3[0].conv2.conv.weight  # [256, 256, 1, 3, 3]
    assert conv.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert plain.cls_head.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.02)
    tsm = models.create("tsm_r50_1x1x8")
    assert tsm.cls_head.fc_cls.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert tsm.cls_head.fc_cls.bias.eq(0).all()
    assert [m.cls_head.dropout.p for m in (models.create("tsn_r50_1x1x3"), tsm)] == [0.4, 0.5]


def test_frozen_batch_norm_stays_as_it_is_through_training_but_the_first_may_go_on():
    model = small("tsn_r50_1x1x3")
    model.freeze_bn(partial=True)
    model.train()
    names = [key for key, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    F.cross_entropy(model(clips_for(model)), torch.tensor([0, 3])).backward()
    for i, name in enumerate(names):
        norm = model.get_submodule(name)
        assert torch.equal(norm.running_mean, before[f"{name}.running_mean"]) == (i > 0)
        assert (norm.weight.grad is None) == (i > 0)


def test_running_statistics_move_a_tenth_of_the_way_a_step():
    model = small("r2plus1d_r34_8x8x1")
    unit, clips = model.backbone.conv1.conv, clips_for(model)
    nn.init.uniform_(unit.bn_s.running_mean)
    before = unit.bn_s.running_mean.clone()
    batch = unit.conv_s(clips).mean(dim=(0, 2, 3, 4))
    model(clips)
    torch.testing.assert_close(unit.bn_s.running_mean, 0.9 * before + 0.1 * batch)
    assert (unit.bn_s.eps, model.backbone.conv1.bn.eps) == (1e-5, 1e-3)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_gradient_checkpointing_changes_no_value(name):
    """Batch norm's running statistics used to move twice a step, once in each forward pass of a block."""
    results = []
    for enable in (False, True):
        torch.manual_seed(0)
        model = small(name, dropout=0.0)
        model.set_grad_checkpointing(enable)
        loss = F.cross_entropy(model(clips_for(model)), torch.tensor([0, 3]))
        loss.backward()
        results.append((loss.detach(), [p.grad for p in model.parameters()], list(model.buffers())))
    (loss, grads, buffers), (loss2, grads2, buffers2) = results
    assert torch.equal(loss, loss2)
    assert all(map(torch.equal, grads, grads2))
    assert all(map(torch.equal, buffers, buffers2))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_channels_last_memory_changes_only_rounding(name):
    model = small(name).double()
    clips = clips_for(model).double()
    want = model(clips)
    memory_format = torch.channels_last if is_2d(model) else torch.channels_last_3d
    model = model.to(memory_format=memory_format)
    model.cls_head.dropout.p = 0.0
    channels_first = model(clips)
    stored_last = clips.movedim(-4, -1).contiguous().movedim(-1, -4)
    seen = []
    model.backbone.get_submodule("slow_path.layer4" if hasattr(model, "alpha") else "layer4").register_forward_hook(
        lambda _m, _i, output: seen.append(output)
    )
    torch.testing.assert_close(model(stored_last), channels_first)
    assert want.shape == channels_first.shape
    assert seen[0].is_contiguous(memory_format=memory_format), "the format was lost on the way"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_autocast_stays_close_to_float32_and_trains(name, dtype):
    model = small(name).eval()
    clips = clips_for(model)
    with torch.no_grad():
        want = model(clips)
        with torch.autocast("cpu", dtype):
            logits = model(clips)
    assert logits.dtype == dtype
    assert (logits.float() - want).abs().max() < 0.05 * want.abs().max()
    model.train()
    with torch.autocast("cpu", dtype):
        loss = F.cross_entropy(model(clips), torch.tensor([0, 3]))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_compiled_model_gives_the_same_loss_and_gradients(name):
    """One graph, no break; aot_eager runs all of the compiler but the code generator."""
    model = small(name, dropout=0.0, depths=(1, 1, 1, 1))
    clips, labels = clips_for(model), torch.tensor([0, 3])
    loss = F.cross_entropy(model(clips), labels)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled_loss = F.cross_entropy(compiled(clips), labels)
    torch.testing.assert_close(compiled_loss, loss)
    torch.testing.assert_close(torch.autograd.grad(compiled_loss, list(model.parameters())), grads)
    torch.compiler.reset()


def test_generated_code_of_a_shifted_block_gives_the_same_values_and_gradients():
    block = small("tsm_r50_1x1x8").backbone.layer2
    x = torch.randn(8, 64, 6, 6, requires_grad=True)
    weights = torch.randn(8, 128, 3, 3)
    want = block(x)
    (want_grad,) = torch.autograd.grad(want, x, weights)
    got = torch.compile(block, fullgraph=True)(x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    (grad,) = torch.autograd.grad(got, x, weights)
    torch.testing.assert_close(grad, want_grad, rtol=1e-3, atol=1e-3)
    torch.compiler.reset()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_exported_program_serves_any_batch(name):
    model = small(name, depths=(1, 1, 1, 1)).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (clips_for(model, 2),), dynamic_shapes=({0: batch},))
    clips = clips_for(model, 3)
    torch.testing.assert_close(program.module()(clips), model(clips))


# --- layers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_temporal_shift_and_its_gradient_follow_the_definition(memory_format):
    n, t, c = 2, 8, 20
    fold = c // 8
    x = torch.randn(n * t, c, 3, 3).contiguous(memory_format=memory_format).requires_grad_()
    frames = x.view(n, t, c, 3, 3)
    zero = torch.zeros(c, 3, 3)
    rows = []
    for i in range(n):
        for j in range(t):
            following = frames[i, j + 1] if j + 1 < t else zero
            previous = frames[i, j - 1] if j > 0 else zero
            rows.append(torch.cat([following[:fold], previous[fold : 2 * fold], frames[i, j, 2 * fold :]]))
    want = torch.stack(rows)
    got = temporal_shift(x, t)
    assert torch.equal(got, want)
    assert got.is_contiguous(memory_format=memory_format)
    weights = torch.randn_like(want)
    assert torch.equal(torch.autograd.grad(got, x, weights)[0], torch.autograd.grad(want, x, weights)[0])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 1), (1, 3), (5, 7)])
def test_3d_convolution_by_2d_kernels_equals_the_plain_one(kernel, stride, memory_format):
    conv = Conv3d(6, 10, kernel, stride).double().to(memory_format=memory_format)
    x = torch.randn(2, 6, 8, 7, 9, dtype=torch.float64).contiguous(memory_format=memory_format)
    torch.testing.assert_close(conv(x), nn.Conv3d.forward(conv, x))


# --- registry and recipes ------------------------------------------------------------------------------


def test_unknown_name_is_answered_with_the_closest_one():
    with pytest.raises(ValueError, match=r"no recognizer 'i3d_r50_32x2'; did you mean 'i3d_r50_32x2x1'\?"):
        models.create("i3d_r50_32x2")


@pytest.mark.parametrize(
    "name, batch, shape",
    [
        ("tsn_r50_1x1x3", 32, (2, 3, 3, 1, 224, 224)),
        ("tsm_r50_1x1x8", 8, (2, 8, 3, 1, 224, 224)),
        ("i3d_r50_32x2x1", 8, (2, 3, 32, 224, 224)),
        ("i3d_r50_heavy_8x8x1", 8, (2, 3, 8, 224, 224)),
        ("slowonly_r50_4x16x1", 8, (2, 3, 4, 224, 224)),
        ("slowonly_r50_8x8x1", 8, (2, 3, 8, 224, 224)),
        ("slowfast_r50_4x16x1", 8, (2, 3, 32, 224, 224)),
        ("slowfast_r50_8x8x1", 8, (2, 3, 32, 224, 224)),
        ("r2plus1d_r34_8x8x1", 8, (2, 3, 8, 224, 224)),
    ],
)
def test_recipe_names_the_training_batch(name, batch, shape):
    recipe = models.get_recipe(name)
    assert recipe.batch_size == batch
    assert recipe.sample_shape(2) == shape
    assert recipe.mean == (123.675, 116.28, 103.53)
    assert recipe.std == (58.395, 57.12, 57.375)


@pytest.mark.parametrize(
    "name, split, clip, crop",
    [
        ("tsn_r50_1x1x3", "train", "1x1x3", "multi_scale_crop"),
        ("tsn_r50_1x1x3", "test", "1x1x25", "ten_crop"),
        ("tsm_r50_1x1x8", "test", "1x1x8", "ten_crop"),
        ("i3d_r50_32x2x1", "train", "32x2x1", "multi_scale_crop"),
        ("i3d_r50_32x2x1", "test", "32x2x10", "three_crop"),
        ("slowfast_r50_8x8x1", "train", "32x2x1", "random_resized_crop"),
        ("slowfast_r50_8x8x1", "val", "32x2x1", "center_crop"),
    ],
)
def test_recipe_gives_the_datasets_options(name, split, clip, crop):
    options = models.get_recipe(name).dataset_options(split)
    assert str(options["clip"]) == clip
    assert repr(options["transform"]).startswith(crop)
    assert options["training"] == (split == "train")


def test_a_recipe_asks_for_channels_last_only_where_it_was_measured_to_pay():
    frames, clips = models.get_recipe("tsm_r50_1x1x8"), models.get_recipe("slowfast_r50_4x16x1")
    assert frames.memory_format("cpu") == frames.channels_last == torch.channels_last
    assert clips.channels_last == torch.channels_last_3d
    assert clips.memory_format("cpu") == torch.contiguous_format
    for name in models.list_models():
        assert models.get_recipe(name).memory_format("cuda") == torch.contiguous_format  # nobody has measured it


def test_recipe_takes_another_clip_and_keeps_the_number_of_test_clips():
    recipe = models.get_recipe("i3d_r50_32x2x1")
    assert [str(recipe.dataset_options(s, clip="16x4x1")["clip"]) for s in ("val", "test")] == ["16x4x1", "16x4x10"]


def test_recipe_for_smaller_pictures_keeps_the_proportions():
    recipe = models.get_recipe("i3d_r50_32x2x1")
    train, test = (recipe.dataset_options(split, size=112)["transform"] for split in ("train", "test"))
    assert (train.size, train.short_side) == ((112, 112), 128)
    assert (test.size, test.short_side) == ((128, 128), 128)
    with pytest.raises(ValueError, match='split is \'valid\', must be "train", "val" or "test"'):
        recipe.dataset_options("valid")


@pytest.mark.parametrize(
    "name, epoch, factor",
    [
        ("tsn_r50_1x1x3", 39.9, 1),
        ("tsn_r50_1x1x3", 40, 0.1),
        ("tsn_r50_1x1x3", 80, 0.01),
        ("tsm_r50_1x1x8", 0, 0.1),
        ("tsm_r50_1x1x8", 2.5, 0.55),
        ("tsm_r50_1x1x8", 25, 0.1),
        ("slowonly_r50_4x16x1", 17, 0.55),
        ("slowonly_r50_4x16x1", 34, 1),
        ("slowonly_r50_4x16x1", 145, 0.5),  # the cosine begins after the warm-up
        ("slowonly_r50_4x16x1", 256, 0),
        ("slowfast_r50_4x16x1", 128, 0.5),  # the cosine runs from the start
        ("slowfast_r50_4x16x1", 0, 0.1),
        ("r2plus1d_r34_8x8x1", 90, 0.5),
    ],
)
def test_learning_rate_follows_the_schedule(name, epoch, factor):
    training = models.get_recipe(name).training
    assert training.lr_factor(epoch) == pytest.approx(factor, abs=1e-12)
    assert training.stretched(7 * training.epochs).lr_factor(7 * epoch) == pytest.approx(factor, abs=1e-12)


def test_tsm_trains_its_classifier_faster_and_decays_no_bias_and_no_batch_norm():
    model = models.create("tsm_r50_1x1x8")
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in model.param_groups(lr=1.0, weight_decay=1.0)
        for p in group["params"]
    }
    assert len(rates) == len(names)
    assert rates["backbone.conv1.conv.weight"] == (1, 1)
    assert rates["backbone.layer2.0.conv1.conv.net.weight"] == (1, 1)
    assert rates["backbone.layer2.0.conv1.bn.weight"] == rates["backbone.conv1.bn.bias"] == (1, 0)
    assert rates["cls_head.fc_cls.weight"] == (5, 1)
    assert rates["cls_head.fc_cls.bias"] == (10, 0)
