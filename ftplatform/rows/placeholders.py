"""Placeholders: what stands in place of personal data, `[EMAIL_1]`, and how masked and unmasked texts are compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from ftplatform.rows.personal_data import Finding, PiiKind, find_pii, may_hold_pii
from ftplatform.rows.rewriting import with_texts
from ftplatform.rows.turns import turns

#: What is masked by default. A long number by itself is left: in support it is an order, and a model must learn to use it.
MASKED_KINDS = frozenset(PiiKind) - {PiiKind.NUMBER}

_PLACEHOLDER = rf"\[({'|'.join(PiiKind)})_[0-9]+\]"
_PLACEHOLDERS = re.compile(_PLACEHOLDER)

_SAID = {"role": pl.String, "content": pl.String}


class Names:
    """Placeholders of the values of one conversation. One flat dictionary: there may be as many of these as there are rows."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[PiiKind | tuple[PiiKind, str], int] = {}

    def of(self, kind: PiiKind, value: str) -> str:
        """The placeholder of a value, the same for the same value however it is written."""
        key = (kind, _same(kind, value))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._numbers[kind] = self._numbers.get(kind, 0) + 1
        return f"[{kind}_{number}]"


def _same(kind: PiiKind, value: str) -> str:
    """What two ways of writing one value have in common."""
    folded = value.casefold()
    return folded if kind in (PiiKind.EMAIL, PiiKind.SECRET) else "".join(filter(str.isalnum, folded))


def replaced(text: str, findings: Sequence[Finding], names: Names) -> tuple[str, list[str]]:
    """The text with placeholders for the findings, and these placeholders.

    Args:
        findings: in order, without overlaps.
    """
    pieces, marks, position = [], [], 0
    for finding in findings:
        marks.append(names.of(finding.kind, text[finding.start : finding.end]))
        pieces += [text[position : finding.start], marks[-1]]
        position = finding.end
    return "".join([*pieces, text[position:]]), marks


def joined(patterns: Sequence[Finding], others: Sequence[Finding], length: int) -> list[Finding]:
    """Findings of both in a text of `length` characters, in order; what a pattern found is not found again."""
    free = [r for r in others if 0 <= r.start < r.end <= length and not any(r.start < p.end and p.start < r.end for p in patterns)]
    found: list[Finding] = []
    for finding in sorted((*patterns, *free), key=lambda f: (f.start, -f.end)):
        if not found or finding.start >= found[-1].end:
            found.append(finding)
    return found


def holds_placeholder(text: pl.Expr) -> pl.Expr:
    """Whether a text holds a placeholder; boolean, null of null."""
    return text.str.contains(_PLACEHOLDER)


def as_masked(texts: pl.Series) -> pl.Series:
    """Each text as it reads once masked, the values of each text numbered by themselves: a masked text and its original agree.

    Two originals that differ in nothing but their values agree as well; nobody can tell which of them a masked text was.
    """
    worth = texts.to_frame("text").select(may_hold_pii(pl.col("text")) | holds_placeholder(pl.col("text"))).to_series()
    places = np.flatnonzero(worth.fill_null(False).to_numpy())
    masked = [_masked(text) for text in texts.gather(places).to_list()]
    return texts.clone().scatter(places, pl.Series(masked, dtype=pl.String)) if masked else texts


def renumbered(texts: pl.Series) -> pl.Series:
    """Texts with placeholders `as_masked`, so that they do not depend on the rest of a conversation; others as they are."""
    places = texts.to_frame("text").select(holds_placeholder(pl.col("text")).fill_null(False)).to_series().arg_true()
    return texts.clone().scatter(places, as_masked(texts.gather(places))) if len(places) else texts


def _masked(text: str) -> str:
    values = [finding for finding in find_pii(text) if finding.kind in MASKED_KINDS]
    held = [Finding(PiiKind(found[1]), *found.span()) for found in _PLACEHOLDERS.finditer(text)]
    return replaced(text, joined(values, held, len(text)), Names())[0]


def filled_from(rows: pa.Table, others: Iterable[pa.Table]) -> pa.Table:
    """`rows` in which a masked message that reads as one of `others` does, once that is masked too, says what that one says.

    For comparisons of masked rows with unmasked ones. Ids and all other columns stay: it is the same row, read with the values that the
    others have. Without a masked message the very table comes back.

    Args:
        rows, others: tables with `row_id` and `messages`.
    """
    said = turns(rows)
    own = pl.DataFrame({name: said[name] for name in _SAID}).with_row_index("at").filter(holds_placeholder(pl.col("content")))
    if own.is_empty():
        return rows
    theirs = pl.concat(
        [pl.DataFrame(schema=_SAID), *(pl.DataFrame({name: turns(table)[name] for name in _SAID}) for table in others)]
    )
    # Values that stand in more than one text of a form: the first text speaks for all, and one leak is enough.
    theirs = theirs.filter(may_hold_pii(pl.col("content")) | holds_placeholder(pl.col("content")))
    values = theirs.select("role", value="content", form=as_masked(theirs["content"])).unique(
        ["role", "form"], keep="first", maintain_order=True
    )
    found = own.with_columns(form=as_masked(own["content"])).join(values, on=["role", "form"], how="inner", maintain_order="left")
    if found.is_empty():
        return rows
    filled = with_texts(rows, found["at"].to_numpy(), found["value"].to_arrow().cast(pa.string()), traced=False)
    return filled.set_column(filled.schema.get_field_index("row_id"), rows.schema.field("row_id"), rows["row_id"])
