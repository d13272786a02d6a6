"""The behavior policy of a project, read from its file, and what a dataset does about habits under it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.defs.keys import Family, asset_name
from ftplatform.defs.plan import Plan
from ftplatform.errors import ProjectError
from ftplatform.project.behavior import load_behavior_policy
from ftplatform.rows.exact import drop_exact_duplicates
from ftplatform.targets.habits.detection import Habit, scan
from ftplatform.targets.habits.policy import Policy
from ftplatform.targets.habits.remedies import CHANGES_SCHEMA, MissingTemplate, masks, rewrite, to_tool_call


@dataclass(frozen=True)
class WithoutHabits:
    """Attributes:
    rows: all rows; those whose text changed have new ids, and two that say the same now are one.
    masks: what is read and not learned (`MASKS_SCHEMA`).
    changes: what was done to each sentence of a changed row (`CHANGES_SCHEMA`).
    counts: sentences `masked`, `rewritten`, and made true by `tool_calls`.
    """

    rows: pa.Table
    masks: pa.Table
    changes: pa.Table
    counts: Mapping[str, int]


def behavior_policy(plan: Plan, uri: str) -> Policy:
    """The policy in the file that the project names.

    Raises:
        ProjectError: it cannot be read, or is wrong (every problem with its line).
    """
    try:
        data = Path(plan.loaded.resolve(uri)).read_bytes()
    except OSError as error:
        raise ProjectError(f"behavior_policy {uri} cannot be read: {error.strerror}.", remedy="Correct the path.") from error
    return Policy.of(load_behavior_policy(data, file=uri).document())


def brand_reference(plan: Plan, uri: str, policy: Policy) -> str | None:
    """Asset of the approved texts the policy in the file `uri` names; None if it names none.

    Raises:
        ProjectError: the project has no such source.
    """
    name = policy.voice.reference
    if name is not None and name not in plan.project.sources:
        raise ProjectError(
            f"{uri}: voice.reference names the source {name!r}, which the project does not have.",
            remedy="Add the source of approved texts to `sources`, or correct the name.",
        )
    return None if name is None else asset_name(Family.RAW, name)


def without_habits(rows: pa.Table, remedies: Mapping[Habit, str], policy: Policy) -> WithoutHabits:
    """Rows with the remedies of a dataset: first what rewrites, then the calls that make claims true, last the masks.

    A sentence that was rewritten needs no call, and a promise may stand once the call is there. A claim that no call of the policy
    makes true is masked.

    Args:
        remedies: ``rewrite``, ``tool_call`` or ``mask`` by habit.

    Raises:
        MissingTemplate: the policy has no text in place of a sentence that is to be rewritten, or no tool with a `call`.
    """
    by_remedy = {how: [habit for habit, chosen in remedies.items() if chosen == how] for how in ("rewrite", "tool_call", "mask")}
    if by_remedy["tool_call"] and not any(tool.call for tool in policy.tools):
        raise MissingTemplate(
            f"A dataset turns claims into calls (tool_call), and no tool of behavior policy {policy.name} says how it is called.",
            remedy="Give a tool a `call` with its arguments, or mask the sentences.",
        )
    changes = [CHANGES_SCHEMA.empty_table()]
    for how, change in (("rewrite", rewrite), ("tool_call", to_tool_call)):
        if habits := by_remedy[how]:
            done = change(rows, scan(rows, policy, habits=habits).unallowed(), policy)
            rows = drop_exact_duplicates(done.rows)[0]
            changes.append(done.changes.filter(pc.not_equal(done.changes["action"], "no_tool")))
    left = scan(rows, policy, habits=[*by_remedy["tool_call"], *by_remedy["mask"]])
    hidden = masks(left.unallowed())
    changed = pa.concat_tables(changes)
    calls = pl.Series(changed["action"], dtype=pl.String).eq("tool_call").sum()
    counts = {"masked": hidden.num_rows, "rewritten": changed.num_rows - calls, "tool_calls": calls}
    return WithoutHabits(rows, hidden, changed, counts)
