"""BSN and BMN against MMAction2's outputs and losses, and against slow, obvious code written here.

The fixtures hold what MMAction2 1.2.0 computes for weights that `filled` makes from the parameter names.
"""

import copy
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from vidload.models import bmn, bsn, create, list_models, load_checkpoint, localization
from vidload.models.localization import SoftNMS

FIXTURES = Path(__file__).parent / "fixtures" / "localization"
SMALL_BMN = {
    "temporal_dim": 20,
    "num_samples": 8,
    "feat_dim": 16,
    "hidden_1d": 32,
    "hidden_2d": 16,
    "hidden_3d": 24,
}
LOCALIZERS = list_models("localization")


@pytest.fixture(scope="module")
def bmn_400x100():
    return filled(bmn.BMN())


def load(name):
    return np.load(FIXTURES / f"{name}.npz")


def filled(model):
    """Every weight from a generator seeded with its name; BMN's constants stay as they are."""
    state = model.state_dict()
    for key, value in state.items():
        if key in ("sample_mask", "bm_mask"):
            continue
        random = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
        shape = tuple(value.shape)
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        state[key] = torch.from_numpy(scale * random.standard_normal(shape)).to(value.dtype)
    model.load_state_dict(state)
    return model.eval()


def fixture_input(fixture):
    random = np.random.RandomState(int(fixture["input_seed"]))
    return torch.from_numpy(random.standard_normal(fixture["input_shape"]).astype(np.float32))


def close(actual, expected, tolerance=1e-6):
    np.testing.assert_allclose(np.asarray(actual, dtype=np.float64), expected, rtol=tolerance, atol=tolerance)


def seconds_of(fixture):
    return localization.covered_seconds(int(fixture["duration_frame"]), float(fixture["duration_second"]))


def close_detections(detections, segments, scores):
    close([d["segment"] for d in detections], segments)
    close([d["score"] for d in detections], scores)


# The networks


@pytest.mark.parametrize("name", LOCALIZERS)
def test_state_dict_has_the_keys_order_shapes_and_dtypes_of_mmaction2_checkpoints(name):
    expected = json.loads((FIXTURES / "state_dicts.json").read_text())[name]
    model = create(name)
    actual = [[key, list(value.shape), str(value.dtype)] for key, value in model.state_dict().items()]
    assert actual == [[key, shape, f"torch.{dtype}"] for key, shape, dtype, _ in expected["state_dict"]]
    parameters = {key for key, *_, kind in expected["state_dict"] if kind == "parameter"}
    assert parameters == dict(model.named_parameters()).keys()
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == expected["parameters_trainable"]


@pytest.mark.parametrize("name", LOCALIZERS)
def test_checkpoints_of_localizers_load_whole(name, tmp_path):
    small = SMALL_BMN if name == "bmn_400x100" else {}
    saved, fresh = filled(create(name, **small)), create(name, **small)
    torch.save({"state_dict": saved.state_dict()}, tmp_path / "weights.pth")
    report = load_checkpoint(fresh, tmp_path / "weights.pth")
    assert (report.source, report.missing, report.unused) == ("mmaction2", (), ())
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, saved.state_dict()[key]), key


def test_tem_output_agrees_with_mmaction2():
    fixture = load("bsn_tem_400x100")
    output = filled(bsn.TEM())(fixture_input(fixture)).detach()
    close(output, fixture["output"])
    close(bsn.tem_table(output[0]), fixture["prediction_video0"])


def test_pem_output_agrees_with_mmaction2():
    fixture = load("bsn_pem_400x100")
    output = filled(bsn.PEM())(torch.from_numpy(fixture["bsp_feature"])).detach()
    close(output, fixture["output"])


def test_bmn_output_agrees_with_mmaction2(bmn_400x100):
    fixture = load("bmn_400x100")
    with torch.no_grad():
        confidence_map, start, end = bmn_400x100(fixture_input(fixture))
    close(confidence_map, fixture["confidence_map"], 5e-6)
    close(start, fixture["start"])
    close(end, fixture["end"])


def test_small_bmn_output_agrees_with_mmaction2():
    fixture = load("bmn_small_16x20")
    outputs = filled(bmn.BMN(**SMALL_BMN))(fixture_input(fixture))
    for output, name in zip(outputs, ("confidence_map", "start", "end"), strict=True):
        close(output.detach(), fixture[name], 2e-6)


