"""What is known about the terms of one source, model or teacher, and what follows from it.

Two truths are kept apart, as SPDX 3 does: `declared` is what a host or README says, `concluded` is what a person decided after
reading the evidence. Only a conclusion with evidence counts; where the two disagree, both bind; where the evidence contradicts the
conclusion, nothing is allowed until somebody looks.

The project file says what is declared and concluded now; the ledger adds how the terms stand, see `Standing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from ftplatform.canonical import digest
from ftplatform.licensing.evidence import Evidence
from ftplatform.licensing.expressions import ParsedLicense, equivalent, parse_license
from ftplatform.licensing.policy import Policy
from ftplatform.licensing.rights import ALL_ALLOWED, ALL_DENIED, ALL_UNKNOWN, EdgeRole, Rights, Use, all_of, allow, deny
from ftplatform.licensing.states import REVOKED, State


class Kind(StrEnum):
    """What the terms belong to."""

    SOURCE = "source"
    SYNTHETIC = "synthetic"
    FEEDBACK = "feedback"
    EVAL_SET = "eval_set"
    BASE_MODEL = "base_model"
    TEACHER = "teacher"


#: The role a parent plays unless the caller says otherwise.
DEFAULT_ROLES: Mapping[Kind, EdgeRole] = {
    Kind.SOURCE: EdgeRole.PROMPT_SEED,
    Kind.SYNTHETIC: EdgeRole.PROMPT_SEED,
    Kind.FEEDBACK: EdgeRole.PROMPT_SEED,
    Kind.EVAL_SET: EdgeRole.PROMPT_SEED,
    Kind.BASE_MODEL: EdgeRole.BASE_MODEL,
    Kind.TEACHER: EdgeRole.TEACHER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the terms stand by the ledger, beyond what the project file says.

    Attributes:
        state: the state in force.
        since: since when (RFC 3339).
        watcher: who saw it.
        notice: id of the notice it rests on.
        held_before: whether our copy is older than `since`; a prospective change does not touch it then.
        rows: ids of rows that were withdrawn or are claimed, sorted; the rest of the source is not affected by them.
    """

    state: State
    since: str = ""
    watcher: str = ""
    notice: str | None = None
    held_before: bool = False
    rows: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """For people: the state, since when, by whom."""
        notice = f", notice {self.notice}" if self.notice else ""
        since = f" since {self.since[:10]}" if self.since else ""
        return f"{self.state}{since}" + (f" (seen by {self.watcher}{notice})" if self.watcher else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTerms:
    """The facts about one thing that carries terms.

    Attributes:
        name: as it appears in the `origins` and `parents` of rows.
        kind: what it is.
        declared: what the host or README says, verbatim; a tuple if the host gives a list.
        concluded: SPDX expression a person concluded.
        concluded_by: that person.
        evidence: the files that were read.
        derived_from: names whose terms flow into all of it: teacher and seeds of a synthetic set. A synthetic set has no license of
            its own; its rows are as free as what they were made from.
        rows_have_parents: False if none of its rows names a parent in its own snapshot. Then parents found on a row that
            deduplication merged from several origins belong to the other origins. True is the safe assumption.
        standing: what the ledger knows about it, None if it knows nothing.
    """

    name: str
    kind: Kind = Kind.SOURCE
    declared: str | tuple[str, ...] | None = None
    concluded: str | None = None
    concluded_by: str | None = None
    evidence: tuple[Evidence, ...] = ()
    derived_from: tuple[str, ...] = ()
    rows_have_parents: bool = True
    standing: Standing | None = None

    @property
    def has_own_license(self) -> bool:
        """False for generated data, whose terms are those of its parents."""
        return self.kind is not Kind.SYNTHETIC or self.declared is not None or self.concluded is not None

    @property
    def digest(self) -> str:
        """Digest of the facts. Evidence counts by its words: a re-wrapped license text or a new copyright year changes nothing."""
        return digest(
            {
                "name": self.name,
                "kind": str(self.kind),
                "declared": list(self.declared) if isinstance(self.declared, tuple) else self.declared,
                "concluded": self.concluded,
                "concluded_by": self.concluded_by,
                "evidence": sorted([evidence.path, evidence.identity] for evidence in self.evidence),
                "derived_from": sorted(self.derived_from),
                "standing": self._standing_record(),
            }
        )

    def _standing_record(self) -> dict[str, object] | None:
        """What of the standing decides. A state that changes nothing is none; who saw it, and when, decides nothing either."""
        standing = self.standing
        if standing is None:
            return None
        unchanged = standing.state in _UNCHANGED or (standing.state is State.PROSPECTIVE and standing.held_before)
        if unchanged and not standing.rows:
            return None
        return {"state": None if unchanged else str(standing.state), "notice": standing.notice, "rows": digest(list(standing.rows))}


@dataclass(frozen=True, slots=True)
class Assessment:
    """What follows from the terms of one thing under a policy.

    Attributes:
        rights: what its own terms permit. Parents are not in it; see `checks`.
        known: a person concluded a license, from evidence, and the evidence does not contradict it.
        problems: what is wrong, one clause each; empty if nothing is.
    """

    terms: SourceTerms
    status: State
    declared: ParsedLicense
    concluded: ParsedLicense
    rights: Rights
    known: bool
    problems: tuple[str, ...] = ()

    @property
    def license(self) -> str:
        """For people: the concluded expression, or what was declared; for generated data, whose terms it has."""
        if not self.terms.has_own_license:
            return f"that of {', '.join(self.terms.derived_from) or 'nobody'}"
        if self.concluded.expression is not None:
            return self.concluded.expression
        return f"{self.declared.raw} (declared only)" if self.declared.raw else "none"


# What a clause takes away, whatever the license is called.
_DENIED_BY_CLAUSE: Mapping[str, frozenset[Use]] = {
    "non-commercial": frozenset({Use.COMMERCIAL_MODEL}),
    "research only": frozenset({Use.COMMERCIAL_MODEL}),
    "no derivatives": frozenset({Use.COMMERCIAL_MODEL, Use.REDISTRIBUTE_WEIGHTS, Use.TEACHER}),
    "no model training": frozenset({Use.TRAIN, Use.COMMERCIAL_MODEL, Use.REDISTRIBUTE_WEIGHTS, Use.TEACHER}),
}


# States that leave the concluded terms as they are.
_UNCHANGED = frozenset({State.ACTIVE, State.REINSTATED, State.GATED, State.UNREACHABLE, State.WITHDRAWN_ROWS})


def assess(terms: SourceTerms, policy: Policy) -> Assessment:
    """State and rights of one thing, from its own terms and how they stand.

    | standing | effect |
    |---|---|
    | taken down, deleted, disabled | everything is denied |
    | relicensed, disputed, unknown | the stricter of old and new, and unknown until a person concludes |
    | prospective | nothing for a copy held before; else as relicensed |
    | others | nothing |
    """
    found = _assess_words(terms, policy)
    standing = terms.standing
    if standing is None or standing.state in _UNCHANGED or (standing.state is State.PROSPECTIVE and standing.held_before):
        return found
    if standing.state in REVOKED:
        return replace(found, status=standing.state, rights=ALL_DENIED, problems=(standing.text, *found.problems))
    new = policy.rights(found.declared) if found.declared.tree is not None else ALL_ALLOWED
    problem = f"{standing.text}; nobody has concluded anew"
    return replace(
        found, status=standing.state, known=False, rights=found.rights & new & ALL_UNKNOWN, problems=(problem, *found.problems)
    )


def withdrawn_name(name: str) -> str:
    """Name under which the withdrawn and claimed rows of `name` are judged. No source can have it (names hold no spaces)."""
    return f"{name} (withdrawn rows)"


def withdrawn_terms(terms: Iterable[SourceTerms]) -> dict[str, SourceTerms]:
    """Terms of the withdrawn and claimed rows, by `withdrawn_name`: denied, whatever the rest of the source is under."""
    return {
        withdrawn_name(item.name): replace(
            item, name=withdrawn_name(item.name), standing=replace(item.standing, state=State.TAKEDOWN, rows=())
        )
        for item in terms
        if item.standing is not None and item.standing.rows
    }


def withdrawn_rows(terms: Iterable[SourceTerms]) -> dict[str, tuple[tuple[str, ...], str]]:
    """Their ids and the name they are judged under, by source; what `combinations.provenance` takes."""
    return {t.name: (t.standing.rows, withdrawn_name(t.name)) for t in terms if t.standing is not None and t.standing.rows}


def _assess_words(terms: SourceTerms, policy: Policy) -> Assessment:
    """What declaration, conclusion and evidence say."""
    declared = parse_license(terms.declared)
    concluded = parse_license(terms.concluded)
    if not terms.has_own_license:
        known = bool(terms.derived_from)
        problem = () if known else ("generated data names neither teacher nor seeds",)
        return Assessment(
            terms,
            State.ACTIVE if known else State.UNKNOWN,
            declared,
            concluded,
            ALL_ALLOWED if known else ALL_UNKNOWN,
            known,
            problem,
        )

    problems = _missing(terms, declared, concluded)
    if problems:
        # A tag is not a permission, but what it forbids can be believed.
        rights = ALL_UNKNOWN if declared.tree is None else ALL_UNKNOWN & policy.rights(declared)
        rights = all_of([rights, *(_restriction(clause.kind) for evidence in terms.evidence for clause in evidence.clauses)])
        return Assessment(terms, State.UNKNOWN, declared, concluded, rights, False, tuple(problems))

    rights = policy.rights(concluded)
    contradictions, restrictions = _contradictions(terms, concluded, rights, policy)
    rights = all_of([rights, *restrictions])
    if contradictions:
        return Assessment(terms, State.DISPUTED, declared, concluded, rights & ALL_UNKNOWN, False, tuple(contradictions))
    if declared.tree is not None and not equivalent(declared, concluded):
        problem = f"declared {declared.expression}, concluded {concluded.expression}: both bind"
        return Assessment(terms, State.DISPUTED, declared, concluded, rights & policy.rights(declared), True, (problem,))
    return Assessment(terms, State.ACTIVE, declared, concluded, rights, True)


def assess_all(terms: Iterable[SourceTerms], policy: Policy) -> dict[str, Assessment]:
    """Assessments by name.

    Raises:
        ValueError: if a name occurs twice with different facts.
    """
    found: dict[str, Assessment] = {}
    for item in terms:
        if item.name in found and found[item.name].terms != item:
            raise ValueError(f"two different terms are named {item.name!r}")
        found[item.name] = assess(item, policy)
    return found


def conflict_loosens(assessment: Assessment, policy: Policy) -> bool:
    """True if a person concluded something looser than the host declares; worth a second look although the stricter one counts."""
    if assessment.declared.tree is None or assessment.concluded.tree is None:
        return False
    return not policy.rights(assessment.concluded).at_least_as_strict_as(policy.rights(assessment.declared))


def _missing(terms: SourceTerms, declared: ParsedLicense, concluded: ParsedLicense) -> list[str]:
    """Why there is no conclusion to rely on."""
    if concluded.tree is None:
        if terms.concluded is not None:
            return [f"concluded license: {concluded.problem}"]
        if terms.declared is None:
            return ["no license is declared or concluded"]
        shown = declared.expression or declared.raw
        reason = "" if declared.tree is not None else f" ({declared.problem})"
        return [f"only a declared tag, {shown!r}{reason}; a tag is not evidence"]
    if not any(evidence.problem is None for evidence in terms.evidence):
        reasons = "".join(f"; {evidence.path} {evidence.problem}" for evidence in terms.evidence)
        return [f"concluded {concluded.expression} without evidence{reasons}"]
    return []


def _contradictions(terms: SourceTerms, concluded: ParsedLicense, rights: Rights, policy: Policy) -> tuple[list[str], list[Rights]]:
    """What the evidence says against the conclusion, and everything it adds to the terms."""
    found: list[str] = []
    restrictions: list[Rights] = []
    weighed = {_family(key) for key in concluded.keys}
    for evidence in terms.evidence:
        for clause in evidence.clauses:
            restriction = _restriction(clause.kind)
            restrictions.append(restriction)
            if not rights.at_least_as_strict_as(restriction):
                found.append(f"{evidence.path} says {clause.kind} ({clause.quote!r}), the conclusion {terms.concluded} does not")
        for statement in evidence.statements:
            parsed = parse_license(statement)
            if {_family(key) for key in parsed.keys} <= weighed:
                continue  # e.g. one of the two texts of a dual license; the conclusion has taken it into account
            stated = policy.rights(parsed)
            restrictions.append(stated)
            if not rights.at_least_as_strict_as(stated):
                found.append(f"{evidence.path} states {statement}, which is stricter than the conclusion {terms.concluded}")
    return found, restrictions


def _family(key: str) -> str:
    # The text of GPL 3 cannot say whether later versions are allowed; the conclusion can.
    return key.removesuffix("-only").removesuffix("-or-later")


def _restriction(kind: str) -> Rights:
    return Rights.of(dict.fromkeys(_DENIED_BY_CLAUSE[kind], deny()), allow())
