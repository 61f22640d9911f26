"""Two gloo processes with half the batch each compute what one process computes with all of it.

Under DDP and under FSDP. Batch norm is frozen: with batch statistics, halves of a batch differ from the whole
by definition.
"""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from vidload import models

NUM_STEPS = 2


def build():
    torch.manual_seed(0)
    model = models.create("slowfast_r50_4x16x1", 5, width=16, depths=(1, 1, 1, 1), dropout=0.0)
    model.freeze_bn(partial=False)
    return model


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, 16, 32, 32, generator=generator), torch.tensor([0, 3, 1, 4])


def trained(model, clips, labels):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(clips), labels).backward()
        optimizer.step()
    return model


def one_rank(rank, store, directory):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    clips, labels = batch()
    clips, labels = clips[rank::2], labels[rank::2]
    replicated = trained(DistributedDataParallel(build()), clips, labels).module
    if rank == 0:
        torch.save(replicated.state_dict(), directory / "ddp.pth")
    model = build()
    for stage in (*model.backbone.slow_path.stages, *model.backbone.fast_path.stages):
        fully_shard(stage)
    sharded = trained(fully_shard(model), clips, labels)
    full = {k: v.full_tensor() if hasattr(v, "full_tensor") else v for k, v in sharded.state_dict().items()}
    if rank == 0:
        torch.save(full, directory / "fsdp.pth")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("distributed")
    mp.spawn(one_rank, (directory / "store", directory), nprocs=2)
    return directory


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_two_processes_give_the_single_process_result(directory, wrapper):
    want = trained(build(), *batch()).state_dict()
    got = torch.load(directory / f"{wrapper}.pth", weights_only=True)
    assert list(got) == list(want)
    assert not torch.equal(want["cls_head.fc_cls.weight"], build().state_dict()["cls_head.fc_cls.weight"])
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")
