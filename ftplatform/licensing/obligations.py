"""Does a release do what it owes? (SPEC M2, LIC-15)

The finished model card is read, not what it was rendered from. Some obligations a machine can see there: a name, a text, a sentence.
Whether a release is under the same license, or within an acceptable-use policy, a person has to say, in the project file, in words
that go into the card.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftplatform.canonical import digest
from ftplatform.licensing.notices import Confirmations, Notice
from ftplatform.licensing.policy import Policy
from ftplatform.verdict import MAX_EVIDENCE, Decision, Verdict

CHECK_VERSION = "1"

#: A file shorter than this names a license and is not its text: the shortest standard one that asks to be shipped, ISC, has 110 words.
LICENSE_TEXT_WORDS = 100


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a reader of the release finds: its name, the plain text of the card, of the thing's own section in it, and the files."""

    release: str
    card: str
    section: str
    files: Mapping[str, bytes]


def obligations_met(
    owed: Sequence[Notice],
    *,
    release: str,
    card: str,
    files: Mapping[str, bytes],
    policy: Policy,
    confirmations: Confirmations | None = None,
) -> Verdict:
    """Every obligation that the declared uses bring is met by the release as it is about to be written, or confirmed by a person.

    Args:
        owed: what is owed (`notices`).
        release: name of the release.
        card: the finished model card, Markdown; the section of each thing has its name as heading.
        files: every file of the release, by path.
        policy: what explains the obligations.
        confirmations: as given to `notices`; those that nothing asks for are reported.

    Returns:
        Fail with one row of evidence per missing obligation; warn if the terms of something do not permit a use, so that what it
        asks for is unknown (only a waiver of `license_allows_use` leads here); insufficient evidence if nothing has a license.
    """
    sections = _sections(card)
    plain = _plain(card)
    missing: list[dict[str, str]] = []
    for notice in owed:
        seen = _Seen(release, plain, sections.get(notice.name, ""), files)
        for name, asks in notice.obligations:
            if problem := _VISIBLE.get(name, _confirmation_of(name))(notice, seen):
                missing.append(
                    {"obligation": name, "owed_to": notice.name, "license": notice.license, "asks": asks, "missing": problem}
                )
    unknown = [notice for notice in owed if notice.undetermined]
    count = sum(len(notice.obligations) for notice in owed)
    unused = _unused(confirmations or {}, owed)
    common: dict[str, Any] = {
        "statistic": "obligations that are not met",
        "n": len(owed),
        "n_required": 1,
        "threshold": 0.0,
        "estimate": float(len(missing)),
        "check_version": CHECK_VERSION,
        "tier": "rules",
        "baseline": f"policy {policy.name} {policy.version}",
        "config": {
            "policy": policy.digest,
            "confirmations": digest({n: t if isinstance(t, str) else dict(t) for n, t in (confirmations or {}).items()}),
            "release": release,
        },
        "details": {
            "obligations": {n.name: [name for name, _ in n.obligations] for n in owed if n.obligations},
            "confirmed": {n.name: dict(n.confirmations) for n in owed if n.confirmations},
            "undetermined": {n.name: list(n.undetermined) for n in unknown},
            "confirmed_without_need": unused,
        },
    }
    if not owed:
        return Verdict(
            decision=Decision.INSUFFICIENT_EVIDENCE,
            summary="Nothing in this release carries a license, so nobody knows what is owed.",
            remedy="Give the base model and the sources a license in the project file.",
            **common,
        )
    if missing:
        shown = "; ".join(f"{row['obligation']} to {row['owed_to']}: {row['missing']}" for row in missing[:MAX_EVIDENCE])
        hint = f" Nothing asks for {', '.join(unused)}, which the project file confirms." if unused else ""
        return Verdict(
            decision=Decision.FAIL,
            summary=f"{len(missing)} of {count} obligations are not met: {shown}.",
            evidence=missing[:MAX_EVIDENCE],
            remedy=f"Write what is missing under 'obligations' of the adapter in the project file, then release again.{hint}",
            **common,
        )
    if unknown:
        return Verdict(
            decision=Decision.WARN,
            summary=f"{count} obligations are met; what is owed to {', '.join(n.name for n in unknown)} is unknown: not permitted.",
            evidence=[{"owed_to": n.name, "license": n.license, "uses": ", ".join(n.undetermined)} for n in unknown[:MAX_EVIDENCE]],
            remedy="Agree with the holders of the rights on the use, and on what it asks for.",
            **common,
        )
    return Verdict(
        decision=Decision.PASS,
        summary=f"All {count} obligations to {len(owed)} sources and models are met.",
        remedy="Nothing to do.",
        **common,
    )


