"""Gradient checkpointing of one block: its activations are computed again in the backward pass instead of
being kept.

In: a module and its input. Out: its output. Exact with batch norm: the second forward leaves the running
statistics alone, where `torch.utils.checkpoint` by itself would update them twice a step.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)`; `block` must not draw random numbers."""
    if torch.compiler.is_compiling():  # the compiler recomputes values, never the side effects
        return checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _running_stats_kept(block)

    return checkpoint(  # type: ignore[no-any-return]
        block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
    )


@contextmanager
def _running_stats_kept(block: nn.Module) -> Iterator[None]:
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, num_batches_tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches_tracked
