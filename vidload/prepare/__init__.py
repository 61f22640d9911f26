"""Makes datasets ready: checks them, re-encodes videos for loading, extracts their frames, writes their features.

In: a folder or an annotation list. Out: a folder that the datasets can read. Every run can be stopped at any moment and resumes where it
stopped; a video that fails is listed with its reason.
"""

from vidload.prepare.check_file import KINDS, Problem
from vidload.prepare.check_page import write_page
from vidload.prepare.checking import CheckReport, FileReport, check
from vidload.prepare.costs import CLIP_SPECS, Cost, cost_table
from vidload.prepare.reencode import PrepareSummary, dry_run, prepare
from vidload.prepare.settings import PROFILES, EncodeSettings, describe

__all__ = [
    "CLIP_SPECS",
    "KINDS",
    "PROFILES",
    "CheckReport",
    "Cost",
    "EncodeSettings",
    "FileReport",
    "PrepareSummary",
    "Problem",
    "check",
    "cost_table",
    "describe",
    "dry_run",
    "prepare",
    "write_page",
]
