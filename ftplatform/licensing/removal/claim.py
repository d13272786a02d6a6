"""What a notice claims: places, rows and words, and the texts that are compared with ours.

A row is compared as a whole and message by message, normalized (`rows.normalize`). System messages of the claimant's rows are not
claimed: a prompt that all rows share would ban everybody's. Words that are claimed outright are looked for in every role.

We may hold a claimed text with its personal data masked, so it is looked for masked as well; by hash it is found as it was sent only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pyarrow as pa

from ftplatform.canonical import digest, sha256_hex
from ftplatform.errors import InputDataError
from ftplatform.licensing.removal.ban import hashes, lines_sha256
from ftplatform.licensing.removal.closure import RowSet
from ftplatform.rows.normalize import NORMALIZER_VERSION, normalize, normalize_text
from ftplatform.rows.placeholders import as_masked, renumbered
from ftplatform.rows.reading import ReadSpec, read_table
from ftplatform.rows.schema import Role
from ftplatform.rows.turns import turns

_HUB = re.compile(r"^huggingface\.co/|^hf\.co/")
# Revisions in addresses of the Hugging Face Hub and of Git hosts; elsewhere such words are folders.
_HUB_REVISION = re.compile(r"@[^/]*|/(?:tree|blob|resolve|raw)/[^/]+")
_GIT_REVISION = re.compile(r"^((?:github|gitlab)\.com/[^/]+/[^/]+)(?:/-)?/(?:tree|blob|raw)/[^/]+")
_TEXTS = {"text": pl.String, "words": pl.UInt32, "span": pl.String, "claimed": pl.String}


@dataclass(frozen=True, kw_only=True, eq=False)
class Matcher:
    """What a notice names.

    Attributes:
        uris: where the claimed data is published; everything below such a place is claimed.
        sources: our own names for it, if somebody knows.
        row_ids: ids of our rows.
        text_hashes: `text_hash` of texts the claimant does not want to send.
        texts: example texts.
        rows: the claimant's rows (`read_claimed_rows`), columns `row_id` and `messages`.

    Raises:
        InputDataError: if it names nothing, or something that is no SHA-256 where one is expected.
    """

    uris: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    row_ids: tuple[str, ...] = ()
    text_hashes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    rows: pa.Table | None = None

    def __post_init__(self) -> None:
        hashes(self.row_ids, "row id")
        hashes(self.text_hashes, "text hash")
        named = self.uris or self.sources or self.row_ids or self.text_hashes or any(normalize_text(t) for t in self.texts)
        if not named and not (self.rows is not None and self.rows.num_rows):
            raise InputDataError("the notice names nothing that could be looked for.", remedy="Ask the sender for examples.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Claimed:
    """A claim, resolved against what we hold.

    Attributes:
        names: our sources at the claimed places.
        row_ids: string series of SHA-256s: the claimed rows.
        text_hashes: likewise, of normalized texts.
        texts: `text` (normalized), `words`, `span` (``whole`` row, one ``message``, or ``given`` outright) and `claimed` (the id of
            the claimed row, or ``text 1``, ``text 2``, ...); each text once.
        unplaced: claimed URIs at which we know no source; a person should look at them.
    """

    names: tuple[str, ...]
    row_ids: pl.Series
    text_hashes: pl.Series
    texts: pl.DataFrame
    unplaced: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is looked for."""
        return digest(
            {
                "names": list(self.names),
                "row_ids": lines_sha256(self.row_ids),
                "text_hashes": lines_sha256(self.text_hashes),
                "texts": lines_sha256(self.texts["text"].sort()),
                "normalizer": NORMALIZER_VERSION,
            }
        )


def resolve(matcher: Matcher, row_sets: Iterable[RowSet] = (), places: Mapping[str, Sequence[str]] | None = None) -> Claimed:
    """Find what the notice names among our rows, so that copies of it can be found elsewhere.

    Args:
        matcher: the notice.
        row_sets: where the text of rows that are named by place or id is read from. Memory grows with the claimed rows only.
        places: URIs of our sources by name, mirrors included.
    """
    where = {name: [_place(uri) for uri in uris] for name, uris in (places or {}).items()}
    wanted = {uri: _place(uri) for uri in matcher.uris}
    at = {uri: {name for name, ours in where.items() if any(_below(place, own) for own in ours)} for uri, place in wanted.items()}
    names = sorted(set(matcher.sources).union(*at.values()))
    row_ids = [hashes(matcher.row_ids, "row id")]
    texts = [_given(matcher.texts)]
    if matcher.rows is not None:
        row_ids.append(_ids(matcher.rows))
        texts.append(_claimed_texts(matcher.rows))
    if names or matcher.row_ids:
        for rows in row_sets:
            for table in rows.tables(["row_id", "origins", "messages"]):
                named = pl.DataFrame(pl.from_arrow(table.select(["row_id", "origins"]))).select(
                    pl.col("row_id").is_in(row_ids[0].implode()) | pl.col("origins").list.eval(pl.element().is_in(names)).list.any()
                )
                found = table.filter(named.to_series().fill_null(False).to_arrow())
                row_ids.append(_ids(found))
                texts.append(_claimed_texts(found))
    return Claimed(
        names=tuple(names),
        row_ids=hashes(pl.concat(row_ids), "row id"),
        text_hashes=hashes(matcher.text_hashes, "text hash"),
        texts=pl.concat(texts).unique("text", keep="first", maintain_order=True),
        unplaced=tuple(uri for uri, found in at.items() if not found),
    )