def test_bmn_refuses_features_of_another_length():
    with pytest.raises(ValueError, match=r"shape \(1, 16, 19\); need \[N, 16, 20\]"):
        bmn.BMN(**SMALL_BMN)(torch.zeros(1, 16, 19))


# Boundary matching


def slow_mask(num_positions, num_samples, per_bin):
    """The definition, point by point."""
    mask = np.zeros((num_positions, num_samples, num_positions, num_positions))
    for d in range(num_positions):
        for s in range(num_positions - d):
            q = d + 1
            points = np.linspace(s - 0.5 * q, s + d + 0.5 * q, num_samples * per_bin)
            for p, v in enumerate(points):
                f = v - int(v)
                for row, weight in ((int(v), 1 - f), (int(np.ceil(v)), f)):
                    if 0 <= row < num_positions:
                        mask[row, p // per_bin, d, s] += weight / per_bin
    return mask


def test_sample_mask_agrees_with_mmaction2():
    fixture = load("bmn_small_16x20")
    np.testing.assert_array_equal(bmn.boundary_matching_mask(20, 8), fixture["sample_mask"])


def test_large_sample_mask_agrees_with_mmaction2(bmn_400x100):
    fixture = load("bmn_400x100")
    mask = bmn_400x100.sample_mask.detach().view(100, 32, 100, 100)
    close(mask.sum((0, 1)), fixture["sample_mask_sum_over_time_and_sample"])
    for (d, s), expected in zip(fixture["sample_mask_pairs"], fixture["sample_mask_slices"], strict=True):
        close(mask[:, :, d, s], expected)
    assert bmn_400x100.bm_mask.sum() == fixture["bm_mask_total"]


@pytest.mark.parametrize("num_positions, num_samples, per_bin", [(5, 4, 3), (7, 3, 2), (12, 6, 1)])
def test_sample_mask_of_any_size_is_its_definition(num_positions, num_samples, per_bin):
    expected = slow_mask(num_positions, num_samples, per_bin)
    close(bmn.boundary_matching_mask(num_positions, num_samples, per_bin), expected)


def published_form(layer, mask, features):
    """Dense product with the mask, then the 3D convolution."""
    num_samples, num_positions = mask.shape[1:3]
    sampled = (features @ mask.view(num_positions, -1)).view(*features.shape[:2], num_samples, *[num_positions] * 2)
    return torch.nn.functional.conv3d(sampled, layer.weight, layer.bias).squeeze(2)


def test_boundary_matching_and_its_gradients_equal_the_dense_product_and_convolution():
    torch.manual_seed(0)
    mask = bmn.boundary_matching_mask(9, 4).double()
    layer = bmn.BoundaryMatchingConv(6, 5, 4, mask).double()
    features = torch.randn(3, 6, 9, dtype=torch.double, requires_grad=True)
    gradient = torch.randn(3, 5, 9, 9, dtype=torch.double)
    results = []
    for output in (layer(features), published_form(layer, mask, features)):
        results.append((output, *torch.autograd.grad(output, (features, layer.weight, layer.bias), gradient)))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_sparse_product_passes_numerical_checks_of_first_and_second_gradients():
    torch.manual_seed(0)
    dense = torch.randn(4, 6, dtype=torch.double) * (torch.rand(4, 6) < 0.5)
    matrix = bmn.SparseMatrix(dense)
    factor = torch.randn(2, 6, 3, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(matrix(factor), dense @ factor)
    assert torch.autograd.gradcheck(matrix, factor)
    assert torch.autograd.gradgradcheck(matrix, factor)


def test_bmn_follows_the_sample_mask_of_a_checkpoint():
    model = bmn.BMN(**SMALL_BMN)
    state = {**model.state_dict(), "sample_mask": 2 * model.sample_mask.detach()}
    features = torch.randn(1, 32, 20)
    before = model.x_3d_p[0](features)
    model.load_state_dict(state)
    bias = model.x_3d_p[0].bias.view(-1, 1, 1)
    torch.testing.assert_close(model.x_3d_p[0](features) - bias, 2 * (before - bias))


def test_every_trainable_parameter_of_bmn_gets_a_gradient_and_the_mask_none():
    model = bmn.BMN(**SMALL_BMN)
    labels = bmn.bmn_labels([[[0.1, 0.5]], [[0.3, 0.9]]], 20)
    bmn.bmn_loss(model(torch.randn(2, 16, 20)), labels).total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name == "sample_mask")
        assert name == "sample_mask" or parameter.grad.abs().sum() > 0, name


def test_bmn_traces_whole_for_compilation_with_equal_output_and_gradient():
    model = bmn.BMN(**SMALL_BMN)
    compiled = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    features = torch.randn(2, 16, 20)
    labels = bmn.bmn_labels([[[0.1, 0.5]], [[0.3, 0.9]]], 20)
    draws = tuple(torch.rand(2, 2, 20, 20))
    for network in (model, compiled):
        bmn.bmn_loss(network(features), labels, draws=draws).total.backward()
    torch.testing.assert_close(compiled(features), model(features))
    for actual, expected in zip(compiled.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad)


def test_bmn_under_bfloat16_autocast_stays_near_float32_and_its_loss_is_float32():
    model = filled(bmn.BMN(**SMALL_BMN))
    features = fixture_input(load("bmn_small_16x20"))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(features)
    assert output[0].dtype == torch.bfloat16
    torch.testing.assert_close(output[0].float(), model(features)[0], rtol=0, atol=0.1)
    labels = bmn.bmn_labels([[[0.1, 0.5]]] * 3, 20)
    assert bmn.bmn_loss(output, labels).total.dtype == torch.float32


# Labels


def slow_iou(a, g):
    shared = max(min(a[1], g[1]) - max(a[0], g[0]), 0)
    union = (a[1] - a[0]) + (g[1] - g[0]) - shared
    return shared / union if union > 0 else 0.0


def slow_iop(a, g):
    return max(min(a[1], g[1]) - max(a[0], g[0]), 0) / (a[1] - a[0])


def test_overlaps_of_hand_computed_segments():
    anchors = [[0, 4], [2, 2], [5, 6]]
    segments = [[0, 4], [2, 6], [2, 2]]
    close(localization.segment_iou(anchors, segments), [[1, 1 / 3, 0], [0, 0, 0], [0, 0.25, 0]])
    close(localization.segment_iop(anchors, segments), [[1, 0.5, 0], [0, 0, 0], [0, 1, 0]])


def test_segments_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"segments have shape \(3,\)"):
        localization.segment_iou([[0, 1]], [0.1, 0.2, 0.3])


