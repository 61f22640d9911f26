"""Counter-based random numbers: what is random about a sample is a pure function of (seed, epoch, dataset
index, how often that index was drawn before in the epoch).

In: a few integers. Out: a numpy Generator on Philox at the start of that sample's own stream, so the same
clip comes out for any number of threads, rank layout, resume point or device. sampling.py and crops.py decide
which draws a sample makes, and in which order; they draw float64 uniforms only, whose stream NumPy keeps
stable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator, Philox
from numpy.random.bit_generator import ISeedSequence

_MASK = 0xFFFF_FFFF_FFFF_FFFF


class _NoEntropy(ISeedSequence):
    """Stands in for the entropy of the operating system, which NumPy would ask for (15 us) only to be overwritten."""

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        return np.zeros(n_words, dtype)


_NO_ENTROPY: Any = _NoEntropy()  # Any: the types of NumPy name SeedSequence alone


def sample_rng(seed: int, epoch: int, index: int, draw: int = 0, stands_for: int = -1) -> Generator:
    """Returns a new Generator at the start of the stream of sample `index` in `epoch` under `seed`.

    draw: 0 the first time that the index is drawn in the epoch, then 1, 2 and so on. stands_for: the index
    for which the sample is a substitute, -1 if for none. Philox-4x64 with key (seed, epoch) and counter
    (0, stands_for + 1, draw, index), each taken modulo 2**64: streams of different samples never overlap
    (each owns 2**64 blocks). Takes about 8 microseconds; `rekey` does the same to an existing Generator in 1.
    """
    rng = Generator(Philox(_NO_ENTROPY))
    rekey(rng, seed, epoch, index, draw, stands_for)
    return rng


def transform_rng(seed: int, epoch: int, index: int, draw: int = 0, stands_for: int = -1) -> Generator:
    """For what is done to the clip of a sample: the second half of its stream, which nothing else draws from."""
    rng = Generator(Philox(_NO_ENTROPY))
    rekey(rng, seed, epoch, index, draw, stands_for, first_block=1 << 63)
    return rng


def batch_rng(seed: int, epoch: int, index: int, draw: int = 0) -> Generator:
    """For what is done to a batch: the last quarter of the stream of its first sample."""
    rng = Generator(Philox(_NO_ENTROPY))
    rekey(rng, seed, epoch, index, draw, first_block=3 << 62)
    return rng


def rekey(
    rng: Generator, seed: int, epoch: int, index: int, draw: int = 0, stands_for: int = -1, first_block: int = 0
) -> None:
    """Moves `rng` (from `sample_rng`, used by one thread at a time) to the start of another sample's
    stream, or to one of its 2**64 blocks."""
    rng.bit_generator.state = {
        "bit_generator": "Philox",
        "state": {
            "counter": (first_block, (stands_for + 1) & _MASK, draw & _MASK, int(index) & _MASK),
            "key": (int(seed) & _MASK, int(epoch) & _MASK),
        },
        "buffer": (0, 0, 0, 0),
        "buffer_pos": 4,  # the buffer of four words is used up: the next draw starts a block
        "has_uint32": 0,
        "uinteger": 0,
    }
