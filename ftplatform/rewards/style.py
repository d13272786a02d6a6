"""How an answer sounds: its length, and how often it apologizes, hedges, adds caveats and agrees.

The lists are ours, short on purpose, and English. They are no measure of politeness; they count the same few phrases in two sets of
answers, so that only the ratio means anything. What each is meant to catch: *apologies* for whatever it was; *hedges*, words that
weaken a claim (after K. Hyland, Hedging in Scientific Research Articles, 1998); *caveats*, sentences that add reservations instead of
answers; *agreement*, praise and assent before anything was checked (M. Sharma et al. 2023, arXiv 2310.13548).
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

#: Marker to the phrases that count, as alternatives of a regular expression (Rust syntax) between word boundaries.
MARKERS: dict[str, str] = {
    "apologies": r"sorry|apolog(?:y|ies|i[sz]e[sd]?|i[sz]ing)|regret|forgive|pardon",
    "hedges": (
        r"might|may|maybe|perhaps|possibly|probably|presumably|seems?|appears?|suggests?|somewhat|generally|typically|usually"
        r"|roughly|likely|could be|i (?:think|believe|guess|suppose)|not (?:entirely |quite )?(?:sure|certain)"
    ),
    "caveats": (
        r"please (?:note|be aware|bear in mind|keep in mind|remember)|keep in mind|bear in mind|that (?:being )?said|however"
        r"|(?:can ?not|can't) (?:guarantee|be sure|promise)|no guarantees?|(?:results|terms|times|prices) (?:may|can) (?:vary|change)"
        r"|subject to|not (?:legal|financial|medical) advice|consult (?:a|an|your)|as an ai|double[- ]check|to the best of my knowledge"
    ),
    "agreements": (
        r"you(?:'re| are) (?:absolutely |completely |totally |so |quite )?(?:right|correct)|absolutely|definitely|exactly|certainly"
        r"|of course|great (?:question|point|idea)|good (?:question|point|idea)|excellent (?:question|point|idea)"
        r"|i (?:completely |totally |fully )?(?:agree|understand)|makes (?:perfect |total )?sense"
    ),
}
#: Columns of a ledger that hold counts per answer.
STYLE_COLUMNS = ("words", *MARKERS)


def count_style(rewards: pa.Table) -> pa.Table:
    """The table with its style columns filled from `answer` where they are null and there is an answer."""
    frame = pl.DataFrame(pl.from_arrow(rewards.select(["answer", *STYLE_COLUMNS])))
    text = pl.col("answer").str.to_lowercase().str.replace_all("’", "'", literal=True)
    counted = {"words": text.str.count_matches(r"\S+")}
    counted |= {name: text.str.count_matches(rf"\b(?:{phrases})\b") for name, phrases in MARKERS.items()}
    filled = frame.select(pl.coalesce(pl.col(name), count.cast(pl.Float64)).alias(name) for name, count in counted.items())
    for name in STYLE_COLUMNS:
        column = rewards.schema.get_field_index(name)
        rewards = rewards.set_column(column, rewards.schema.field(name), filled[name].to_arrow())
    return rewards
