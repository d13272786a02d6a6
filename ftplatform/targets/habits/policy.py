"""The behavior policy: what an assistant may promise, which tools and queues exist, what warrants an apology, how the brand sounds.

The file is read and checked in `ftplatform.project.behavior`; this is the same content as the checks use it. The world is closed: a
tool, a queue or an authority that is not listed does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import orjson

from ftplatform.canonical import digest
from ftplatform.errors import ProjectError

#: How the result of a failed call begins, unless the policy says otherwise.
FAILURE = r"(?i)^\W*(?:error|failed|failure|invalid)\b"

#: What a call's arguments may take over from the claim it makes true: its sentence, its `Act`, the row's group.
CALL_FIELDS = ("claim", "kind", "group")
_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")


class CommitmentKind(StrEnum):
    """What can be promised."""

    MONEY = "money"
    CREDIT = "credit"
    WAIVER = "waiver"
    DEADLINE = "deadline"


class Act(StrEnum):
    """What is said to have been done, and what a call of a tool is evidence of.

    `PAYMENT` is money, credit or a waiver; `OTHER` is anything that has no name here.
    """

    ESCALATION = "escalation"
    TICKET = "ticket"
    CALLBACK = "callback"
    BOOKING = "booking"
    CANCELLATION = "cancellation"
    PAYMENT = "payment"
    OTHER = "other"


class Rewrite(StrEnum):
    """Which sentences a template of the policy stands in for."""

    COMMITMENT = "commitment"
    PHANTOM_ACTION = "phantom_action"
    APOLOGY = "apology"


@dataclass(frozen=True, slots=True)
class Authority:
    """One line of the authority table.

    Attributes:
        action: its name, for people.
        covers: kinds of commitment it allows.
        max_amount, currency: the most it allows in one promise (ISO 4217 code); None sets no limit.
        tool: tool that has to be called in the conversation; None needs no tool.
        requires: regular expressions (Rust syntax), each of which an earlier tool result has to match.
    """

    action: str
    covers: frozenset[CommitmentKind]
    max_amount: float | None = None
    currency: str | None = None
    tool: str | None = None
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """How a call is written that makes a claim true.

    Attributes:
        arguments: JSON object; `{claim}`, `{kind}` and `{group}` in its texts stand for what `CALL_FIELDS` says.
        result: what the tool answers.
    """

    arguments: str = "{}"
    result: str = '{"status":"ok"}'

    def filled(self, values: Mapping[str, str | None]) -> dict[str, Any]:
        """The arguments for one claim; a field that has no value is left empty."""
        return _filled(orjson.loads(self.arguments), values)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that exists.

    Attributes:
        name: as calls name it.
        does: acts that a call of it is evidence of.
        when: regular expression (Rust syntax) the call has to match, where one tool both checks and does.
        call: how a call is written that makes a claim true; None if none may be made up.
    """

    name: str
    does: frozenset[Act]
    when: str | None = None
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class ApologyWarrant:
    """When an apology is due: the conversation holds a failure of the company.

    Attributes:
        fault_field: key of the row's `meta` that operations set to true after a failure of the company.
        evidence: regular expressions (Rust syntax); an earlier tool result that matches one shows such a failure.
    """

    fault_field: str | None = None
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Voice:
    """How the brand sounds.

    Attributes:
        reference: name of the source that holds approved texts.
        forbidden: phrases that are never said.
    """

    reference: str | None = None
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """One behavior policy.

    Attributes:
        failure: regular expression; a call whose result matches it has failed and is evidence of nothing.
        queues: teams and queues that exist, as agents name them.
        rewrites: text that stands in for a sentence the policy does not allow.
    """

    name: str
    version: str
    authorities: tuple[Authority, ...] = ()
    tools: tuple[Tool, ...] = ()
    failure: str = FAILURE
    queues: tuple[str, ...] = ()
    apology: ApologyWarrant = ApologyWarrant()
    voice: Voice = Voice()
    rewrites: tuple[tuple[Rewrite, str], ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """From a checked document, in the form `ftplatform.project.behavior.BehaviorPolicy.model_dump` gives.

        Raises:
            ProjectError: a regular expression that does not compile.
        """
        policy = cls(
            name=document["name"],
            version=document["version"],
            authorities=tuple(_authority(line) for line in document["authority"]),
            tools=tuple(
                Tool(
                    name, frozenset(Act(act) for act in tool["does"]), tool["when"], Call(**tool["call"]) if tool["call"] else None
                )
                for name, tool in document["tools"].items()
            ),
            failure=document["failure"] or FAILURE,
            queues=tuple(document["queues"]),
            apology=ApologyWarrant(document["apology"]["fault_field"], tuple(document["apology"]["evidence"])),
            voice=Voice(document["voice"]["reference"], tuple(document["voice"]["forbidden"])),
            rewrites=tuple((Rewrite(name), text) for name, text in document["rewrites"].items()),
        )
        policy._check_patterns()
        return policy

    @property
    def digest(self) -> str:
        """SHA-256 of everything in it; part of every decision made with it."""
        return digest(
            {
                "name": self.name,
                "version": self.version,
                "authorities": [
                    [a.action, sorted(a.covers), a.max_amount, a.currency, a.tool, list(a.requires)] for a in self.authorities
                ],
                "tools": [
                    [t.name, sorted(t.does), t.when, *([t.call.arguments, t.call.result] if t.call else [])] for t in self.tools
                ],
                "failure": self.failure,
                "queues": list(self.queues),
                "apology": [self.apology.fault_field, list(self.apology.evidence)],
                "voice": [self.voice.reference, list(self.voice.forbidden)],
                "rewrites": [list(pair) for pair in self.rewrites],
            }
        )

    def rewrite(self, which: Rewrite) -> str | None:
        """The template for it, or None."""
        return dict(self.rewrites).get(which)

    def _check_patterns(self) -> None:
        import polars as pl

        patterns: Sequence[str] = [
            self.failure,
            *(pattern for line in self.authorities for pattern in line.requires),
            *(tool.when for tool in self.tools if tool.when),
            *self.apology.evidence,
        ]
        for pattern in patterns:
            try:
                pl.Series([""]).str.contains(pattern)
            except pl.exceptions.PolarsError as error:
                raise ProjectError(
                    f"Behavior policy {self.name}: {pattern!r} is not a regular expression: {str(error).splitlines()[0]}.",
                    remedy="Correct it; look-around and back-references are not supported.",
                ) from None
        for tool in self.tools:
            if tool.call is not None and pl.Series([tool.call.result]).str.contains(self.failure)[0]:
                raise ProjectError(
                    f"Behavior policy {self.name}: the result of a call of {tool.name} says that the call failed.",
                    remedy="Give `call` the result of a call that worked, or correct `failure`.",
                )


def call_fields(arguments: str) -> set[str]:
    """The fields that the arguments of a call name.

    Raises:
        ValueError: `arguments` is no JSON object.
    """
    if not isinstance(orjson.loads(arguments), dict):
        raise ValueError("the arguments of a call are a JSON object")
    # Outside of texts, JSON has no name right after a brace.
    return set(_FIELD.findall(arguments))


def _filled(template: Any, values: Mapping[str, str | None]) -> Any:
    if isinstance(template, str):
        # A plain replacement: `str.format` would let a template reach into objects.
        return _FIELD.sub(lambda field: values.get(field[1]) or "", template)
    if isinstance(template, dict):
        return {name: _filled(value, values) for name, value in template.items()}
    return [_filled(value, values) for value in template] if isinstance(template, list) else template


def _authority(line: Mapping[str, Any]) -> Authority:
    amount, currency = parse_amount(line["max_amount"]) if line["max_amount"] else (None, None)
    covers = frozenset(CommitmentKind(kind) for kind in line["covers"])
    return Authority(line["action"], covers, amount, currency, line["tool"], tuple(line["requires"]))


def parse_amount(text: str) -> tuple[float, str]:
    """``"150 USD"`` as 150.0 and ``"USD"``.

    Raises:
        ValueError: another form.
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,4})?) ([A-Z]{3})", text)
    if found is None:
        raise ValueError(f"{text!r} is not an amount with its currency, such as '150 USD'")
    return float(found.group(1)), found.group(2)
