"""Who must be credited, and which obligations come with using them: the raw material of a release's card and NOTICE."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ftplatform.licensing.checks import uses_for
from ftplatform.licensing.policy import Policy
from ftplatform.licensing.rights import Use, transfer
from ftplatform.licensing.terms import DEFAULT_ROLES, Kind, SourceTerms, assess

#: What a person wrote about an obligation: one text for everything that owes it, or a text by name of source, model or teacher.
Confirmations = Mapping[str, str | Mapping[str, str]]

_CHANGES: Mapping[Kind, str] = {
    Kind.SOURCE: "rows were selected and used to train the adapter; the data itself is not part of this release",
    Kind.FEEDBACK: "corrections were curated and used to train the adapter; the feedback itself is not part of this release",
    Kind.SYNTHETIC: "rows were selected and used to train the adapter; the data itself is not part of this release",
    Kind.EVAL_SET: "used to evaluate the adapter; neither trained on nor part of this release",
    Kind.BASE_MODEL: "a LoRA adapter was trained on top of the model; this release holds the adapter only",
    Kind.TEACHER: "outputs of the model were selected and used to train the adapter",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """What is owed to one source, model or teacher.

    Attributes:
        license: SPDX expression.
        obligations: (name, what it asks for), sorted by name; empty if nothing is owed but naming the source.
        evidence: paths of the license texts.
        addresses: where the licenses are published.
        credits: who is to be credited, as the evidence or the project says.
        changes: what was done with the material.
        confirmations: (obligation, what a person confirmed about it), sorted.
        undetermined: uses its terms do not permit, so that nobody can say what would be owed for them.
    """

    name: str
    kind: str
    license: str
    obligations: tuple[tuple[str, str], ...]
    evidence: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    credits: tuple[str, ...] = ()
    changes: str = ""
    confirmations: tuple[tuple[str, str], ...] = ()
    undetermined: tuple[str, ...] = ()


def notices(
    terms: Iterable[SourceTerms],
    uses: Iterable[Use | str],
    policy: Policy,
    *,
    texts: Mapping[str, bytes] | None = None,
    confirmations: Confirmations | None = None,
) -> list[Notice]:
    """One notice per thing that has a license of its own, sorted by kind and name.

    Only call it with what was really used; whether the uses are allowed at all is `license_allows_use`'s question.

    Args:
        texts: the evidence files by path; credit lines are read from them.
        confirmations: what a person wrote about obligations; a text about `attribution` counts as credit.
    """
    wanted = [Use(use) for use in uses]
    found: list[Notice] = []
    for item in terms:
        if not item.has_own_license:
            continue
        assessment = assess(item, policy)
        rights = transfer(DEFAULT_ROLES[item.kind], assessment.rights)
        relevant = uses_for(item.kind, wanted)
        owed = sorted({name for use in relevant for name in rights[use].obligations})
        confirmed = _confirmed(confirmations or {}, item.name, owed)
        read = [credit for e in item.evidence if e.path in (texts or {}) for credit in credit_lines((texts or {})[e.path])]
        told = [text for name, text in confirmed if name == "attribution"]
        found.append(
            Notice(
                name=item.name,
                kind=str(item.kind),
                license=assessment.license,
                obligations=tuple((name, policy.explain(name)) for name in owed),
                evidence=tuple(sorted(evidence.path for evidence in item.evidence)),
                addresses=tuple(filter(None, map(license_address, assessment.concluded.keys))),
                credits=tuple(dict.fromkeys([*told, *read])),
                changes=_CHANGES[item.kind],
                confirmations=tuple(pair for pair in confirmed if pair[0] != "attribution"),
                undetermined=tuple(str(use) for use in rights.refused(relevant)),
            )
        )
    return sorted(found, key=lambda notice: (notice.kind, notice.name))


def _confirmed(confirmations: Confirmations, name: str, owed: Sequence[str]) -> list[tuple[str, str]]:
    said = [(obligation, confirmations.get(obligation, "")) for obligation in owed]
    texts = [(obligation, text if isinstance(text, str) else text.get(name, "")) for obligation, text in said]
    return [(obligation, " ".join(text.split())) for obligation, text in texts if text.strip()]


def license_address(key: str) -> str | None:
    """Where the text of a license is published, None for one that is nobody's but the organization's own."""
    scancode = "LicenseRef-scancode-"
    if key.startswith(scancode):
        return f"https://scancode-licensedb.aboutcode.org/{key.removeprefix(scancode)}.html"
    return None if key.startswith(("LicenseRef-", "DocumentRef-")) else f"https://spdx.org/licenses/{key}.html"


_COPYRIGHT = re.compile(
    r"^[^\w\n]{0,12}((?:copyright[ \t]{0,8}(?:\(c\)|©)|(?:copyright|\(c\)|©)[ \t]{1,8}(?=(?:19|20)\d\d))[^\n]{2,500})$",
    re.IGNORECASE | re.MULTILINE,
)
_CREDIT = re.compile(
    r"\b(?:credit(?:s| line)?|creators?|authors?|attribution)[ \t]{0,8}:([^\n]{2,500})$", re.IGNORECASE | re.MULTILINE
)
# Whoever wrote a license is not thereby the creator of what is under it; and templates name nobody.
_STEWARD = re.compile(r"free software foundation|linux foundation|creative commons|<year>|\[yyyy\]|\{year\}", re.IGNORECASE)


def credit_lines(data: bytes) -> tuple[str, ...]:
    """Copyright notices and credit lines of an evidence file, each once, in order; empty for a file that is no text.

    The words of a license about copyright, its template and the notice of the license's own author are no credits.
    """
    if b"\x00" in data[:4096] or data.startswith(b"%PDF"):
        return ()
    text = data.decode("utf-8", errors="replace").replace("\r\n", "\n")
    found = sorted((match.start(), match.group(1)) for pattern in (_COPYRIGHT, _CREDIT) for match in pattern.finditer(text))
    lines = [" ".join(line.split()).strip(" \"'*.") for _, line in found]
    return tuple(dict.fromkeys(line for line in lines if line and not _STEWARD.search(line)))


def released_name(adapter: str, owed: Iterable[Notice]) -> str:
    """The public name of a release. Names of adapters are lower case; a license that asks for 'Llama' asks for that spelling."""
    asks = any(name == "llama_name_prefix" for notice in owed for name, _ in notice.obligations)
    return f"Llama{adapter[5:]}" if asks and adapter.startswith("llama") else adapter