def test_tem_labels_agree_with_mmaction2():
    fixture = load("bsn_tem_400x100")
    labels = bsn.tem_labels([fixture["gt_bbox_0"], fixture["gt_bbox_1"]])
    close(labels.action, fixture["label_action"])
    close(labels.start, fixture["label_start"])
    close(labels.end, fixture["label_end"])
    anchors = np.stack([fixture["anchors_tmin"], fixture["anchors_tmax"]], axis=1)
    close(bsn.temporal_anchors(100), anchors)


@pytest.mark.parametrize("name, num_positions", [("bmn_small_16x20", 20), ("bmn_400x100", 100)])
def test_bmn_labels_agree_with_mmaction2(name, num_positions):
    fixture = load(name)
    batch = int(fixture["input_shape"][0])
    labels = bmn.bmn_labels([fixture[f"gt_bbox_{i}"] for i in range(batch)], num_positions)
    close(labels.start, fixture["label_start"])
    close(labels.end, fixture["label_end"])
    if name == "bmn_400x100":
        close(labels.iou[0], fixture["label_confidence_0"])
    else:
        close(labels.iou, fixture["label_confidence"])


EDGE_CASES = {
    "no segment": [],
    "zero length": [[0.4, 0.4]],
    "beyond the video": [[1.2, 1.5]],
    "across the end": [[0.8, 1.3]],
    "shorter than a position": [[0.51, 0.512]],
    "the whole video": [[0.0, 1.0]],
    "two that overlap": [[0.1, 0.6], [0.4, 0.7]],
}