def _attribution(notice: Notice, seen: _Seen) -> str:
    if not seen.section:
        return "the model card does not name it"
    reachable = any(address in seen.section for address in notice.addresses) or bool(_shipped(seen))
    lacks = {
        "who created it": not notice.credits or not all(credit in seen.section for credit in notice.credits),
        "its license": notice.license not in seen.section,
        "where the license is found": not reachable,
        "what was changed": not notice.changes or notice.changes not in seen.section,
    }
    found = [what for what, absent in lacks.items() if absent]
    return f"the model card does not say {', '.join(found)}" if found else ""


def _license_notice(notice: Notice, seen: _Seen) -> str:
    shipped = _shipped(seen)
    if not shipped:
        return "the license text is not in the release"
    long_enough = any(len(data.split()) >= LICENSE_TEXT_WORDS for data in shipped)
    if long_enough or _confirmation_of("license_notice")(notice, seen) == "":
        return ""
    return f"{', '.join(notice.evidence)} has fewer than {LICENSE_TEXT_WORDS} words: it names the license and is not its text"


def _shipped(seen: _Seen) -> list[bytes]:
    """The license texts that the thing's section points to and that really are in the release."""
    return [seen.files[path] for path in re.findall(r"`(licenses/[^`]+)`", seen.section) if seen.files.get(path)]


def _llama_name_prefix(notice: Notice, seen: _Seen) -> str:
    return (
        "" if seen.release.startswith("Llama") else f"the release is named {seen.release!r}; begin the adapter's name with 'llama'"
    )


def _built_with_llama(notice: Notice, seen: _Seen) -> str:
    return "" if "Built with Llama" in seen.card else "the model card does not say 'Built with Llama'"


def _state_changes(notice: Notice, seen: _Seen) -> str:
    return "" if notice.changes and notice.changes in seen.section else "the model card does not say what was changed"


def _confirmation_of(obligation: str) -> Callable[[Notice, _Seen], str]:
    def confirmed(notice: Notice, seen: _Seen) -> str:
        text = dict(notice.confirmations).get(obligation)
        if text is None:
            return "a person has to confirm it in the project file"
        return "" if text in seen.section else "the model card does not show what was confirmed"

    return confirmed


#: Obligations whose fulfilment can be seen in the release itself; any other, a policy's own included, has to be confirmed.
_VISIBLE: Mapping[str, Callable[[Notice, _Seen], str]] = {
    "attribution": _attribution,
    "license_notice": _license_notice,
    "llama_name_prefix": _llama_name_prefix,
    "built_with_llama": _built_with_llama,
    "state_changes": _state_changes,
}


def _unused(confirmations: Confirmations, owed: Sequence[Notice]) -> list[str]:
    """Confirmations that match no obligation: misspelled, or no longer needed."""
    asked = {(name, notice.name) for notice in owed for name, _ in notice.obligations}
    names = {name for name, _ in asked}
    found: list[str] = []
    for obligation, text in confirmations.items():
        if obligation not in names:
            found.append(obligation)
        elif not isinstance(text, str):
            found += [f"{obligation} of {name}" for name in text if (obligation, name) not in asked]
    return found


def _sections(card: str) -> dict[str, str]:
    """Plain text below each heading, by the heading's plain text; outside text in a card cannot begin a line with '#'."""
    parts = re.split(r"^#+ (.*)$", card, flags=re.MULTILINE)
    return {_plain(title): _plain(text) for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def _plain(markdown: str) -> str:
    """Markdown text without its escapes, white space folded."""
    return " ".join(html.unescape(re.sub(r"\\([\\`*_{}\[\]|#!~])", r"\1", markdown)).split())
