"""Which training rows hold an eval item in part or with edits: seeds, then verification of each candidate pair (mode M12).

A pair of a training row and an item is a candidate when their common 5-grams cover enough of the item. It is a match by

* **exact**: an item of fewer than five tokens is a whole user turn (one of several such turns is left to `contamination_exact`);
* **run**: the longest run of common tokens has `run_tokens` of them, or `run_share` of an item shorter than that makes;
* **containment**: `containment` of the item's 3-token shingles stand in the row;
* **edited**: `edited_share` of the item's tokens stand in the row in the same order, each in line with a seed beside it, and half of its
  informative ones.

Any other match must hold `informative_tokens`, and template text counts for nothing. Items below `short_tokens` match only whole or by
containment, and then with all their informative tokens: "the capital of peru" is not "the capital of chad". An item's last answer is
looked for among the answers, its question among questions and answers. Matches come with the gaps from which `near_frames` tells
templates from copies.

Sources: ConTAM (2411.03923) for the longest run; seed and extend as in BLAST (Altschul et al. 1990), with one diagonal per seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ftplatform.contamination.near_alignment import Seeds, aligned_tokens
from ftplatform.contamination.near_frames import GAP_SCHEMA, gaps_of
from ftplatform.contamination.near_items import QUESTION, SEED, NearRule, Probes, prefix_sums, spoken
from ftplatform.contamination.scan import Scanner, all_tokens
from ftplatform.contamination.scan_tokens import MIX, TOKEN_STEP, TokenHashes
from ftplatform.rows.schema import Role

TIERS = ("exact", "run", "containment", "edited")
_EXACT, _RUN, _CONTAINMENT, _EDITED = range(4)
_SHINGLE = 3
#: Seeds must cover this share of an item before its row is read again: less than what any tier needs.
_COVER = 0.25
#: Of an edited item's informative words this share must remain: an edit strikes them as often as others, a coincidence lacks them.
_TELLING_SHARE = 0.5
#: Room for insertions and deletions, as a share of the item: seeds of one alignment lie on diagonals this close.
_BAND = 0.25
_BLOCK_ROWS = 1 << 14
_SIDES = (Role.USER, Role.ASSISTANT, Role.SYSTEM)

_HIT_SCHEMA = {
    "row": pl.Int64,
    "side": pl.Enum([str(role) for role in Role]),
    "turn": pl.Int64,
    "probe": pl.UInt32,
    "tier": pl.Int8,
    "matched": pl.Float32,
    "begin": pl.Int32,
    "end": pl.Int32,
}


@dataclass(frozen=True)
class Matches:
    """What was found.

    Attributes:
        hits: one line per row, side and probe: row; side, the role of the text; turn, a number that differs between the turns of a row;
            probe; tier, a position in `TIERS`; matched, the share of the item's words found; begin and end, tokens of the row's text
            of that role.
        gaps: where they differ, see `near_frames.GAP_SCHEMA`.
    """

    hits: pl.DataFrame
    gaps: pl.DataFrame


def near_hits(train: pa.Table, probes: Probes, rule: NearRule) -> Matches:
    """Every match of a probe in the training rows, by whichever tier."""
    scanner, search = Scanner(probes.index), _Search(probes, rule)
    found = [Matches(pl.DataFrame(schema=_HIT_SCHEMA), pl.DataFrame(schema=GAP_SCHEMA))]
    for start in range(0, train.num_rows, _BLOCK_ROWS):
        block = train.select(["row_id", "messages"]).slice(start, _BLOCK_ROWS)
        for side in _SIDES:
            texts, rows = spoken(block, side)
            if side is Role.SYSTEM:
                # A prompt shared by all rows is read once.
                first = pl.DataFrame({"text": texts, "row": rows}).unique("text", keep="first", maintain_order=True)
                texts, rows = pa.chunked_array([first["text"].to_arrow()]), first["row"].to_numpy()
            hits = scanner.scan(texts, rows)
            hit, probe, position = hits.expand(probes.index)
            matches = search.matches(side, texts, rows, hits.owners[hit], hits.positions[hit], probe, position)
            found.append(Matches(*(frame.with_columns(pl.col("row") + start) for frame in (matches.hits, matches.gaps))))
    return Matches(pl.concat([part.hits for part in found]), pl.concat([part.gaps for part in found]))


class _Search:
    """Verification with everything that depends on the probes only computed once."""

    def __init__(self, probes: Probes, rule: NearRule) -> None:
        self.rule, self.probes = rule, probes
        self.tokens = probes.index.tokens.hashes
        self.starts, self.lengths = probes.starts, probes.lengths
        self.own_sums, self.informative_sums = prefix_sums(probes.own), prefix_sums(probes.informative)
        self.size = probes.totals(probes.own)
        self.short = self.size < rule.short_tokens
        informative = probes.totals(probes.informative)
        self.informative_needed = np.where(self.short, informative, np.minimum(rule.informative_tokens, informative))
        self.run_needed = np.minimum(rule.run_tokens, np.ceil(rule.run_share * self.size))
        self.question = (probes.texts["part"] == QUESTION).to_numpy()
        self.shingles = _shingle_hashes(self.tokens)
        # A shingle counts if it lies inside one probe and is not all template.
        inside = np.arange(len(self.tokens)) + _SHINGLE <= np.repeat(self.starts + self.lengths, self.lengths)
        later = np.minimum(np.arange(len(self.tokens))[:, None] + np.arange(_SHINGLE), max(0, len(self.tokens) - 1))
        self.counts = inside & probes.own[later].any(axis=1) if len(self.tokens) else inside

    def matches(
        self,
        side: Role,
        texts: pa.ChunkedArray,
        rows: NDArray[np.int64],
        row: NDArray[np.int64],
        at: NDArray[np.int64],
        probe: NDArray[np.int64],
        position: NDArray[np.int64],
    ) -> Matches:
        """Verify the seeds (row, at) of the texts against (probe, position)."""
        allowed = self.question[probe] | (side is Role.ASSISTANT)
        allowed &= ((self.lengths[probe] >= SEED) | (side is Role.USER)) & (self.size[probe] > 0)
        row, at, probe, position = row[allowed], at[allowed], probe[allowed], position[allowed]
        whole = self.lengths[probe] < SEED
        # A whole turn has no other item in it: any number that no other turn has will do for it.
        exact = _frame(
            row[whole], side, -1 - at[whole], probe[whole], _EXACT, 1.0, at[whole], at[whole] + self.lengths[probe[whole]]
        )
        exact = exact.unique(["row", "probe"], keep="first", maintain_order=True)
        row, at, probe, position = self._promising(row[~whole], at[~whole], probe[~whole], position[~whole])
        seeds = Seeds.of(row, at, probe, position, len(self.lengths))
        run = self._runs(seeds)
        candidate = run | self._covered(seeds)
        seeds, run = seeds.of_pairs(candidate), run[candidate]
        if not len(seeds.pair_row):
            return Matches(exact, pl.DataFrame(schema=GAP_SCHEMA))
        wanted = np.isin(rows, seeds.pair_row)
        turns = all_tokens(texts.filter(pa.array(wanted)))
        near = self._verified(side, seeds, run, turns.of_owners(rows[wanted]), turns.bounds)
        return Matches(pl.concat([exact, near.hits]), near.gaps)

    def _promising(
        self, row: NDArray[np.int64], at: NDArray[np.int64], probe: NDArray[np.int64], position: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], ...]:
        """The seeds of pairs with a seed that holds an informative token: worked sums alone share thousands of others."""
        begin = self.starts[probe] + position
        telling = self.informative_sums[begin + SEED] > self.informative_sums[begin]
        telling |= self.informative_needed[probe] == 0
        key = row * max(1, len(self.lengths)) + probe
        wanted = np.unique(key[telling])
        if not len(wanted):
            return row[:0], at[:0], probe[:0], position[:0]
        keep = wanted[np.minimum(np.searchsorted(wanted, key), len(wanted) - 1)] == key
        return row[keep], at[keep], probe[keep], position[keep]

    def _runs(self, seeds: Seeds) -> NDArray[np.bool_]:
        """Pairs with a run of common tokens that is long and informative enough."""
        ok = np.zeros(len(seeds.pair_row), bool)
        if not len(seeds.pair):
            return ok
        order = np.lexsort([seeds.position, seeds.diagonal, seeds.pair])
        pair, diagonal, position = seeds.pair[order], seeds.diagonal[order], seeds.position[order]
        goes_on = (pair[1:] == pair[:-1]) & (diagonal[1:] == diagonal[:-1]) & (position[1:] == position[:-1] + 1)
        first = np.flatnonzero(np.append(True, ~goes_on))
        last = np.append(first[1:], len(pair)) - 1
        probe = seeds.pair_probe[pair[first]]
        begin, end = self.starts[probe] + position[first], self.starts[probe] + position[last] + SEED
        long = (self.own_sums[end] - self.own_sums[begin] >= self.run_needed[probe]) & ~self.short[probe]
        telling = self.informative_sums[end] - self.informative_sums[begin] >= self.informative_needed[probe]
        ok[pair[first[long & telling]]] = True
        return ok

    def _covered(self, seeds: Seeds) -> NDArray[np.bool_]:
        """Pairs whose seeds cover enough of the item to be looked at."""
        if not len(seeds.pair):
            return np.zeros(0, bool)
        order = np.lexsort([seeds.position, seeds.pair])
        pair, position = seeds.pair[order], seeds.position[order]
        before = np.append(0, np.where(pair[1:] == pair[:-1], position[:-1] + SEED, 0))
        base = self.starts[seeds.pair_probe[pair]]
        # A repeated position adds nothing: its end is where the one before ended.
        added = self.own_sums[base + position + SEED] - self.own_sums[base + np.maximum(position, before)]
        covered = np.bincount(pair, np.maximum(added, 0), minlength=len(seeds.pair_row))
        return covered >= _COVER * self.size[seeds.pair_probe]

    def _verified(self, side: Role, seeds: Seeds, run: NDArray[np.bool_], stream: TokenHashes, turns: NDArray[np.int64]) -> Matches:
        """Measure each pair against the tokens of its row; `turns` are the bounds of the turns in them."""
        probe = seeds.pair_probe
        pairs, lengths = len(probe), self.lengths[probe]
        # One entry per token of each pair's item: which pair, where in the item, which token of all probes.
        of = np.repeat(np.arange(pairs), lengths)
        within = np.arange(len(of)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        token = self.starts[probe][of] + within
        owner = np.searchsorted(stream.owners, seeds.pair_row)
        own, informative = self.probes.own[token], self.probes.informative[token]

        def total(selected: NDArray[np.bool_]) -> NDArray[np.int64]:
            return np.bincount(of[selected], minlength=pairs)

        counts = self.counts[token]
        contained = counts & _in_rows(self.shingles[token], owner[of], stream)
        spread = contained.copy()
        for step in range(1, _SHINGLE):
            spread[step:] |= contained[:-step]
        share = total(contained) / np.maximum(1, total(counts))
        needed = self.informative_needed[probe]
        containment = (share >= self.rule.containment) & (total(spread & informative) >= needed)
        place, begin, end = aligned_tokens(seeds, of, within, self.tokens[token], owner, stream, np.maximum(3, _BAND * lengths))
        aligned, size = place >= 0, np.maximum(1, self.size[probe])
        in_order = total(aligned & own) / size
        telling = total(aligned & informative) >= _TELLING_SHARE * total(informative)
        edited = (in_order >= self.rule.edited_share) & telling & ~self.short[probe]
        tier = np.select([run, containment, edited], [_RUN, _CONTAINMENT, _EDITED], -1)
        matched = np.maximum(in_order, total(spread & own) / size)
        hit = tier >= 0
        turn = np.searchsorted(turns, stream.bounds[owner] + begin, side="right")
        hits = _frame(seeds.pair_row[hit], side, turn[hit], probe[hit], tier[hit], matched[hit], begin[hit], end[hit])
        here, known = hit[of], aligned | spread
        differences = gaps_of(
            lengths[hit], place[here], known[here], informative[here], self.tokens[token[here]], owner[hit], stream
        )
        gaps = pl.DataFrame(differences)
        gaps = gaps.with_columns(hits.select("row", "side", "probe").select(pl.all().gather(gaps["pair"])))
        return Matches(hits, gaps.select(pl.col(name).cast(kind) for name, kind in GAP_SCHEMA.items()))


def _shingle_hashes(tokens: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash of the three tokens from each on; at the end of the array of fewer."""
    hashes = tokens.copy()
    for step in range(1, _SHINGLE):
        hashes *= TOKEN_STEP
        hashes[: len(tokens) - step] += tokens[step:]
    return hashes