@pytest.mark.parametrize("segments", EDGE_CASES.values(), ids=EDGE_CASES)
def test_labels_are_their_definition_position_by_position(segments):
    n = 10
    tem = bsn.tem_labels([segments], n)
    labels = bmn.bmn_labels([segments], n)
    for t in range(n):
        anchor, wide = (t / n, (t + 1) / n), ((t - 0.5) / n, (t + 1.5) / n)
        half = [0.5 * max(1 / n, 0.1 * (e - s)) for s, e in segments]
        for label, bounds in ((tem.start, [s for s, _ in segments]), (tem.end, [e for _, e in segments])):
            regions = [(b - h, b + h) for b, h in zip(bounds, half, strict=True)]
            close(label[0, t], max([slow_iop(anchor, r) for r in regions], default=0))
        close(tem.action[0, t], max([slow_iop(anchor, g) for g in segments], default=0))
        for label, side in ((labels.start, 0), (labels.end, 1)):
            regions = [(g[side] - 1.5 / n, g[side] + 1.5 / n) for g in segments]
            close(label[0, t], max([slow_iop(wide, r) for r in regions], default=0))
        for d in range(n):
            cell = (t / n, (t + d + 1) / n)
            close(labels.iou[0, d, t], max([slow_iou(cell, g) for g in segments], default=0))


@pytest.mark.parametrize("segments", EDGE_CASES.values(), ids=EDGE_CASES)
def test_losses_of_edge_cases_stay_finite(segments):
    torch.manual_seed(0)
    tem = bsn.tem_loss(torch.rand(1, 3, 10), bsn.tem_labels([segments], 10))
    output = (torch.rand(1, 2, 10, 10), torch.rand(1, 10), torch.rand(1, 10))
    loss = bmn.bmn_loss(output, bmn.bmn_labels([segments], 10), sampling="intended")
    assert torch.isfinite(torch.stack([*tem, *loss])).all()


# Losses


def test_weighted_logistic_loss_agrees_with_mmaction2():
    fixture = load("bsn_tem_400x100")
    scores = torch.from_numpy(fixture["synthetic_score"])
    labels = {
        "vs_action": torch.from_numpy(fixture["label_action"]),
        "vs_start": torch.from_numpy(fixture["label_start"]),
        "no_positive": torch.zeros_like(scores),
        "all_positive": torch.ones_like(scores),
    }
    for name, label in labels.items():
        loss = localization.weighted_logistic_loss(scores, label)
        close(loss, fixture[f"synthetic_loss_{name}"], 1e-6)


def test_tem_loss_agrees_with_mmaction2():
    fixture = load("bsn_tem_400x100")
    labels = bsn.tem_labels([fixture["gt_bbox_0"], fixture["gt_bbox_1"]])
    loss = bsn.tem_loss(torch.from_numpy(fixture["output"]), labels)
    expected = [fixture["loss_action_weighted"], fixture["loss_start"], fixture["loss_end"]]
    close([2 * loss.action, loss.start, loss.end], expected)
    close(loss.total, sum(expected))


@pytest.mark.parametrize("name, num_positions", [("bmn_small_16x20", 20), ("bmn_400x100", 100)])
def test_bmn_loss_agrees_with_mmaction2(name, num_positions):
    fixture = load(name)
    n, t = int(fixture["input_shape"][0]), num_positions
    labels = bmn.bmn_labels([fixture[f"gt_bbox_{i}"] for i in range(n)], t)
    random = np.random.RandomState(int(fixture["input_seed"]) + 70)
    draws = tuple(torch.from_numpy(random.rand(n, t, t).astype(np.float32)) for _ in range(2))
    output = tuple(torch.from_numpy(fixture[part]) for part in ("confidence_map", "start", "end"))
    close(bmn.bmn_loss(output, labels, draws=draws), fixture["loss"])
    close(bmn.bmn_loss(synthetic_scores(fixture, n, t), labels, draws=draws), fixture["synthetic_loss"])


def synthetic_scores(fixture, n, t):
    random = np.random.RandomState(int(fixture["input_seed"]) + 60)
    shapes = ((n, 2, t, t), (n, t), (n, t))
    return tuple(torch.from_numpy((0.02 + 0.96 * random.rand(*shape)).astype(np.float32)) for shape in shapes)


def loss_case(case, **options):
    fixture = load("bmn_loss_cases")
    names = (
        "pred_bm",
        "pred_start",
        "pred_end",
        f"{case}_iou",
        "label_start",
        "label_end",
        "draw_mid",
        "draw_low",
    )
    tensors = [torch.from_numpy(fixture[name]) for name in names]
    labels = bmn.BMNLabels(*tensors[3:6])
    return bmn.bmn_loss(tuple(tensors[:3]), labels, draws=tuple(tensors[6:]), **options), fixture[f"{case}_loss"]


