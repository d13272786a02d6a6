"""Eval sets under a ban: the weights stay what they are, the claims that cite the set lose their support."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ftplatform.licensing.removal.ban import Ban
from ftplatform.licensing.removal.closure import RowSet
from ftplatform.licensing.removal.taint import taint
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement of a release and the eval sets it cites, by snapshot."""

    release: str
    statement: str
    cites: tuple[str, ...]


def claims_supported(claims: Sequence[Claim], eval_sets: Iterable[RowSet], ban: Ban, lineage: Collection[RowSet] = ()) -> Verdict:
    """Is every claim of a release still supported once the banned rows are gone?

    A claim that cites an eval set in which at least one row fell is `unsupported`: its number was computed on data that may not be
    used, and nobody knows what it would be without. The weights are not touched by that; see `check.influence_removed`.

    Args:
        claims: what releases state.
        eval_sets: the eval sets they cite, with their rows.
        lineage: row sets in which parents of eval rows are looked up.

    Returns:
        Fail if a claim is unsupported; insufficient evidence if there is no claim, a cited set is not among `eval_sets`, or cannot be
        decided; else pass. `details["claims"]` holds the standing of every claim.
    """
    sets = list(eval_sets)
    spread = taint([*sets, *lineage], ban)
    fallen = spread.rows.select("row_id")
    hit: dict[str, int] = {}
    rows: dict[str, int] = {}
    doubtful: set[str] = set()
    for eval_set in sets:
        hit[eval_set.snapshot] = rows[eval_set.snapshot] = 0
        for table in eval_set.tables(["row_id"]):
            frame = pl.DataFrame(pl.from_arrow(table))
            rows[eval_set.snapshot] += frame.height
            hit[eval_set.snapshot] += frame.join(fallen, on="row_id", how="semi").height
            if frame.join(spread.undecided, on="row_id", how="semi").height:
                doubtful.add(eval_set.snapshot)
    names = {eval_set.snapshot: eval_set.name for eval_set in sets}
    standings = [_standing(claim, names, rows, hit, doubtful) for claim in claims]
    lost = [s for s in standings if s["standing"] == "unsupported"]
    unknown = [s for s in standings if s["standing"] == "unknown"]
    common: dict[str, Any] = {
        "statistic": "claims whose eval sets hold no row that fell",
        "estimate": (len(claims) - len(lost) - len(unknown)) / len(claims) if claims else None,
        "n": len(claims),
        "n_required": 1,
        "threshold": 1.0,
        "check_version": CHECK_VERSION,
        "config": {"ban": ban.digest, "eval_sets": sorted(names)},
        "evidence": [*lost, *unknown][:MAX_EVIDENCE],
        "details": {"claims": standings, "rows_fallen": {names[s]: count for s, count in hit.items() if count}},
    }
    if lost:
        first = lost[0]
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{len(lost)} of {len(claims)} claims are unsupported, first {first['release']}: {first['problem']}.",
            remedy="Evaluate again on an eval set without these rows, and withdraw the claims until then.",
            **common,
        )
    if not claims or unknown:
        what = (
            f"{len(unknown)} of {len(claims)} claims cannot be judged: {unknown[0]['problem']}"
            if unknown
            else "there are no claims"
        )
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"Nothing is shown: {what}.",
            remedy="Give the rows of every eval set that is cited, and the rows they were derived from.",
            **common,
        )
    return Verdict(
        decision=Decision.PASS,
        summary=f"No row of the eval sets cited by {len(claims)} claims fell under notice {ban.notice}.",
        remedy="Nothing to do.",
        **common,
    )


def _standing(
    claim: Claim, names: Mapping[str, str], rows: Mapping[str, int], hit: Mapping[str, int], doubtful: Collection[str]
) -> dict[str, str]:
    problems = [f"{hit[s]} of {rows[s]} rows of {names[s]} fell" for s in claim.cites if hit.get(s)]
    doubts = [f"{s[:16]} is not among the eval sets" for s in claim.cites if s not in names]
    doubts += [f"{names[s]} has no rows" for s in claim.cites if s in names and not rows[s]]
    doubts += [f"{names[s]} has rows of unknown descent" for s in claim.cites if s in doubtful]
    doubts += [] if claim.cites else ["it cites no eval set"]
    standing = "unsupported" if problems else "unknown" if doubts else "supported"
    return {
        "release": claim.release,
        "statement": claim.statement,
        "standing": standing,
        "problem": (problems or doubts or [""])[0],
    }