def read_claimed_rows(path: Path) -> tuple[pa.Table, pa.Table]:
    """The claimant's rows from a Parquet, JSONL, JSON or CSV file in any layout `rows` reads.

    Ids are computed from the messages; those in the file are not believed.

    Returns:
        (rows, quarantined records): somebody has to look at what could not be read, because it is not searched for.

    Raises:
        InputDataError: if the file as a whole cannot be read.
    """
    rows, quarantined, _ = read_table(ReadSpec(paths=[path.name], source="claimant", base_dir=path.parent, require_target=False))
    return rows, quarantined


def text_hash(text: str) -> str:
    """SHA-256 (hex) of the UTF-8 bytes of the normalized text: lets a claimant name words without sending them."""
    return sha256_hex(normalize_text(text).encode())


def unit_texts(rows: pa.Table, *, system: bool, masked: bool = False) -> pl.DataFrame:
    """The texts of rows that are compared: each row as a whole and its single messages, normalized; blank ones are left out.

    Args:
        rows: with `row_id` and `messages`.
        system: whether system messages are units too. They are never part of the whole.
        masked: compare the texts as they read once personal data is masked, and not only those that are masked already.

    Returns:
        `row_id`, `span` (``whole`` or ``message``), `text`, `words`; a text once per row, whole before message.
    """
    flat = turns(rows)
    contents = pl.Series(flat["content"])
    texts = normalize((as_masked(contents) if masked else renumbered(contents)).to_arrow())
    columns = {"row": flat["row"], "row_id": flat["row_id"], "role": flat["role"], "text": pl.Series(texts, dtype=pl.String)}
    said = pl.DataFrame(columns).filter(pl.col("text") != "")
    spoken = said.filter(pl.col("role") != str(Role.SYSTEM))
    whole = spoken.group_by("row", maintain_order=True).agg(pl.col("row_id").first(), pl.col("text").str.join(" "))
    parts = [
        whole.select("row", "row_id", "text", span=pl.lit("whole")),
        (said if system else spoken).select("row", "row_id", "text", span=pl.lit("message")),
    ]
    return (
        pl.concat(parts)
        .unique(["row", "text"], keep="first", maintain_order=True)
        .select("row_id", "span", "text", words=_word_count())
    )


def _word_count() -> pl.Expr:
    return pl.col("text").str.count_matches(" ", literal=True) + 1


def _claimed_texts(rows: pa.Table) -> pl.DataFrame:
    units = [unit_texts(rows, system=False, masked=masked) for masked in (False, True)]
    return pl.concat(units).select("text", "words", "span", claimed="row_id")


def _given(texts: Sequence[str]) -> pl.DataFrame:
    masked = as_masked(pl.Series(texts, dtype=pl.String)).to_list()
    forms = enumerate(zip(texts, masked, strict=True), 1)
    numbered = [(normalize_text(text), "given", f"text {number}") for number, pair in forms for text in pair]
    frame = pl.DataFrame([line for line in numbered if line[0]], schema=["text", "span", "claimed"], orient="row")
    return frame.cast(pl.String).with_columns(words=_word_count()).select(list(_TEXTS)) if numbered else pl.DataFrame(schema=_TEXTS)


def _ids(rows: pa.Table) -> pl.Series:
    return pl.Series(rows["row_id"], dtype=pl.String)


def _place(uri: str) -> str:
    """A URI without what does not tell places apart: scheme, ``www.``, user, query, revision, ``.git``, case."""
    try:
        parts = urlsplit(uri.strip().lower())
    except ValueError as error:
        raise InputDataError(f"{uri[:200]!r} is no URI.", remedy="Correct it, or describe the data by rows or texts.") from error
    place = parts.netloc.rpartition("@")[2].removeprefix("www.") + parts.path
    place = f"hf:{place}" if parts.scheme == "hf" else _HUB.sub("hf:", place)
    place = _HUB_REVISION.sub("", place) if place.startswith("hf:") else _GIT_REVISION.sub(r"\1", place)
    return place.rstrip("/").removesuffix(".git")


def _below(place: str, own: str) -> bool:
    return bool(place) and (own == place or own.startswith(f"{place}/"))
