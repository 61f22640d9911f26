"""BSN from features to metrics on planted actions: TEM, its proposals, PEM on them, soft-NMS, AR@AN."""

import numpy as np
import pytest
import torch

from vidload.models import bsn, localization
from vidload.models.localization_metrics import average_recall

NUM_POSITIONS, NUM_CHANNELS = 40, 8


def planted(seed, num_videos):
    """Noise, with a channel each for action, start and end: features [N, C, T], segments in 0..1."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(num_videos, NUM_CHANNELS, NUM_POSITIONS)).astype(np.float32)
    segments = []
    for video in features:
        starts = np.array([random.uniform(0.02, 0.3), random.uniform(0.55, 0.7)])
        ends = starts + random.uniform(0.1, 0.25, size=2)
        segments.append(np.stack([starts, ends], axis=1))
        for start, end in (segments[-1] * NUM_POSITIONS).astype(int):
            video[0, start : end + 1] += 4
            video[1, start] += 6
            video[2, end] += 6
    return torch.from_numpy(features), segments


def trained(model, loss, steps, lr):
    """`model` after `steps` of Adam on `loss(model)`, in evaluation mode."""
    optimizer = torch.optim.Adam(model.parameters(), lr, weight_decay=model.recipe.weight_decay)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def proposals_of(tem, features):
    """Proposals [P, 5] and their features [P, 32] of each video."""
    result = []
    for action, start, end in tem(features).numpy():
        proposals = bsn.generate_proposals(start, end, top_k=200)
        result.append((proposals, bsn.proposal_features(action, proposals)))
    return result


def ar_of(scored, segments):
    truth = {str(v): [{"segment": segment} for segment in rows * 10] for v, rows in enumerate(segments)}
    found = {str(v): localization.detections(rows, 10.0, bsn.BSN_SOFT_NMS) for v, rows in enumerate(scored)}
    return average_recall(truth, found)


@pytest.fixture
def one_thread():
    """Steps this small lose more to waiting for each other than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_bsn_learns_planted_actions_and_pem_ranks_its_proposals_better(one_thread):
    torch.manual_seed(0)
    features, segments = planted(seed=1, num_videos=64)
    held_out, held_out_segments = planted(seed=2, num_videos=24)

    labels = bsn.tem_labels(segments, NUM_POSITIONS)
    tem = bsn.TEM(NUM_CHANNELS, hidden=32)
    trained(tem, lambda model: bsn.tem_loss(model(features), labels).total, steps=150, lr=1e-2)

    made = proposals_of(tem, features)
    inputs = torch.from_numpy(np.concatenate([rows for _, rows in made]))
    overlaps = [bsn.proposal_overlaps(rows, truth)[:, 0] for (rows, _), truth in zip(made, segments, strict=True)]
    best_iou = torch.from_numpy(np.concatenate(overlaps))
    assert (best_iou > 0.6).sum() > len(segments)  # the proposals hold good ones to learn from
    pem = trained(
        bsn.PEM(),
        lambda model: bsn.pem_loss(model(inputs), best_iou, sampling="intended"),
        steps=150,
        lr=1e-2,
    )

    tested = proposals_of(tem, held_out)
    by_tem = ar_of([rows[:, [0, 1, 4]] for rows, _ in tested], held_out_segments)
    with torch.no_grad():
        scored = [bsn.pem_scores(pem(torch.from_numpy(inputs)), rows) for rows, inputs in tested]
    by_pem = ar_of(scored, held_out_segments)
    assert by_tem.auc > 75  # random segments get about 50
    assert by_pem.at(2) > by_tem.at(2) + 0.05  # two actions a video
    assert by_pem.at(2) > 0.5
