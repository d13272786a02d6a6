"""What the conversation shows: calls of tools that worked, results that meet a condition, failures of the company.

Tool calls are evidence however a corpus writes them: as JSON in a tool turn, or appended to the assistant turn that makes the call.
All by column: one pass over the turns for each tool and condition of the policy, none for each row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from ftplatform.rows.schema import Role
from ftplatform.targets.habits.policy import Act, Authority, Policy

# Keys under which formats name the tool that is called.
_CALL = r'"(?:name|api|tool|tool_name|function|action)"\s*:\s*"{}"'
_NEVER = 2**31 - 1


def first_calls(turns: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """The first call of each tool in each conversation that matched the tool's condition and did not fail.

    Args:
        turns: `row`, `turn`, `role`, `content` of every turn, in order.

    Returns:
        `row`, `tool` (String), `called` (turn of the call).
    """
    after = pl.col("row").shift(-1) == pl.col("row")
    result = (
        pl.when(pl.col("role") == str(Role.TOOL))
        .then(pl.col("content"))
        .otherwise(
            pl.when(after & (pl.col("role").shift(-1) == str(Role.TOOL))).then(pl.col("content").shift(-1)).otherwise(pl.lit(""))
        )
    )
    spoken = turns.with_columns(failed=result.str.contains(policy.failure)).filter(
        pl.col("role").is_in([str(Role.ASSISTANT), str(Role.TOOL)]) & ~pl.col("failed")
    )
    found = [pl.DataFrame(schema={"row": pl.Int64, "tool": pl.String, "called": pl.Int64})]
    for tool in policy.tools:
        named = pl.col("content").str.contains(_CALL.format(re.escape(tool.name)))
        matches = named if tool.when is None else named & pl.col("content").str.contains(tool.when)
        found.append(
            spoken.filter(matches)
            .group_by("row")
            .agg(called=pl.col("turn").min())
            .select("row", tool=pl.lit(tool.name), called="called")
        )
    return pl.concat(found)


def first_results(turns: pl.DataFrame, patterns: Sequence[str]) -> pl.DataFrame:
    """Turn of the first tool result that matches all of `patterns`, each somewhere: `row`, `shown`; rows without one are left out."""
    results = turns.filter(pl.col("role") == str(Role.TOOL))
    each = [results.filter(pl.col("content").str.contains(p)).group_by("row").agg(shown=pl.col("turn").min()) for p in patterns]
    if not each:
        return turns.select("row", shown=pl.lit(-1, dtype=pl.Int64)).unique("row")
    met = pl.concat(each).group_by("row").agg(pl.col("shown").max(), met=pl.len())
    return met.filter(pl.col("met") == len(patterns)).select("row", "shown")


def without_authority(promises: pl.DataFrame, turns: pl.DataFrame, calls: pl.DataFrame, policy: Policy) -> pl.Series:
    """Why each promise is not covered by the authority table; null where it is.

    A promise is covered by a line of its kind whose amount it stays within, whose conditions an earlier tool result meets, and whose
    tool is called somewhere in the conversation: a promise kept a turn later is kept.

    Args:
        promises: `row`, `turn`, `kind`, `amount`, `currency`, `percent`.
    """
    reasons = pl.DataFrame({"reason": ["no line of the authority table covers it"] * len(promises), "rank": [0] * len(promises)})
    covered = pl.Series([False] * len(promises), dtype=pl.Boolean)
    for line in policy.authorities:
        state = _against(promises, turns, calls, line)
        covered |= state["covered"]
        # The line that comes nearest says why.
        nearer = state["rank"] > reasons["rank"]
        reasons = pl.DataFrame(
            {
                "reason": pl.select(pl.when(nearer).then(state["reason"]).otherwise(reasons["reason"])).to_series(),
                "rank": pl.select(pl.when(nearer).then(state["rank"]).otherwise(reasons["rank"])).to_series(),
            }
        )
    return pl.select(pl.when(covered).then(None).otherwise(reasons["reason"])).to_series().alias("reason").cast(pl.String)


def _against(promises: pl.DataFrame, turns: pl.DataFrame, calls: pl.DataFrame, line: Authority) -> pl.DataFrame:
    """`covered`, `reason`, and `rank`, how near the line comes (a called tool above all), for each promise."""
    placed = promises.join(first_results(turns, line.requires), on="row", how="left", maintain_order="left").join(
        calls.filter(pl.col("tool") == (line.tool or "")).select("row", "called"), on="row", how="left", maintain_order="left"
    )
    of_kind = pl.col("kind").is_in([str(kind) for kind in line.covers])
    amount_fits = pl.lit(True)
    if line.max_amount is not None:
        named = (pl.col("amount") <= line.max_amount) & (pl.col("currency") == line.currency)
        amount_fits = pl.when(pl.col("amount").is_null()).then(~pl.col("percent")).otherwise(named)
    shown = pl.col("shown").fill_null(_NEVER) < pl.col("turn")
    called = pl.lit(True) if line.tool is None else pl.col("called").is_not_null()
    return placed.select(
        covered=of_kind & amount_fits & shown & called,
        rank=pl.when(of_kind)
        .then(1 + 4 * called.cast(pl.Int32) + 2 * shown.cast(pl.Int32) + amount_fits.cast(pl.Int32))
        .otherwise(0),
        reason=pl.when(~of_kind)
        .then(pl.lit("no line of the authority table covers it"))
        .when(~shown)
        .then(pl.lit(f"{line.action}: no earlier tool result meets its conditions"))
        .when(~amount_fits)
        .then(pl.lit(f"{line.action}: at most {line.max_amount} {line.currency}"))
        .otherwise(pl.lit(f"{line.action}: {line.tool} is not called")),
    )


def without_call(claims: pl.DataFrame, calls: pl.DataFrame, policy: Policy) -> pl.Series:
    """Why each claim is a phantom: no earlier call of a tool that does such a thing, or a queue that does not exist; null if neither.

    Args:
        claims: `row`, `turn`, `act`, `queue` (what an escalation was handed to, as named; null if not named).
    """
    does = pl.DataFrame(
        [{"tool": tool.name, "act": str(act)} for tool in policy.tools for act in sorted({*tool.does, Act.OTHER})],
        schema={"tool": pl.String, "act": pl.String},
    )
    backed = calls.join(does, on="tool").group_by("row", "act").agg(pl.col("called").min())
    placed = claims.join(backed, on=["row", "act"], how="left", maintain_order="left")
    called = pl.col("called").fill_null(_NEVER) < pl.col("turn")
    listed = [queue.lower() for queue in policy.queues]
    exists = pl.col("queue").is_null() | pl.col("queue").str.contains_any(listed) if listed else pl.col("queue").is_null()
    return placed.select(
        reason=pl.when(~called)
        .then(pl.concat_str(pl.lit("no earlier tool call does a "), "act"))
        .when(~exists)
        .then(pl.concat_str(pl.lit("the policy lists no queue "), "queue"))
    ).to_series()


def due_apologies(apologies: pl.DataFrame, turns: pl.DataFrame, faults: pl.Series, policy: Policy) -> pl.Series:
    """Whether a failure of the company was known before each apology.

    Args:
        apologies: `row`, `turn`.
        faults: row positions that operations flagged.
    """
    due = apologies["row"].is_in(faults.implode())
    for pattern in policy.apology.evidence:
        placed = apologies.join(first_results(turns, [pattern]), on="row", how="left", maintain_order="left")
        due |= placed.select(pl.col("shown").fill_null(_NEVER) < pl.col("turn")).to_series()
    return due