@pytest.mark.parametrize("case", ["typical", "more_high_than_mid", "no_high"])
def test_bmn_loss_agrees_with_mmaction2_in_its_odd_cases_too(case):
    loss, expected = loss_case(case)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_intended_bmn_loss_is_the_reference_where_no_share_exceeds_one():
    loss, expected = loss_case("typical", sampling="intended")
    close(loss, expected)


def test_intended_bmn_loss_takes_all_middle_and_low_cells_where_high_ones_outnumber_them():
    loss, _ = loss_case("more_high_than_mid", sampling="intended")
    fixture = load("bmn_loss_cases")
    iou = fixture["more_high_than_mid_iou"] * fixture["bm_mask"]
    chosen = iou > 0
    error = ((fixture["pred_bm"][:, 0] - iou)[chosen] ** 2).mean()
    close(loss.regression, 0.5 * error)


def test_intended_bmn_loss_without_high_cells_is_zero_in_its_regression():
    loss, expected = loss_case("no_high", sampling="intended")
    assert np.isnan(expected[0])
    assert loss.regression == 0
    close(loss.total, expected[1] + expected[3])


def test_pem_loss_agrees_with_mmaction2():
    fixture = load("bsn_pem_400x100")
    best_iou = torch.from_numpy(fixture["reference_temporal_iou"])
    close(bsn.pem_loss(torch.from_numpy(fixture["output"]), best_iou), fixture["loss"])


def test_pem_reference_loss_is_nan_and_the_intended_one_zero_when_no_overlap_is_high():
    output, best_iou = torch.tensor([[0.3], [0.5]]), torch.tensor([0.1, 0.6])
    assert bsn.pem_loss(output, best_iou).isnan()
    assert bsn.pem_loss(output, best_iou, sampling="intended") == 0


def test_pem_intended_loss_draws_as_many_middle_and_twice_as_many_low_proposals_as_high_ones():
    torch.manual_seed(0)
    best_iou = torch.tensor([0.9] * 200 + [0.4] * 1000 + [0.1] * 4000)
    # Errors of 0.1 or 0 make the loss count the proposals of one group among those chosen.
    shares = []
    for group in (best_iou > 0.6, (best_iou > 0.2) & (best_iou <= 0.6), best_iou <= 0.2):
        output = best_iou + 0.1 * group
        losses = [bsn.pem_loss(output, best_iou, sampling="intended") / (0.5 * 0.1**2) for _ in range(50)]
        shares.append(torch.stack(losses).mean().item())
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=0.01)


def test_losses_draw_from_the_generator_they_are_given():
    output, best_iou = torch.rand(500, 1), torch.linspace(0, 0.7, 500)

    def losses(seed):
        return [bsn.pem_loss(output, best_iou, sampling="intended", generator=torch.Generator().manual_seed(seed))]

    assert losses(1) == losses(1) != losses(2)


@pytest.mark.parametrize("loss", [
    lambda: bsn.pem_loss(torch.rand(2, 1), torch.rand(2), sampling="plain"),
    lambda: bmn.bmn_loss(tuple(map(torch.rand, [(1, 2, 4, 4), (1, 4), (1, 4)])), None, sampling="plain"),
])  # fmt: skip
def test_an_unknown_sampling_is_refused(loss):
    with pytest.raises(ValueError, match="sampling='plain'; need 'reference' or 'intended'"):
        loss()


# Proposals


def slow_candidates(scores):
    top = max(scores)
    inner = range(1, len(scores) - 1)
    return [t for t in inner if scores[t - 1] < scores[t] > scores[t + 1] or scores[t] > 0.5 * top]


def test_candidates_of_a_hand_made_curve_are_its_peaks_and_what_exceeds_half_its_maximum():
    #         first peak  -    peak  -    -     above half  -   last
    scores = [0.90, 0.95, 0.1, 0.20, 0.1, 0.50, 1.00, 1.00, 0.4, 0.8]
    assert np.flatnonzero(localization.boundary_candidates(scores)).tolist() == [1, 3, 6, 7]


def test_proposals_agree_with_mmaction2():
    fixture = load("bsn_pgm_postprocess")
    table = fixture["tem_results"]
    proposals = bsn.generate_proposals(table[:, 1], table[:, 2], top_k=10**6)
    assert len(proposals) == fixture["num_proposals"]
    covered = float(fixture["feature_frame"] / fixture["duration_frame"] * fixture["duration_second"])
    overlaps = bsn.proposal_overlaps(proposals, fixture["segments"] / covered)
    close(np.concatenate([proposals, overlaps], axis=1)[:400], fixture["proposals"])


