"""The store: content-addressed snapshots, manifests, and one atomic pointer per asset. No Dagster.

    blobs/sha256/ab/<hex>            bytes, named by their hash: files of snapshots and records of evaluations
    manifests/ab/<hex>.json          what a snapshot consists of and came from
    heads/<asset>.json               which snapshot is current; moves by compare-and-swap
    evaluations/<asset>/<check>.json what a check last concluded, or that it began and never finished
    waivers/, reviews/, access/      records of what people did, named by their hash and never changed
    rehearsals/, rehearsal_scores/   replays of closures, and what replicates under other seeds scored
    answers/, transcripts/           what models and judges said once; snapshots hold what they need of it, so both may be deleted

Read `store.py` first. Places: a folder (`local.py`), S3 (`s3.py`), memory (`memory.py`).
"""

from __future__ import annotations

from ftplatform.store.drafts import SnapshotDraft
from ftplatform.store.evaluations import Evaluation
from ftplatform.store.heads import UNSET, Head, Unset
from ftplatform.store.integrity import Problem
from ftplatform.store.manifests import FileEntry, InputRef
from ftplatform.store.snapshots import Snapshot
from ftplatform.store.store import Store

__all__ = ["UNSET", "Evaluation", "FileEntry", "Head", "InputRef", "Problem", "Snapshot", "SnapshotDraft", "Store", "Unset"]
