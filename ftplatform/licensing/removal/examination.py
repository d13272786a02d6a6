"""The exact part of the removal check: every row, cache and ancestor of a closure held against a ban."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from ftplatform.licensing.removal.ban import Ban
from ftplatform.licensing.removal.closure import SHAPING, Ancestor, Closure, RowSet, Source, read_tables
from ftplatform.licensing.removal.taint import Taint, taint
from ftplatform.licensing.rights import EdgeRole
from ftplatform.progress import advance

_REBUILD = "Rebuild from the base model with these rows excluded."
_DESCENT = "Give the row sets in which their parents stand, or drop these rows."
#: Rows named per finding.
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that speaks against the removal, or (as a gap) that could not be looked at.

    Attributes:
        kind: ``row``, ``cache``, ``ancestor``, ``mitigation``, ``text``, ``near``, ``probe`` or ``descent``.
        where: the asset, for an ancestor with the path that leads there.
        examples: (row id, what it fell by) of the first rows.
    """

    kind: str
    where: str
    problem: str
    rows: int = 0
    examples: tuple[tuple[str, str], ...] = ()
    remedy: str = _REBUILD

    def __str__(self) -> str:
        named = f" (row {self.examples[0][0][:16]} by {self.examples[0][1][:16]})" if self.examples else ""
        return f"{self.where}: {self.problem}{named}"

    def lines(self) -> Iterator[dict[str, str | int]]:
        """One line of evidence per example, or one at all."""
        for row_id, via in self.examples or (("", ""),):
            yield {"kind": self.kind, "where": self.where, "problem": self.problem, "rows": self.rows, "row_id": row_id, "via": via}

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "examples": [list(example) for example in self.examples]}


@dataclass(frozen=True, eq=False)
class Examination:
    """What was looked at and found.

    Attributes:
        rows: rows of row sets that shaped the artifact. fallen: how many of them are banned or derived from banned ones.
        row_sets, caches, ancestors: what was looked at, for the record.
        recorded: row sets that hold rows that fell without shaping the weights: eval sets, and sets used only to drop others.
        kept: rows with a banned origin that stay by another.
        fallen_ids: `row_id` of everything that fell.
    """

    rows: int
    fallen: int
    row_sets: tuple[dict[str, Any], ...]
    caches: tuple[dict[str, Any], ...]
    ancestors: tuple[dict[str, Any], ...]
    recorded: tuple[dict[str, Any], ...]
    kept: int
    fallen_ids: pl.DataFrame
    findings: tuple[Finding, ...]
    gaps: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """What was looked at and counted; the same for the same closure, ban and clean set."""
        return {
            "rows": self.rows,
            "fallen": self.fallen,
            "kept_by_another_origin": self.kept,
            "row_sets": list(self.row_sets),
            "caches": list(self.caches),
            "ancestors": list(self.ancestors),
            "recorded": list(self.recorded),
        }


def examine(closure: Closure, ban: Ban, clean: Collection[str] = ()) -> Examination:
    """Hold every row, cache and ancestor against the ban; arguments and errors as in `check.influence_removed`."""
    parts = list(closure.walk())
    every = _distinct([rows for _, part in parts for rows in (*part.row_sets, *part.lineage)])
    spread = taint(every, ban)
    fallen = spread.rows
    findings = [
        Finding("mitigation", path, f"{', '.join(part.mitigations)} mitigates, it does not remove", remedy=_REBUILD)
        for path, part in parts
        if part.mitigations
    ]
    gaps: list[Finding] = []
    row_sets: list[dict[str, Any]] = []
    recorded: list[dict[str, Any]] = []
    seen: set[tuple[str, str, EdgeRole]] = set()
    for path, part in parts:
        for rows in part.row_sets:
            if (rows.name, rows.snapshot, rows.role) in seen:
                continue
            seen.add((rows.name, rows.snapshot, rows.role))
            line, hits, doubts = _count(rows.name, rows.read, fallen, spread.undecided)
            line |= {"snapshot": rows.snapshot, "role": str(rows.role)}
            if rows.role not in SHAPING:
                recorded += [line] if hits.height else []
                continue
            row_sets.append(line)
            where = rows.name if part is closure else f"{rows.name} of {path}"
            if hits.height:
                findings.append(_hit("row", where, line["fallen"], hits))
            if doubts.height:
                examples = tuple(doubts.select("row_id", "reason").head(EXAMPLES).iter_rows())
                problem = f"descent of {doubts.height} row(s) is unknown"
                gaps.append(Finding("descent", where, problem, doubts.height, examples, _DESCENT))
            if not line["rows"]:
                gaps.append(
                    Finding("row", where, "there are no rows to look at", remedy="Give the rows the artifact was made from.")
                )
        vouched_for = part is not closure and part.snapshot in clean
        if not vouched_for and not any(rows.role is EdgeRole.ROWS for rows in part.row_sets):
            gaps.append(Finding("row", path, "no rows are declared that it was trained on", remedy="Declare its row sets."))
    caches = [line for path, part in parts for line in _caches(path, part, spread, findings, gaps)]
    ancestors = [line for path, part in parts for line in _ancestors(path, part, ban, clean, findings)]
    return Examination(
        rows=sum(line["rows"] for line in row_sets),
        fallen=sum(line["fallen"] for line in row_sets),
        row_sets=_sorted(row_sets),
        caches=_sorted(caches),
        ancestors=_sorted(ancestors),
        recorded=_sorted(recorded),
        kept=len(spread.kept),
        fallen_ids=fallen.select("row_id"),
        findings=tuple(findings),
        gaps=tuple(gaps),
    )


