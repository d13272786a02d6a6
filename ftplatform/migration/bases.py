"""How two base models differ before anything is trained: template, tokenizer, context, and what the closure had that the new one lacks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ftplatform.canonical import sha256_hex

#: Lines of a template's difference that are kept; templates of some models have thousands.
MAX_DIFF_LINES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFacts:
    """A tokenizer, and what it makes of the training rows.

    Attributes:
        vocabulary: entries, added tokens included.
        special_tokens: by role (``eos_token``), further control tokens as ``added <id>``.
        tokens, characters: of the texts both tokenizers were measured on.
        rendered: sample conversations as the chat template writes them; empty without a usable template.
    """

    vocabulary: int
    special_tokens: Mapping[str, str]
    tokens: int
    characters: int
    rendered: Sequence[str] = ()

    @property
    def tokens_per_character(self) -> float | None:
        """None if there was no text."""
        return self.tokens / self.characters if self.characters else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """A base model as the project and the store know it.

    Attributes:
        name, snapshot: asset name, and digest of its snapshot.
        chat_template: text, None without one.
        context: tokens the model reads, None if unlimited.
        parameters: weights. architecture: class named by its configuration.
        license: `declared`, `concluded`, `evidence`, `concluded_by`; None where nobody said.
        hub, revision: where it came from, if from a hub.
        passed: checks on it whose latest evaluation is a pass.
        tokenizer: see there.
    """

    name: str
    snapshot: str
    chat_template: str | None
    context: int | None
    parameters: int | None
    architecture: str | None
    license: Mapping[str, str | None]
    hub: str | None
    revision: str | None
    passed: Sequence[str]
    tokenizer: TokenizerFacts

    @property
    def chat_template_sha256(self) -> str | None:
        """Hash of the template's text."""
        return None if self.chat_template is None else sha256_hex(self.chat_template.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Something the closure names, or relied on, that the new base does not have: work that somebody once did by hand.

    Attributes:
        field: place in the closure, or of the project file.
        had, has: on the old base, on the new one.
        blocks: the move must not happen without it.
    """

    field: str
    had: str
    has: str
    remedy: str
    blocks: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseDifferences:
    """See the module.

    Attributes:
        facts: (what, old, new) in the order to be read.
        template_changed: the text of the template differs.
        rendering_changed: sample conversations come out differently, be it by template or by special tokens; None if one side cannot
            render them.
        template_diff: unified, statement by statement, at most `MAX_DIFF_LINES` lines.
        special_tokens: (name, old, new) of those that differ.
        missing: see `Missing`.
    """

    facts: Sequence[tuple[str, str, str]]
    template_changed: bool
    rendering_changed: bool | None
    template_diff: Sequence[str]
    special_tokens: Sequence[tuple[str, str | None, str | None]]
    missing: Sequence[Missing]

    def to_record(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            **{name: getattr(self, name) for name in ("template_changed", "rendering_changed")},
            "facts": [{"what": what, "old": old, "new": new} for what, old, new in self.facts],
            "template_diff": list(self.template_diff),
            "special_tokens": [{"token": name, "old": old, "new": new} for name, old, new in self.special_tokens],
            "missing": [asdict(item) for item in self.missing],
        }


def measure_tokenizer(tokenizer: Any, conversations: Sequence[Sequence[Mapping[str, Any]]], *, rendered: int) -> TokenizerFacts:
    """Facts of a Hugging Face tokenizer on training conversations.

    Args:
        tokenizer: a fast tokenizer, with or without a chat template.
        conversations: messages with `role` and `content`.
        rendered: how many of them to render, the first.
    """
    from jinja2 import TemplateError

    texts = [message["content"] for conversation in conversations for message in conversation]
    tokens = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"] if texts else []
    special = {str(name): token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    special |= {f"added {number}": str(t) for number, t in tokenizer.added_tokens_decoder.items() if t.special}
    plain = [[{"role": m["role"], "content": m["content"]} for m in conversation] for conversation in conversations[:rendered]]
    try:
        written = [str(tokenizer.apply_chat_template(c, tokenize=False)) for c in plain] if tokenizer.chat_template else []
    except (TemplateError, TypeError, ValueError):  # it refuses these roles; training says so by row
        written = []
    return TokenizerFacts(
        vocabulary=len(tokenizer),
        special_tokens=special,
        tokens=sum(map(len, tokens)),
        characters=sum(map(len, texts)),
        rendered=written,
    )


def base_differences(old: BaseFacts, new: BaseFacts, closure: Mapping[str, Any]) -> BaseDifferences:
    """What differs between the base an adapter was trained on and the one it is to move to.

    Template and rendering are two questions: a comment changes the text alone, and a template that writes ``{{ bos_token }}`` has the
    same text under a tokenizer with another token, and trains on another one.

    Args:
        closure: manifest of the adapter's closure.
    """
    rendered = old.tokenizer.rendered, new.tokenizer.rendered
    return BaseDifferences(
        facts=_facts(old, new),
        template_changed=old.chat_template != new.chat_template,
        rendering_changed=list(rendered[0]) != list(rendered[1]) if all(rendered) else None,
        template_diff=_diff(old, new),
        special_tokens=_special_tokens(old.tokenizer.special_tokens, new.tokenizer.special_tokens),
        missing=_missing(old, new, closure),
    )


def _facts(old: BaseFacts, new: BaseFacts) -> list[tuple[str, str, str]]:
    def both(what: str, one: Any, other: Any) -> tuple[str, str, str]:
        return what, "none" if one is None else str(one), "none" if other is None else str(other)

    rates = [side.tokenizer.tokens_per_character for side in (old, new)]
    growth = new.tokenizer.vocabulary - old.tokenizer.vocabulary
    return [
        both("snapshot", old.snapshot, new.snapshot),
        both("architecture", old.architecture, new.architecture),
        both("parameters", *(None if b.parameters is None else f"{b.parameters:,}" for b in (old, new))),
        both("context (tokens)", old.context, new.context),
        both("chat template (SHA-256)", old.chat_template_sha256, new.chat_template_sha256),
        both("vocabulary (tokens)", f"{old.tokenizer.vocabulary:,}", f"{new.tokenizer.vocabulary:,} ({growth:+,})"),
        both("tokens per character of the training texts", *(None if r is None else f"{r:.4f}" for r in rates)),
    ]


def _diff(old: BaseFacts, new: BaseFacts) -> list[str]:
    # Most templates are one long line; a break after each statement shows where it changed.
    one, other = (re.sub(r"(?<=%\})(?!\n)", "\n", base.chat_template or "").splitlines() for base in (old, new))
    return list(difflib.unified_diff(one, other, old.name, new.name, lineterm=""))[:MAX_DIFF_LINES]


def _special_tokens(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, str | None, str | None]]:
    return [(name, old.get(name), new.get(name)) for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def _missing(old: BaseFacts, new: BaseFacts, closure: Mapping[str, Any]) -> list[Missing]:
    found = []
    if old.chat_template and not new.chat_template:
        found.append(
            Missing(
                field="/base_model/chat_template",
                had=f"sha256 {old.chat_template_sha256}",
                has="none",
                remedy="Take a chat model, or add chat_template.jinja to the model.",
            )
        )
    longest = closure["hyperparameters"].get("max_tokens")
    if longest is not None and new.context is not None and new.context < longest:
        found.append(
            Missing(
                field="/hyperparameters/max_tokens",
                had=str(longest),
                has=f"a context of {new.context} tokens",
                remedy="Take a base with a longer context, or accept shorter rows in a recipe of its own.",
            )
        )
    for name in ("concluded", "evidence", "concluded_by"):
        if old.license.get(name) and not new.license.get(name):
            found.append(
                Missing(
                    field=f"base_models: license.{name}",
                    had=str(old.license[name]),
                    has="none",
                    remedy="Let a person read the terms of the new base and conclude.",
                )
            )
    found += [
        Missing(field=f"/checks/{check}", had="pass", has="no pass", remedy=f"Run: ftplatform check {new.name}")
        for check in sorted(set(old.passed) - set(new.passed))
    ]
    if old.revision and not new.revision:
        found.append(
            Missing(
                field="/base_model/revision",
                had=old.revision,
                has="none",
                remedy="Name hub and commit, so that its terms can be watched.",
                blocks=False,
            )
        )
    found += [
        Missing(
            field="/human_steps",
            had=str(step.get("what", "a step by hand")),
            has="not repeated",
            remedy="Repeat the step for the new base, or show that it is not needed.",
        )
        for step in closure.get("human_steps", ())
    ]
    found += [
        Missing(
            field="/waivers",
            had=f"{waiver.get('check')} waived for {waiver.get('asset')}",
            has="no waiver: it was for the old base",
            remedy="Remove the reason, or ask for a waiver.",
        )
        for waiver in closure.get("waivers", ())
        if waiver.get("asset") == old.name
    ]
    return found