def _in_rows(shingles: NDArray[np.uint64], owner: NDArray[np.int64], stream: TokenHashes) -> NDArray[np.bool_]:
    """Whether each shingle stands in the text of its owner."""
    owners = stream.texts()
    whole = np.arange(len(owners)) + _SHINGLE <= stream.bounds[1:][owners]
    known = np.unique(_salted(_shingle_hashes(stream.hashes)[whole], owners[whole]))
    if not len(known):
        return np.zeros(len(shingles), bool)
    asked = _salted(shingles, owner)
    return known[np.minimum(np.searchsorted(known, asked), len(known) - 1)] == asked


def _salted(hashes: NDArray[np.uint64], owner: NDArray[np.int64]) -> NDArray[np.uint64]:
    mixed = (hashes ^ (owner.astype(np.uint64) * MIX)) * TOKEN_STEP
    return mixed ^ (mixed >> np.uint64(29))


def _frame(
    row: NDArray[np.int64],
    side: Role,
    turn: NDArray[np.int64],
    probe: NDArray[np.int64],
    tier: NDArray[np.int64] | int,
    matched: NDArray[np.float64] | float,
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
) -> pl.DataFrame:
    n = len(row)
    columns = {"row": row, "turn": turn, "probe": probe, "tier": np.broadcast_to(tier, n), "matched": np.broadcast_to(matched, n)}
    frame = pl.DataFrame({**columns, "begin": begin, "end": end}).with_columns(side=pl.lit(str(side)))
    return frame.select(pl.col(name).cast(kind) for name, kind in _HIT_SCHEMA.items())
