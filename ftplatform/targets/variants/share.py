"""`target_variant_share`: a misspelling that makes up a share of what the model is taught is learned at that share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from ftplatform import plots
from ftplatform.rows.masking import excerpt, mask_text
from ftplatform.targets.variants.authors import concentration
from ftplatform.targets.variants.findings import Findings, Limits, find_variants
from ftplatform.targets.variants.lexicon import Lexicon
from ftplatform.targets.variants.words import Rows
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "target_variant_share/1"

#: Trainable turns a pass needs: none in 59 bounds the share of turns that hold a variant at 5 % (exact, one-sided 95 %).
TURNS_REQUIRED = 59

_REMEDY = (
    "Correct the listed words in the targets (`ftplatform clean propose`), ask the authors and the owners of the templates named to"
    " change them at the source, and add what is right to the glossary or the names."
)
_NAMED_AUTHORS = 3


def target_variant_share(rows: Rows, lexicon: Lexicon, limits: Limits | None = None) -> Verdict:
    """Misspellings in the trainable assistant turns that are frequent enough to be learned.

    A finding is an unknown word beside a known one (`findings`), written `limits.count` times or more, whose share of the two has a
    lower Wilson bound above `limits.share`. Fails on a finding; warns if all findings are unconfirmed, which may be domain words
    that the list lacks. User turns are not read: there typos are what users type (M9).

    Args:
        rows: table of `ROW_SCHEMA`, or a function that starts its batches from the beginning; it is read twice.

    Returns:
        Verdict with the share of the worst finding; n counts trainable assistant turns. Evidence names, for each variant, authors
        with their share and the most repeated sentence. Insufficient evidence below `TURNS_REQUIRED` turns, unless it fails.

    Source of the interval: E. B. Wilson, JASA 22 (1927) 209.
    """
    limits = limits or Limits()
    found = find_variants(rows, lexicon, limits)
    return judge(found, lexicon, limits)


def judge(found: Findings, lexicon: Lexicon, limits: Limits) -> Verdict:
    """The verdict on findings that are known already."""
    variants, counts = found.variants, found.counts
    sure = variants.filter("confirmed")
    writers = concentration(
        found.occurrences.authors.join(variants, left_on="word", right_on="variant", how="semi"), counts.authors
    )
    worst = next((sure if len(sure) else variants).iter_rows(named=True), None)
    common: dict[str, Any] = {
        "statistic": "largest share of a misspelling among the uses of a word in trainable assistant turns",
        "n": counts.turns,
        "n_required": TURNS_REQUIRED,
        "threshold": limits.share,
        "confidence": limits.confidence,
        "check_version": CHECK_VERSION,
        "config": {**asdict(limits), "turns_required": TURNS_REQUIRED, "lexicon": lexicon.digest, "locales": list(lexicon.locales)},
        "tier": "dictionary",
        "remedy": _REMEDY,
        "details": {
            "words": counts.total,
            "distinct_words": counts.forms["word"].n_unique(),
            "variants": len(variants),
            "unconfirmed": len(variants) - len(sure),
            "taken_for_names": found.names["word"].to_list()[:50],
            "authors": [
                {**line, "author": mask_text(line["author"])}
                for line in writers.filter("concentrated").head(50).iter_rows(named=True)
            ],
        },
    }
    if worst is None:
        enough = counts.turns >= TURNS_REQUIRED
        said = f"No misspelling above {limits.share:.0%} of a word's uses in {counts.total:,} words of {counts.turns:,} trainable turns"
        return Verdict(
            decision=Decision.PASS if enough else Decision.INSUFFICIENT_EVIDENCE,
            summary=f"{said}." if enough else f"{said}; {TURNS_REQUIRED} turns are needed.",
            **{**common, "remedy": "Nothing to do." if enough else "Judge the whole corpus, not a sample."},
        )
    named = f"{worst['variant']!r} for {worst['partner']!r} {worst['count']:,} of {worst['count'] + worst['partner_count']:,} times"
    more = f" and {len(variants) - 1:,} more" if len(variants) > 1 else ""
    if len(sure):
        decision, said = Decision.FAIL, f"{len(sure):,} misspellings are frequent enough to be learned: {named}{more}."
    else:
        decision, said = Decision.WARN, f"Unknown words close to known ones, perhaps of the domain: {named}{more}."
    return Verdict(
        decision=decision,
        summary=said,
        estimate=worst["share"],
        ci_low=worst["low"],
        ci_high=worst["high"],
        evidence=[_evidence(line, found, writers) for line in variants.head(MAX_EVIDENCE).iter_rows(named=True)],
        plot=_plot(variants, limits),
        **common,
    )


def _evidence(line: Mapping[str, Any], found: Findings, writers: pl.DataFrame) -> dict[str, Any]:
    by = writers.filter(pl.col("word") == line["variant"])
    sentences = found.occurrences.sentences.filter(pl.col("word") == line["variant"])
    repeated = sentences.row(0, named=True) if len(sentences) else None
    total = found.occurrences.forms.filter(pl.col("word") == line["variant"])["count"].sum()
    named = [
        f"{mask_text(writer['author'])} {writer['share']:.0%} of it, {writer['expected']:.1%} of all turns"
        for writer in by.head(_NAMED_AUTHORS).iter_rows(named=True)
    ]
    return {
        "variant": line["variant"],
        "partner": line["partner"],
        "why": line["kind"],
        "confirmed": line["confirmed"],
        "count": line["count"],
        "partner_count": line["partner_count"],
        "share": round(line["share"], 4),
        "low": round(line["low"], 4),
        "high": round(line["high"], 4),
        "authors": "; ".join(named),
        "top_authors_share": round(float(by.head(_NAMED_AUTHORS)["share"].sum()), 3) if len(by) else None,
        "author_p": round(float(by["p"].min()), 6) if len(by) else None,  # pyright: ignore[reportArgumentType]
        "sentence": excerpt(repeated["sentence"], 160) if repeated else "",
        "sentence_share": round(repeated["count"] / total, 3) if repeated else None,
        "row_id": repeated["row_id"] if repeated else None,
    }


def _plot(variants: pl.DataFrame, limits: Limits) -> str:
    rows = [
        (f"{line['variant']} / {line['partner']}", round(line["share"], 4), round(line["low"], 4), round(line["high"], 4))
        for line in variants.head(MAX_EVIDENCE).iter_rows(named=True)
    ]
    return plots.forest(rows, threshold=limits.share, title="Share of the misspelling", x_label="share", threshold_label="limit")