def blocking_sets(closure: Closure) -> list[RowSet]:
    """The row sets that shaped the artifact, its ancestors' included, each once."""
    return _distinct([rows for _, part in closure.walk() for rows in part.row_sets if rows.role in SHAPING])


def _distinct(row_sets: list[RowSet]) -> list[RowSet]:
    return list({(rows.name, rows.snapshot): rows for rows in reversed(row_sets)}.values())[::-1]


def _count(
    name: str, read: Source, fallen: pl.DataFrame, undecided: pl.DataFrame
) -> tuple[dict[str, Any], pl.DataFrame, pl.DataFrame]:
    """Rows looked at and rows that fell; of these the first few with what they fell by; and the undecided ones."""
    rows = count = 0
    first, doubts = [fallen.clear()], [undecided.clear()]
    for table in read_tables(name, read, ["row_id"]):
        frame = pl.DataFrame(pl.from_arrow(table))
        hits = frame.join(fallen, on="row_id", how="inner", maintain_order="left")
        rows, count = rows + frame.height, count + hits.height
        first.append(hits.head(EXAMPLES))
        doubts.append(frame.join(undecided, on="row_id", how="inner", maintain_order="left"))
        advance(f"examine {name}", rows)
    return {"name": name, "rows": rows, "fallen": count}, pl.concat(first).head(EXAMPLES), pl.concat(doubts)


def _hit(kind: str, where: str, count: int, hits: pl.DataFrame) -> Finding:
    derived = int((hits["generation"] > 0).sum())
    how = (
        "derived from banned rows" if derived == hits.height else "banned" if not derived else "banned or derived from banned rows"
    )
    return Finding(kind, where, f"{count} row(s) are {how}", count, tuple(hits.select("row_id", "via").iter_rows()))


def _caches(path: str, part: Closure, spread: Taint, findings: list[Finding], gaps: list[Finding]) -> Iterator[dict[str, Any]]:
    for cache in part.caches:
        where = f"{cache.name} ({cache.kind}) of {path}"
        if cache.read is None:
            gaps.append(Finding("cache", where, "nobody knows which rows are in it", remedy="Delete the cache and rebuild it."))
            continue
        line, hits, _ = _count(cache.name, cache.read, spread.rows, spread.undecided)
        if hits.height:
            findings.append(_hit("cache", where, line["fallen"], hits))
        yield {**line, "snapshot": cache.snapshot, "kind": cache.kind}


def _ancestors(path: str, part: Closure, ban: Ban, clean: Collection[str], findings: list[Finding]) -> Iterator[dict[str, Any]]:
    for ancestor in part.ancestors:
        standing, problem = _standing(ancestor, ban, clean)
        if problem:
            where = f"{path} < {ancestor.role} {ancestor.name}"
            findings.append(Finding("ancestor", where, problem, remedy="Rebuild from an ancestor that is clean."))
        yield {
            "name": ancestor.name,
            "role": str(ancestor.role),
            "snapshot": ancestor.snapshot,
            "closure": ancestor.closure.digest if ancestor.closure else None,
            "standing": standing,
        }


def _standing(ancestor: Ancestor, ban: Ban, clean: Collection[str]) -> tuple[str, str]:
    if ancestor.role not in SHAPING:
        return "did not shape the weights", ""
    if ancestor.snapshot in ban.artifacts or ancestor.name in ban.names:
        return "banned", f"{ancestor.name} is banned itself"
    if ancestor.closure is not None:
        return "examined", ""
    if ancestor.snapshot in clean:
        return "declared clean", ""
    return "outside the clean set", f"{ancestor.name} is outside the clean set and has no closure to examine"


def _sorted(lines: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(sorted(lines, key=lambda line: (line["name"], line["snapshot"], line.get("role", ""))))