def test_proposals_are_all_pairs_of_a_candidate_start_and_a_later_candidate_end():
    random = np.random.RandomState(3)
    start, end = random.rand(2, 30)
    starts, ends = ({0, 29, *slow_candidates(scores)} for scores in (start, end))
    expected = [
        ((s + 0.5) / 30, (e + 0.5) / 30, start[s], end[e], start[s] * end[e])
        for s in starts for e in ends if s < e
    ]  # fmt: skip
    expected.sort(key=lambda row: -row[4])
    close(bsn.generate_proposals(start, end), expected)
    close(bsn.generate_proposals(start, end, top_k=7), expected[:7])


def test_proposals_of_a_single_position_are_none():
    assert bsn.generate_proposals([0.7], [0.7]).shape == (0, 5)


def slow_feature(actionness, tmin, tmax):
    """One proposal, point by point."""
    n = len(actionness)
    gap = 1 / n
    times = [(t + 0.5) * gap for t in range(-1000, n + 1000)]
    heights = [0.0] * 1000 + list(actionness) + [0.0] * 1000
    length = tmax - tmin
    feature = []
    for a, b, count in (
        (tmin, tmax, 16),
        (tmin - 0.2 * length, tmin + 0.2 * length, 8),
        (tmax - 0.2 * length, tmax + 0.2 * length, 8),
    ):
        d = (b - a) / (count - 1)
        for j in range(count):
            points = [a - d / 2 + k * d / 3 for k in range(3 * j, 3 * j + 4)]
            feature.append(np.mean([np.interp(v, times, heights) for v in points]))
    return feature


def test_proposal_features_agree_with_mmaction2():
    fixture = load("bsn_pgm_postprocess")
    features = bsn.proposal_features(fixture["tem_results"][:, 0], fixture["proposals"][:60])
    assert features.dtype == np.float32
    close(features, fixture["bsp_feature"])


@pytest.mark.parametrize("num_positions", [8, 100])
def test_proposal_features_are_their_definition_inside_and_at_the_edges(num_positions):
    actionness = np.random.RandomState(0).rand(num_positions)
    proposals = np.array([[0.0, 1.0], [0.1, 0.3], [0.95, 1.0], [0.0, 0.05]])
    expected = [slow_feature(actionness, *row) for row in proposals]
    close(bsn.proposal_features(actionness, proposals), expected, 2e-5)


@pytest.mark.parametrize("name, num_positions", [("bmn_small_16x20", 20), ("bmn_400x100", 100)])
def test_bmn_detections_agree_with_mmaction2(name, num_positions):
    fixture = load(name)
    scores = [part[0] for part in synthetic_scores(fixture, int(fixture["input_shape"][0]), num_positions)]
    found = localization.detections(bmn.bmn_proposals(*scores), seconds_of(fixture), bmn.BMN_SOFT_NMS)
    close_detections(found, fixture["predict_segment"], fixture["predict_score"])


def test_bmn_proposals_are_all_cells_between_candidates():
    random = np.random.RandomState(5)
    n = 15
    confidence, start, end = random.rand(2, n, n), random.rand(n), random.rand(n)
    starts = [0, *slow_candidates(start)]
    ends = [*slow_candidates(end), n - 1]
    expected = [
        (s / n, e / n, start[s] * end[e] * confidence[1, e - s - 1, s] * confidence[0, e - s - 1, s])
        for s in starts for e in ends if e > s
    ]  # fmt: skip
    expected.sort(key=lambda row: -row[2])
    close(bmn.bmn_proposals(confidence, start, end), expected)


# Post-processing


def slow_soft_nms(rows, settings, max_proposals):
    rows, chosen = [list(row) for row in rows], []
    while rows and len(chosen) < max_proposals:
        best = max(rows, key=lambda row: row[2])
        rows.remove(best)
        chosen.append(best)
        for row in rows:
            iou = slow_iou(row, best)
            if iou > settings.low + (settings.high - settings.low) * (best[1] - best[0]):
                row[2] *= np.exp(-(iou**2) / settings.alpha)
    return chosen


