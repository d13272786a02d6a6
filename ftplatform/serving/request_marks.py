"""How keep-warm requests are told from those of users: by the log's flag, by a marker in the id or the prompt, by the prompt itself."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from ftplatform.serving.request_columns import REQUEST_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class PingRule:
    """What the operator says of the pings.

    Attributes:
        marker: text in the id or the prompt of every ping and of nothing else.
        texts: prompts that pings send.
    """

    marker: str | None = None
    texts: tuple[str, ...] = ()

    def mark(self, requests: pa.Table) -> pa.Table:
        """The requests with `is_ping` set where a rule applies, and with prompts of pings only: what users typed is not kept."""
        rules = [pl.col("is_ping")]
        if self.marker:
            rules += [pl.col(name).str.contains(self.marker, literal=True) for name in ("request_id", "prompt")]
        if self.texts:
            rules.append(normalized(pl.col("prompt")).is_in([normalize(text) for text in self.texts]))
        # A flag of the log stays as it is; without one a rule that can be applied decides, and otherwise nobody knows.
        said = pl.any_horizontal(*(rule.fill_null(False) for rule in rules))
        known = pl.any_horizontal(*(rule.is_not_null() for rule in rules))
        frame = pl.DataFrame(pl.from_arrow(requests)).with_columns(is_ping=pl.when(known).then(said))
        return frame.with_columns(prompt=pl.when(pl.col("is_ping")).then("prompt")).to_arrow().cast(REQUEST_SCHEMA)


def normalized(text: pl.Expr) -> pl.Expr:
    """Text without differences of case, width and spacing; the expression of `normalize`."""
    return text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def normalize(text: str) -> str:
    """One text as `normalized` has it."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).lower()).strip()


def known_texts(requests: pa.Table, declared: Iterable[str]) -> frozenset[str]:
    """Normalized prompts of pings: those declared, and those the log holds."""
    pings = pl.DataFrame(pl.from_arrow(requests.select(["is_ping", "prompt"]))).filter("is_ping")["prompt"].drop_nulls().unique()
    return frozenset(normalize(text) for text in (*declared, *pings.to_list()) if normalize(text))
