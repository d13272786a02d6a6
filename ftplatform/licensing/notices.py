"""Who must be credited, and which obligations come with using them: the raw material of a release's NOTICE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ftplatform.licensing.policy import Policy
from ftplatform.licensing.rights import Use, transfer
from ftplatform.licensing.terms import DEFAULT_ROLES, SourceTerms, assess


@dataclass(frozen=True, slots=True)
class Notice:
    """What is owed to one source, model or teacher.

    Attributes:
        license: SPDX expression.
        obligations: (name, what it asks for), sorted by name; empty if nothing is owed but naming the source.
        evidence: paths of the license texts.
    """

    name: str
    kind: str
    license: str
    obligations: tuple[tuple[str, str], ...]
    evidence: tuple[str, ...]


def notices(terms: Iterable[SourceTerms], uses: Iterable[Use | str], policy: Policy) -> list[Notice]:
    """One notice per thing that has a license of its own, sorted by kind and name.

    Only call it with what was really used; whether the uses are allowed at all is `license_allows_use`'s question.
    """
    wanted = [Use(use) for use in uses]
    found: list[Notice] = []
    for item in terms:
        if not item.has_own_license:
            continue
        assessment = assess(item, policy)
        rights = transfer(DEFAULT_ROLES[item.kind], assessment.rights)
        owed = sorted({name for use in wanted for name in rights[use].obligations})
        found.append(
            Notice(
                name=item.name,
                kind=str(item.kind),
                license=assessment.license,
                obligations=tuple((name, policy.explain(name)) for name in owed),
                evidence=tuple(sorted(evidence.path for evidence in item.evidence)),
            )
        )
    return sorted(found, key=lambda notice: (notice.kind, notice.name))
