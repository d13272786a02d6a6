"""What a dataset changes in the texts of its rows: reviewed spelling, then the habits its support team has. Each change is on record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.canonical import sha256_hex
from ftplatform.defs.behavior import behavior_policy, without_habits
from ftplatform.defs.plan import Plan
from ftplatform.project.models import Dataset
from ftplatform.rows.exact import drop_exact_duplicates
from ftplatform.rows.rewriting import REWRITES_SCHEMA, settled
from ftplatform.rows.schema import MASKS_SCHEMA, ROW_SCHEMA
from ftplatform.store import Snapshot, SnapshotDraft
from ftplatform.targets.habits.detection import DETECTION_VERSION, Habit
from ftplatform.targets.variants.cleaning import UNCLEANED_FILE, clean_table
from ftplatform.targets.variants.edits import read_edits

#: Parts of the rows that are read and not learned, where the dataset masks habits.
MASKS_FILE = "masks.parquet"

#: Which row was made from which, and what that one said (`REWRITES_SCHEMA`).
REWRITES_FILE = "rewrites.parquet"

#: Raise when the same edits should give other rows or another record of them.
_VERSION = "2"


def rewrites_of(snapshot: Snapshot) -> pa.Table:
    """What was made from what in a corpus, table of `REWRITES_SCHEMA`; empty where nothing was changed."""
    recorded = any(entry.path == REWRITES_FILE for entry in snapshot.files)
    return snapshot.read_table(REWRITES_FILE) if recorded else REWRITES_SCHEMA.empty_table()


class CorpusEdits:
    """The edits of one dataset."""

    def __init__(self, plan: Plan, name: str, dataset: Dataset) -> None:
        diff = plan.project.language.edits.get(name)
        self._diff = None if diff is None else Path(plan.loaded.resolve(diff))
        self._habits = dataset.habits
        self._policy = plan.project.behavior_policy if dataset.habits is not None else None
        self._plan = plan

    @property
    def config(self) -> dict[str, Any]:
        """Part of the recipe; nothing if there is nothing to edit."""
        if self._diff is None and self._policy is None:
            return {}
        edits = {} if self._diff is None else {"edits": sha256_hex(self._diff.read_bytes())}
        if self._policy is None or self._habits is None:
            return {"editing": _VERSION} | edits
        policy = behavior_policy(self._plan, self._policy)
        habits = {**self._habits.model_dump(), "policy": policy.digest, "detection": DETECTION_VERSION}
        return {"editing": _VERSION, "habits": habits} | edits

    def applied(self, rows: pa.Table, draft: SnapshotDraft) -> tuple[pa.Table, dict[str, Any]]:
        """The edited rows, and what to say about it; the record goes into the draft.

        Two rows that say the same after an edit become one. A changed row names its row of `rows` among its parents.
        """
        before, facts = rows, dict[str, Any]()
        steps = list[Mapping[str, str]]()
        if self._diff is not None:
            edited, counts = clean_table(rows, read_edits(self._diff))
            draft.add_table(UNCLEANED_FILE, rows, ROW_SCHEMA)
            rows, _ = drop_exact_duplicates(edited)
            steps.append(counts.renamed)
            facts["cleaning"] = counts.to_record()
        if self._policy is not None and self._habits is not None:
            remedies = {Habit(name): how for name, how in self._habits.model_dump().items() if how is not None}
            done = without_habits(rows, remedies, behavior_policy(self._plan, self._policy))
            draft.add_table(MASKS_FILE, done.masks, MASKS_SCHEMA)
            draft.add_table("rewritten.parquet", done.changes)
            rows = done.rows
            # Calls are put in after what is rewritten, into rows that may have been rewritten.
            called = pc.equal(done.changes["action"], "tool_call")
            steps += [_renamed(done.changes.filter(pc.invert(called))), _renamed(done.changes.filter(called))]
            facts["habits"] = dict(done.counts)
        if steps:
            rows, record = settled(rows, before, steps)
            draft.add_table(REWRITES_FILE, record, REWRITES_SCHEMA)
        return rows, facts


def _renamed(changes: pa.Table) -> dict[str, str]:
    return dict(zip(changes["row_id"].to_pylist(), changes["new_row_id"].to_pylist(), strict=True))
