"""The license checks: is every license known, and do the licenses allow what we do? (SPEC M2)

The unit is the row. Independent origins of one row are alternatives: text that we also hold under a license that allows the use may
be used, whatever the other copy says. What a row was derived from binds: teacher and seeds restrict it, whatever its own file says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from ftplatform.licensing.combinations import Combination, Provenance, Rows, provenance, provenance_per_row
from ftplatform.licensing.policy import Policy
from ftplatform.licensing.rights import (
    ALL_UNKNOWN,
    EdgeRole,
    Level,
    Rights,
    Use,
    all_of,
    any_of,
    transfer,
)
from ftplatform.licensing.terms import (
    DEFAULT_ROLES,
    Assessment,
    Kind,
    SourceTerms,
    assess_all,
    conflict_loosens,
    withdrawn_rows,
    withdrawn_terms,
)
from ftplatform.rows.masking import excerpt
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"

Terms = Mapping[str, SourceTerms] | Iterable[SourceTerms]
Roles = Mapping[str, EdgeRole | str]


def uses_for(kind: Kind | str, declared: Iterable[Use | str]) -> tuple[Use, ...]:
    """Which of a project's declared uses must be allowed for a thing of this kind, in a fixed order.

    An eval set is never trained on, so only `evaluate` counts there (and it always counts). A base model's own data is not passed
    on, and it is not an eval set. Everything else needs every declared use.
    """
    wanted = {Use(use) for use in declared}
    match Kind(kind):
        case Kind.EVAL_SET:
            wanted = {Use.EVALUATE}
        case Kind.BASE_MODEL:
            wanted -= {Use.REDISTRIBUTE_DATA, Use.EVALUATE}
        case _:
            pass
    return tuple(use for use in Use if use in wanted)


# ---- license_known ------------------------------------------------------------------------------------------------------------


def license_known(terms: Terms, rows_per_source: Mapping[str, int], policy: Policy, *, unit: str = "rows") -> Verdict:
    """Every row comes from sources with a concluded license and evidence.

    Args:
        terms: what is known, at least about every source in `rows_per_source`.
        rows_per_source: number of rows by source name; for a model, ``{name: 1}`` with ``unit="models"``.
        policy: decides whether evidence contradicts a conclusion.
        unit: what is counted, for messages.

    Returns:
        Pass if 100 % are known; warn if a conclusion is looser than what the host declares (the stricter one is applied anyway);
        insufficient evidence if there are no rows; else fail. Rows of generated sets are known if their teacher and seeds are.
    """
    assessments = assess_all(_values(terms), policy)
    total = sum(rows_per_source.values())
    config = {"policy": policy.digest, "terms": _digests(assessments, rows_per_source), "unit": unit}
    common: dict[str, Any] = {
        "statistic": f"share of {unit} with a concluded license and evidence",
        "n": total,
        "n_required": 1,
        "threshold": 1.0,
        "check_version": CHECK_VERSION,
        "config": config,
        "tier": "rules",
        "baseline": f"policy {policy.name} {policy.version}",
    }
    if total == 0:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary=f"There are no {unit} to judge.",
            remedy="Materialize the source, or remove it from the project.",
            **common,
        )
    states = [_known_state(name, count, assessments, policy) for name, count in rows_per_source.items() if count]
    unknown = [state for state in states if not state.known]
    loosened = [state for state in states if state.known and state.loosened]
    known_rows = total - sum(state.rows for state in unknown)
    listed = (
        sorted(unknown, key=lambda s: (-s.rows, s.name))
        + loosened
        + [s for s in states if s.known and s.problem and not s.loosened]
    )
    evidence = [
        {"source": s.name, "kind": s.kind, unit: s.rows, "license": s.license, "problem": s.problem} for s in listed[:MAX_EVIDENCE]
    ]
    details = {
        "sources": {s.name: {unit: s.rows, "license": s.license, "known": s.known} for s in sorted(states, key=lambda s: s.name)}
    }
    plot = _known_plot(states, unit)
    if unknown:
        first = listed[0]
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{total - known_rows:,} of {total:,} {unit} lack a known license ({_names(unknown)}). {first.problem}.",
            estimate=known_rows / total,
            evidence=evidence,
            remedy=f"Read the terms of {first.name} and write 'concluded' and 'evidence' under its 'license' in the project file.",
            plot=plot,
            details=details,
            **common,
        )
    if loosened:
        return Verdict(
            decision=Decision.WARN,
            summary=f"All {total:,} {unit} have a concluded license; a stricter one is declared and applied: {_names(loosened)}.",
            estimate=1.0,
            evidence=evidence,
            remedy=f"Ask the publisher of {loosened[0].name} to correct the declaration, or conclude what it says.",
            plot=plot,
            details=details,
            **common,
        )
    return Verdict(
        decision=Decision.PASS,
        summary=f"All {total:,} {unit} have a concluded license with evidence.",
        estimate=1.0,
        evidence=evidence,
        remedy="Nothing to do.",
        plot=plot,
        details=details,
        **common,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    name: str
    kind: str
    rows: int
    license: str
    known: bool
    loosened: bool
    problem: str


def _known_state(name: str, rows: int, assessments: Mapping[str, Assessment], policy: Policy) -> _Known:
    found = assessments.get(name)
    if found is None:
        return _Known(name, "", rows, "none", False, False, "the project file says nothing about it")
    problems = list(found.problems)
    known = found.known
    if not found.terms.has_own_license:
        for parent in found.terms.derived_from:
            parent_terms = assessments.get(parent)
            if parent_terms is None or not parent_terms.known:
                known = False
                why = (
                    parent_terms.problems[0] if parent_terms and parent_terms.problems else "the project file says nothing about it"
                )
                problems.append(f"derived from {parent}: {why}")
    return _Known(
        name,
        str(found.terms.kind),
        rows,
        _shown(found.license),
        known,
        conflict_loosens(found, policy),
        _shown("; ".join(problems), 300),
    )


def _known_plot(states: Sequence[_Known], unit: str) -> str:
    from ftplatform.plots import bars

    worst = sorted(states, key=lambda s: (s.known, -s.rows, s.name))[:20]
    return bars(
        [(f"{s.name} ({'known' if s.known else 'unknown'})", float(s.rows)) for s in worst], title=f"{unit} by source and state"
    )


# ---- license_allows_use -------------------------------------------------------------------------------------------------------


def license_allows_use(
    rows: Rows | Provenance,
    terms: Terms,
    uses: Iterable[Use | str],
    policy: Policy,
    *,
    roles: Roles | None = None,
    parent_rows: pa.Table | None = None,
) -> Verdict:
    """Every declared use is among the rights of every row.

    Args:
        rows: table or stream of batches with `row_id`, `origins`, `parents`; or combinations grouped before.
        terms: by name as in `origins` and `parents`; a name without terms is unknown.
        uses: what must be allowed.
        policy: what licenses permit.
        roles: role of a parent where it differs from what its kind implies (`terms.DEFAULT_ROLES`).
        parent_rows: where parents that are row ids are looked up; a parent row that is not there makes its children unknown.

    Returns:
        Pass only if no row violates any use. Unknown is a violation. No rows, or no uses, is insufficient evidence.
    """
    known = list(_values(terms))
    grouped = rows if isinstance(rows, Provenance) else provenance(rows, parent_rows, withdrawn_rows(known))
    wanted = _wanted(uses)
    judge = _judge_of(known, policy, roles, grouped.ancestors)
    used = _names_in(grouped)
    common: dict[str, Any] = {
        "statistic": "rows whose licenses do not allow a declared use",
        "n": grouped.rows,
        "n_required": 1,
        "threshold": 0.0,
        "check_version": CHECK_VERSION,
        "config": {
            "policy": policy.digest,
            "uses": [str(use) for use in wanted],
            "terms": _digests(judge.assessments, used),
            "roles": {name: str(role) for name, role in sorted((roles or {}).items())},
        },
        "tier": "rules",
        "baseline": f"policy {policy.name} {policy.version}",
    }
    if grouped.rows == 0 or not wanted:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="There are no rows to judge." if not grouped.rows else "The project declares no use to judge.",
            remedy="Materialize the rows, and declare 'use' in the project file.",
            **common,
        )
    violations: list[_Violation] = []
    violating = 0
    for combination in grouped.combinations:
        rights = judge.rights(combination)
        refused = rights.refused(wanted)
        violating += combination.rows if refused else 0
        violations.extend(_Violation(combination, use, rights[use].level, *judge.blame(combination, use)) for use in refused)
    violations.sort(key=lambda v: (-v.level, -v.combination.rows, v.sources, v.use))
    plot = _violations_plot(violations, grouped.rows)
    obligations = obligations_by_use(grouped, judge, wanted)
    details = {"obligations": obligations, "combinations": len(grouped.combinations)}
    if violations:
        worst = violations[0]
        return Verdict(
            decision=Decision.FAIL,
            summary=(
                f"{violating:,} of {grouped.rows:,} rows may not be used as declared: {worst.sources} ({worst.licenses}) "
                f"{'denies' if worst.level is Level.DENY else 'is unknown for'} {worst.use}."
            ),
            estimate=float(violating),
            evidence=[v.row() for v in violations[:MAX_EVIDENCE]],
            remedy=f"Remove {worst.sources} from the mix, agree on other terms for it, or do without '{worst.use}'.",
            plot=plot,
            details=details,
            **common,
        )
    return Verdict(
        decision=Decision.PASS,
        summary=f"All {grouped.rows:,} rows allow {', '.join(wanted)}" + _obligations_sentence(obligations),
        estimate=0.0,
        remedy="Nothing to do but to meet the obligations." if any(obligations.values()) else "Nothing to do.",
        plot=plot,
        details=details,
        **common,
    )


def license_allows_use_of_model(terms: SourceTerms, uses: Iterable[Use | str], policy: Policy) -> Verdict:
    """Every declared use is among the rights of a base model (n is 1: the model)."""
    name = terms.name
    origin = Combination((name,), (), 1)
    wanted = uses_for(Kind.BASE_MODEL, uses)
    verdict = license_allows_use(Provenance((origin,)), {name: terms}, wanted, policy)
    if verdict.decision is Decision.PASS:
        summary = f"The license of {name} allows {', '.join(wanted)}" + _obligations_sentence(verdict.details["obligations"])
    elif verdict.decision is Decision.FAIL:
        row = verdict.evidence[0]
        summary = f"The license of {name} ({row['license']}) does not allow {row['use']}: {row['level']}."
    else:
        summary = verdict.summary
    return Verdict(**{**_fields(verdict), "summary": summary, "statistic": "models whose license does not allow a declared use"})


@dataclass(frozen=True, slots=True)
class _Violation:
    combination: Combination
    use: Use
    level: Level
    sources: str
    licenses: str
    why: str

    def row(self) -> dict[str, str | int]:
        """One row of evidence."""
        return {
            "source": self.sources,
            "license": self.licenses,
            "use": str(self.use),
            "level": self.level.name.lower(),
            "rows": self.combination.rows,
            "first_rows": ", ".join(row_id[:12] for row_id in self.combination.examples),
            "why": self.why,
        }


class _Judge:
    """Rights of combinations under fixed terms; each name and each labeled ancestor is worked out once."""

    def __init__(self, assessments: Mapping[str, Assessment], roles: Roles, ancestors: Mapping[str, Combination]) -> None:
        self.assessments = assessments
        self.roles = {name: EdgeRole(role) for name, role in roles.items()}
        self.ancestors = ancestors
        self._of_parent: dict[str, Rights] = {}

    def rights(self, combination: Combination) -> Rights:
        """OR over origins of (its terms AND the parents that belong to it), AND the parents that belong to no origin in particular.

        A parent belongs to a generated origin if that origin declares to be derived from it *and* every other origin of the row is
        known to carry no parents of its own; otherwise nobody can tell whose parent it is, and it binds every copy.
        """
        if not combination.origins:
            return ALL_UNKNOWN
        shared, own = self._split(combination)
        alternatives = any_of(self._own(origin) & all_of(self.of_parent(p) for p in own[origin]) for origin in combination.origins)
        return alternatives & all_of(self.of_parent(parent) for parent in shared)

    def of_parent(self, name: str) -> Rights:
        """What a parent leaves to its children."""
        if name not in self._of_parent:
            self._of_parent[name] = ALL_UNKNOWN  # what a cycle of declarations finds: nobody knows
            self._of_parent[name] = self._transferred(name)
        return self._of_parent[name]

    def blame(self, combination: Combination, use: Use) -> tuple[str, str, str]:
        """Who refuses `use`: names, their licenses, and one reason."""
        shared, own = self._split(combination)
        parents = [p for p in shared if not self.of_parent(p)[use].usable]
        if not parents:
            refusing = [o for o in combination.origins if not self._own(o)[use].usable]
            parents = sorted(
                {p for o in combination.origins if o not in refusing for p in own[o] if not self.of_parent(p)[use].usable}
            )
            parents = [*refusing, *parents]
        names = sorted({name for parent in parents for name in self._leaves(parent, use)}) or ["(no origin)"]
        found = [self.assessments.get(name) for name in names]
        licenses = [item.license if item else "none" for item in found]
        reasons = [f"{name}: {item.problems[0]}" for name, item in zip(names, found, strict=True) if item and item.problems]
        if not reasons and any(item is None for item in found):
            reasons = [f"{names[[item is None for item in found].index(True)]}: the project file says nothing about it"]
        return _shown(", ".join(names)), _shown("; ".join(dict.fromkeys(licenses))), _shown(reasons[0], 240) if reasons else ""

    def _own(self, origin: str) -> Rights:
        found = self.assessments.get(origin)
        return found.rights if found is not None else ALL_UNKNOWN

    def _split(self, combination: Combination) -> tuple[list[str], dict[str, list[str]]]:
        """Parents that bind every copy, and for each origin the parents that bind its copy."""
        own: dict[str, list[str]] = {}
        for origin in combination.origins:
            declared = self._derived_from(origin)
            recorded = [p for p in combination.parents if self._belongs(p, declared)]
            # A generated row that records only some of its parents is bound by all that its set declares.
            own[origin] = recorded if self._is_complete(recorded, declared) else sorted({*recorded, *declared})
        plain = [origin for origin in combination.origins if not self._derived_from(origin)]
        attributable = all(o in self.assessments and not self.assessments[o].terms.rows_have_parents for o in plain)
        belongs = {p for parents in own.values() for p in parents} if attributable else set()
        return [p for p in combination.parents if p not in belongs], own

    def _belongs(self, parent: str, declared: Sequence[str]) -> bool:
        """The parent is declared, or is a group of rows that came from declared sources only."""
        rows = self.ancestors.get(parent)
        return parent in declared if rows is None else set(rows.origins) <= set(declared)

    def _is_complete(self, recorded: Sequence[str], declared: Sequence[str]) -> bool:
        """Recorded parents name every teacher; seeds may be fewer than declared, since a row has one or two of them."""
        teachers = {name for name in declared if self._role(name) is EdgeRole.TEACHER}
        has_seed = any(parent not in teachers for parent in recorded)
        return teachers <= set(recorded) and (has_seed or teachers == set(declared))

    def _derived_from(self, origin: str) -> tuple[str, ...]:
        found = self.assessments.get(origin)
        return found.terms.derived_from if found is not None else ()

    def _role(self, name: str) -> EdgeRole:
        found = self.assessments.get(name)
        return self.roles.get(name) or (DEFAULT_ROLES[found.terms.kind] if found is not None else EdgeRole.ROWS)

    def _transferred(self, name: str) -> Rights:
        if name in self.ancestors:
            return transfer(EdgeRole.PROMPT_SEED, self.rights(self.ancestors[name]))
        found = self.assessments.get(name)
        if found is None:
            return ALL_UNKNOWN
        return transfer(self._role(name), found.rights & all_of(self.of_parent(p) for p in found.terms.derived_from))

    def _leaves(self, name: str, use: Use) -> list[str]:
        """The named things behind a parent that refuse `use`."""
        rows = self.ancestors.get(name)
        if rows is None:
            return [name]
        origins = [origin for origin in rows.origins if not self._own(origin)[use].usable]
        parents = [parent for parent in rows.parents if not self.of_parent(parent)[use].usable]
        return [*origins, *(leaf for parent in parents for leaf in self._leaves(parent, use))]


def _judge_of(terms: Iterable[SourceTerms], policy: Policy, roles: Roles | None, ancestors: Mapping[str, Combination]) -> _Judge:
    known = list(terms)
    return _Judge(assess_all([*known, *withdrawn_terms(known).values()], policy), roles or {}, ancestors)


def _violations_plot(violations: Sequence[_Violation], rows: int) -> str:
    from ftplatform.plots import bars

    counts: dict[str, int] = {}
    for violation in violations:
        label = f"{violation.sources}: {violation.use} {violation.level.name.lower()}"
        counts[label] = counts.get(label, 0) + violation.combination.rows
    shown = sorted(counts.items(), key=lambda item: -item[1])[:20] or [("violating rows", 0)]
    return bars([(label, float(count)) for label, count in shown], title=f"Rows that may not be used as declared, of {rows:,}")


# ---- obligations and the filter -----------------------------------------------------------------------------------------------


def obligations_by_use(grouped: Provenance, judge: _Judge, uses: Sequence[Use]) -> dict[str, list[str]]:
    """Obligations that using all the rows brings, by use; uses without any are left out."""
    found: dict[str, set[str]] = {}
    for combination in grouped.combinations:
        rights = judge.rights(combination)
        for use in uses:
            found.setdefault(str(use), set()).update(rights[use].obligations)
    return {use: sorted(names) for use, names in found.items() if names}


REMOVED_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
        pa.field("use", pa.string(), nullable=False),
    ]
)


def filter_unlicensed(
    rows: pa.Table,
    terms: Terms,
    uses: Iterable[Use | str],
    policy: Policy,
    *,
    roles: Roles | None = None,
    parent_rows: pa.Table | None = None,
) -> tuple[pa.Table, pa.Table]:
    """The license filter of a corpus: the rows that may be used as declared, and the others with reasons.

    Arguments as in `license_allows_use`.

    Returns:
        (kept, removed): `kept` has the columns and order of `rows`; `removed` has `REMOVED_SCHEMA`, one entry per removed row with
        the most restrictive use it fails. kept + removed = rows.
    """
    known = list(_values(terms))
    found = provenance_per_row(rows, parent_rows, withdrawn_rows(known))
    wanted = _wanted(uses)
    judge = _judge_of(known, policy, roles, found.ancestors)
    columns: dict[str, list[str | None]] = {name: [] for name in REMOVED_SCHEMA.names[1:]}
    for combination in found.combinations:
        reason = _reason(judge, combination, wanted)
        for name, values in columns.items():
            values.append(None if reason is None else reason[name])
    keep = pl.Series([value is None for value in columns["reason"]], dtype=pl.Boolean).gather(found.index)
    lost = found.index.filter(~keep)
    row_ids = pl.Series(pl.from_arrow(rows["row_id"])).filter(~keep)
    removed = {"row_id": row_ids} | {name: pl.Series(values, dtype=pl.String).gather(lost) for name, values in columns.items()}
    table = pa.table({name: values.to_arrow() for name, values in removed.items()}).cast(REMOVED_SCHEMA)
    return rows.filter(pa.array(keep.to_arrow(), type=pa.bool_())), table


def _reason(judge: _Judge, combination: Combination, wanted: Sequence[Use]) -> dict[str, str] | None:
    """Why rows of this combination may not be used, None if they may."""
    rights = judge.rights(combination)
    refused = rights.refused(wanted)
    if not refused:
        return None
    use = max(refused, key=lambda u: rights[u].level)
    sources, licenses, why = judge.blame(combination, use)
    reason = f"{use} is {rights[use].level.name.lower()}" + (f" ({why})" if why else "")
    return {"reason": reason, "source": sources, "license": licenses, "use": str(use)}


# ---- parts ---------------------------------------------------------------------------------------------------------------------


def _wanted(uses: Iterable[Use | str]) -> tuple[Use, ...]:
    given = {Use(use) for use in uses}
    return tuple(use for use in Use if use in given)


def _values(terms: Terms) -> Iterable[SourceTerms]:
    return terms.values() if isinstance(terms, Mapping) else terms


def _digests(assessments: Mapping[str, Assessment], names: Iterable[str]) -> dict[str, str | None]:
    """Digest of the terms of each name and of what it is derived from, so that a changed declaration is another configuration."""
    found: dict[str, str | None] = {}
    queue = sorted(names)
    while queue:
        name = queue.pop()
        if name not in found:
            known = assessments.get(name)
            found[name] = known.terms.digest if known else None
            queue.extend(known.terms.derived_from if known else ())
    return dict(sorted(found.items()))


def _names_in(grouped: Provenance) -> set[str]:
    every = (*grouped.combinations, *grouped.ancestors.values())
    return {name for c in every for name in (*c.origins, *c.parents) if name not in grouped.ancestors}


def _names(states: Sequence[_Known]) -> str:
    shown = ", ".join(state.name for state in states[:5])
    return shown if len(states) <= 5 else f"{shown} and {len(states) - 5} more"


def _obligations_sentence(obligations: Mapping[str, Sequence[str]]) -> str:
    names = sorted({name for listed in obligations.values() for name in listed})
    return f", if these obligations are met: {', '.join(names)}." if names else "."


def _shown(text: str, limit: int = 120) -> str:
    """Text from outside (tags, names, quotes) as it may appear in evidence: masked and cut."""
    return excerpt(text, limit)


def _fields(verdict: Verdict) -> dict[str, Any]:
    return {name: getattr(verdict, name) for name in verdict.__dataclass_fields__}