@pytest.mark.parametrize("name, settings", [("bsn", bsn.BSN_SOFT_NMS), ("bmn", bmn.BMN_SOFT_NMS)])
def test_soft_nms_and_post_processing_agree_with_mmaction2(name, settings):
    fixture = load("bsn_pgm_postprocess")
    table = fixture["tem_results"]
    proposals = bsn.generate_proposals(table[:, 1], table[:, 2], top_k=10**6)[:, [0, 1, 4]]
    close(localization.soft_nms(proposals, settings, max_proposals=101), fixture[f"soft_nms_{name}"])
    found = localization.detections(proposals, seconds_of(fixture), settings)
    close_detections(found, fixture[f"post_{name}_segment"], fixture[f"post_{name}_score"])
    single = localization.detections(proposals[:1], seconds_of(fixture), settings)
    close_detections(single, [fixture["post_single_segment"]], [fixture["post_single_score"]])


def test_bsn_detections_from_pem_agree_with_mmaction2():
    fixture = load("bsn_pem_400x100")
    output = filled(bsn.PEM())(torch.from_numpy(fixture["predict_bsp_feature"])).detach()
    scored = bsn.pem_scores(output, fixture["predict_proposals"])
    found = localization.detections(scored, seconds_of(fixture), bsn.BSN_SOFT_NMS)
    close_detections(found, fixture["predict_segment"], fixture["predict_score"])


def test_soft_nms_of_a_hand_computed_case():
    # IoU of the first two is 0.8 > 0.5 + 0.4 * 0.5; the third touches neither.
    rows = [[0.0, 0.5, 0.9], [0.0, 0.4, 0.8], [0.6, 0.7, 0.5]]
    decayed = 0.8 * np.exp(-(0.8**2) / 0.4)  # 0.1615
    settings = SoftNMS(alpha=0.4, low=0.5, high=0.9)
    close(localization.soft_nms(rows, settings), [rows[0], rows[2], [0.0, 0.4, decayed]])


@pytest.mark.parametrize("settings", [bsn.BSN_SOFT_NMS, bmn.BMN_SOFT_NMS, SoftNMS(0.5, 0.0, 0.0)])
def test_soft_nms_equals_the_slow_form_on_random_proposals(settings):
    random = np.random.RandomState(1)
    spans = np.sort(random.rand(60, 2), axis=1)
    spans[::7, 1] = spans[::7, 0]  # some of zero length
    rows = np.concatenate([spans, random.rand(60, 1)], axis=1)
    close(localization.soft_nms(rows, settings, max_proposals=40), slow_soft_nms(rows, settings, 40))


def test_soft_nms_leaves_its_input_as_it_was():
    rows = np.array([[0.0, 1.0, 0.9], [0.0, 1.0, 0.8]])
    before = rows.copy()
    localization.soft_nms(rows, bmn.BMN_SOFT_NMS)
    np.testing.assert_array_equal(rows, before)


def test_detections_of_no_proposal_are_none():
    assert localization.detections(np.zeros((0, 3)), 10.0, bmn.BMN_SOFT_NMS) == []


@pytest.mark.parametrize("num_frames, duration, expected", [
    (1437, 57.48, 1424 / 1437 * 57.48),  # 89 whole snippets
    (160, 6.4, 6.4),                     # no remainder
    (1, 0.04, 0.04),                     # one frame: no snippet at all, so the whole video
])  # fmt: skip
def test_covered_seconds(num_frames, duration, expected):
    assert localization.covered_seconds(num_frames, duration) == pytest.approx(expected)


def test_result_files_are_read_back_and_never_half_written(tmp_path):
    path = tmp_path / "results.json"
    results = {"v1": [{"score": 0.5, "segment": [1.0, 2.5]}], "v2": []}
    localization.write_results(path, results)
    assert set(json.loads(path.read_text())) == {"version", "results", "external_data"}
    assert localization.read_results(path) == results
    with pytest.raises(TypeError):
        localization.write_results(path, {"v1": [{"score": object(), "segment": []}]})
    assert localization.read_results(path) == results
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["[1, 2]", "{", '{"results": {"v1": 3}}'])
def test_what_is_no_result_file_is_refused_by_name(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json: not a result file"):
        localization.read_results(path)


def test_bare_result_files_are_read_too(tmp_path):
    path = tmp_path / "bare.json"
    path.write_text('{"v1": [{"score": 1, "segment": [0, 1]}]}')
    assert localization.read_results(path) == {"v1": [{"score": 1, "segment": [0, 1]}]}
