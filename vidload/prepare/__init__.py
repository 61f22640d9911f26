"""Datasets made ready: videos re-encoded for loading, their frames extracted, their features written.

In: a folder or an annotation list. Out: a folder that the datasets read at once. Every run can be stopped at any moment and goes on where
it stopped; a video that fails is listed with its reason.
"""

from vidload.prepare.costs import CLIP_SPECS, Cost, cost_table
from vidload.prepare.reencode import PrepareSummary, dry_run, prepare
from vidload.prepare.settings import PROFILES, EncodeSettings, describe

__all__ = [
    "CLIP_SPECS",
    "PROFILES",
    "Cost",
    "EncodeSettings",
    "PrepareSummary",
    "cost_table",
    "describe",
    "dry_run",
    "prepare",
]
