"""influence_removed: nothing banned, and nothing that came out of it, is in what an artifact was made from (SPEC M2).

The proof is by row id over every row of the declared closure, not by sampling. Near duplicates and recitation are looked for
besides, because the declaration may be blind to a mirror. Weights that were made to forget never pass: what suppresses an output
does not remove an influence (Zhang et al., ICLR 2025: quantized to 4 bits, most of what was "unlearned" came back).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import polars as pl

from ftplatform.canonical import digest
from ftplatform.licensing.removal.ban import Ban, Reach
from ftplatform.licensing.removal.claim import Claimed
from ftplatform.licensing.removal.closure import Closure
from ftplatform.licensing.removal.examination import Examination, Finding, blocking_sets, examine
from ftplatform.licensing.removal.matching import BANNED, SimilarTexts, Thresholds, find
from ftplatform.licensing.removal.probe import STATISTIC as PROBE_STATISTIC
from ftplatform.licensing.rights import EdgeRole
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"
STATISTIC = "rows of the closure that are banned or derived from banned rows"

REMOVED, NOT_REMOVED, MITIGATED, NOT_SHOWN = "removed", "not_removed", "mitigated_not_removed", "not_shown"


def influence_removed(
    closure: Closure,
    ban: Ban,
    *,
    clean: Collection[str] = (),
    probe: Verdict | None = None,
    claimed: Claimed | None = None,
    near: SimilarTexts | None = None,
    thresholds: Thresholds | None = None,
) -> Verdict:
    """Is the influence of what `ban` bans gone from the artifact of `closure`?

    Args:
        closure: everything the artifact was made from.
        ban: what may not be in it.
        clean: snapshots of models (base models, teachers) that somebody has found clean of the claim. An ancestor is in it, or brings
            its own closure, which is then examined like this one.
        probe: verdict of `probe.regurgitation` on this artifact, its base model and this ban.
        claimed: the claim behind a ban by content, to look for equal and near texts under other ids.
        near: finds near duplicates.

    Returns:
        Fail, naming what was found, if a row that falls, a banned or unexamined ancestor, a cache computed from such a row, an equal or
        near text, recitation, or a treatment that only mitigates is there (`details["status"]` is then ``mitigated_not_removed``).
        Insufficient evidence if part of it could not be looked at. Warn if only rows that a person has to look at are left
        (`Ban.cleared`). Only a pass earns a certificate. `n` counts rows looked at, `estimate` rows that fell.

        A ban by grant looks for no near texts: other origins of the same words are alternatives.

    Raises:
        InputDataError, CorruptArtifact: if rows cannot be read.
    """
    thresholds = thresholds or Thresholds()
    found = examine(closure, ban, clean)
    findings, gaps = list(found.findings), list(found.gaps)
    survivors = _survivors(closure, ban, claimed, near, thresholds, found, findings, gaps)
    _judge_probe(closure, ban, probe, findings, gaps)
    waiting = survivors["open"]
    common: dict[str, Any] = {
        "statistic": STATISTIC,
        "estimate": float(found.fallen),
        "n": found.rows,
        "n_required": 1,
        "threshold": 0.0,
        "check_version": CHECK_VERSION,
        "baseline": f"notice {ban.notice}",
        "config": {
            "check": "influence_removed",
            "closure": closure.digest,
            "ban": ban.digest,
            "clean": sorted(clean),
            "thresholds": thresholds.to_json(),
            "probe": None if probe is None else digest(probe.to_record()),
        },
        "evidence": [line for finding in [*findings, *gaps] for line in finding.lines()][:MAX_EVIDENCE] or survivors["evidence"],
        "plot": _plot(closure.artifact, found),
        "tier": "exact + near" if survivors["searched"] else "exact",
    }
    details: dict[str, Any] = {
        **found.to_json(),
        "near": {key: survivors[key] for key in ("searched", "rows", "certain", "open", "cleared")},
        "probe": None if probe is None else {**probe.to_record(), "plot": None},
        "findings": [finding.to_json() for finding in findings],
        "gaps": [gap.to_json() for gap in gaps],
    }
    if findings:
        first = findings[0]
        status = MITIGATED if any(finding.kind == "mitigation" for finding in findings) else NOT_REMOVED
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{len(findings)} finding(s) against {closure.artifact}, first: {first}.",
            remedy=first.remedy,
            details={"status": status, **details},
            **common,
        )
    if gaps:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"Not shown for {closure.artifact}: {gaps[0]}.",
            remedy=gaps[0].remedy,
            details={"status": NOT_SHOWN, **details},
            **common,
        )
    if waiting:
        return Verdict(
            decision=Decision.WARN,
            summary=f"{waiting} row(s) of {closure.artifact} resemble claimed ones; a person has to look at them.",
            remedy="Look at the rows, then ban them or enter them as cleared.",
            details={"status": NOT_SHOWN, **details},
            **common,
        )
    return Verdict(
        decision=Decision.PASS,
        summary=f"None of {found.rows:,} rows of {closure.artifact} is banned by notice {ban.notice} or derived from such a row.",
        remedy="Nothing to do.",
        details={"status": REMOVED, **details},
        **common,
    )


def _survivors(
    closure: Closure,
    ban: Ban,
    claimed: Claimed | None,
    near: SimilarTexts | None,
    thresholds: Thresholds,
    found: Examination,
    findings: list[Finding],
    gaps: list[Finding],
) -> dict[str, Any]:
    """Rows that say what is claimed, or nearly, and did not fall by their id."""
    nothing: dict[str, Any] = {"searched": False, "rows": 0, "certain": 0, "open": 0, "cleared": 0, "evidence": []}
    if ban.reach is Reach.GRANT:
        return nothing
    if claimed is None or near is None or not claimed.texts.height:
        missing = "no function finds near duplicates" if claimed and near is None else "the claimed texts are not given"
        gaps.append(Finding("near", closure.artifact, f"near duplicates were not looked for: {missing}", remedy="Give both."))
        return nothing
    if ban.claim != claimed.digest:
        gaps.append(
            Finding("near", closure.artifact, "the claim is not the one the ban came from", remedy="Give the claim of the ban.")
        )
        return nothing
    matches = find(claimed, blocking_sets(closure), near=near, thresholds=thresholds)
    table = matches.table.join(found.fallen_ids, on="row_id", how="anti")
    clearable = (pl.col("reason") == "near") | (pl.col("decision") != BANNED)
    kept = clearable & pl.col("row_id").is_in(list(ban.cleared))
    certain = table.filter((pl.col("decision") == BANNED) & ~kept)
    waiting = table.filter((pl.col("decision") != BANNED) & ~kept)
    for (asset,), rows in certain.group_by(["asset"], maintain_order=True):
        by_similarity = rows.sort("similarity", descending=True)
        findings.append(
            Finding(
                "text" if by_similarity["reason"][0] != "near" else "near",
                str(asset),
                f"{rows.height} row(s) say what is claimed, similarity {by_similarity['similarity'][0]:.2f}",
                rows=rows.height,
                examples=tuple(by_similarity.select("row_id", "claimed").head(3).iter_rows()),
                remedy="Ban these rows too and rebuild, or enter near ones as cleared.",
            )
        )
    listed = waiting.sort("similarity", descending=True).head(MAX_EVIDENCE)
    return {
        "searched": True,
        "rows": sum(matches.scanned.values()),
        "certain": certain.height,
        "open": waiting.height,
        "cleared": table.filter(kept).height,
        "evidence": listed.select("asset", "row_id", "reason", "similarity", "claimed").to_dicts(),
    }


def _judge_probe(closure: Closure, ban: Ban, probe: Verdict | None, findings: list[Finding], gaps: list[Finding]) -> None:
    remedy = "Run the regurgitation probe on this artifact, its base model and texts of this ban."
    if probe is None:
        gaps.append(Finding("probe", closure.artifact, "the regurgitation probe was not run", remedy=remedy))
        return
    bases = {ancestor.snapshot for _, part in closure.walk() for ancestor in part.ancestors if ancestor.role is EdgeRole.BASE_MODEL}
    about = {"artifact": closure.snapshot, "ban": ban.digest}
    others = [name for name, value in about.items() if probe.config.get(name) != value]
    if probe.config.get("base") not in bases:
        others.append("base model")
    if probe.statistic != PROBE_STATISTIC or others:
        what = f"another {' and '.join(others)}" if others else "something else"
        gaps.append(Finding("probe", closure.artifact, f"the regurgitation probe is about {what}", remedy=remedy))
    elif not probe.passed:
        target = findings if probe.decision is Decision.FAIL else gaps
        target.append(Finding("probe", closure.artifact, probe.summary.rstrip("."), remedy=probe.remedy))


def _plot(artifact: str, found: Examination) -> str | None:
    from ftplatform.plots import bars

    lines = [(str(line["name"]), float(line["fallen"])) for line in (*found.row_sets, *found.caches)]
    hit = tuple(name for name, fallen in lines if fallen)
    return bars(lines, title=f"Rows that fell, in what {artifact} was made from", highlight=hit) if lines else None
