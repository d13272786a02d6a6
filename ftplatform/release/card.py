"""The model card and the NOTICE, rendered from what else is in the bundle.

Nothing in them is typed by hand: every number comes from a check's record, whose hash stands beside it, or from the closure. So a
verifier can render them again and compare.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

_HEX = 16  # digits of a hash shown in tables; the full ones are in checks.json and closure.json


def render_card(
    *,
    name: str,
    description: str,
    closure: Mapping[str, Any],
    closure_digest: str,
    checks: Sequence[Mapping[str, Any]],
    ledger: Sequence[Mapping[str, Any]],
    notices: Sequence[Mapping[str, Any]],
    waivers: Sequence[Mapping[str, Any]] = (),
    obligations: Mapping[str, Any] | None = None,
) -> str:
    """README.md in the form the Hugging Face Hub reads.

    Args:
        closure: the closure manifest.
        checks: ``{"record": hash, "document": evaluation record}``, as in checks.json.
        ledger: rows of the license ledger, as in licenses.json.
        notices: as in notices.json.
        waivers: ``{"record": hash, "document": waiver}``, as in waivers.json.
        obligations: the verdict on obligations, None where it is not judged yet.
    """
    base = closure["base_model"]
    front = ["library_name: peft", "pipeline_tag: text-generation", "tags: [lora, ftplatform]"]
    if base.get("hub"):
        front.insert(0, f"base_model: {_yaml(base['hub'])}")
    front += ["license: other", "license_name: see-notice", "license_link: NOTICE.md"]
    base_name = f"{base['hub']} at commit {base['revision']}" if base.get("hub") else base["asset"]
    rows = closure["rows"]
    parts = [
        "---\n" + "\n".join(front) + "\n---",
        f"# {_text(name)}",
        "**Built with Llama**" if any(o == "built_with_llama" for n in notices for o, _ in n["obligations"]) else "",
        _text(description) if description else f"A LoRA adapter for {_text(base_name)}.",
        "**This release is not signed.** Its files can be checked against `bundle.json`, but nothing proves who wrote that file.",
        f"Closure `{closure_digest}`: everything it was made from is named in `closure.json`, whose SHA-256 this is.",
        "## What it was made from",
        _table(
            ("what", "which", "identity"),
            [
                ("base model", _text(base_name), f"`{base['snapshot'][:_HEX]}`"),
                (
                    "training rows",
                    f"{rows['count']:,} rows of {_text(rows['asset'])}, in order",
                    f"`{rows['order']['sha256'][:_HEX]}`",
                ),
                (
                    "code",
                    f"ftplatform {_text(closure['code']['package']['version'])}",
                    f"`{closure['code']['package']['tree']['digest'][:_HEX]}`",
                ),
                (
                    "packages",
                    f"{len(closure['environment']['packages'])} pinned versions",
                    f"`{closure['environment']['lock']['sha256'][:_HEX]}`",
                ),
            ],
        ),
        "## Evaluations",
        "Each line is one check; the record is the SHA-256 of its full result in `checks.json`.",
        _table(
            ("check", "on", "decision", "statistic", "estimate", "interval", "limit", "n", "record"),
            [_check_row(check) for check in checks],
        ),
        _waivers(waivers),
        _training_waivers(closure),
        "## Data and licenses",
        _table(
            ("source", "kind", "license", "state"),
            [(_text(row["source"]), _text(row["kind"]), _text(row["license"]), _text(row["status"])) for row in ledger],
        ),
        f"**Obligations: {_text(obligations['decision'])}.** {_text(obligations['summary'])}" if obligations else "",
        *_notice_entries(notices, "###"),
        "## Limits",
        "The checks above say what was measured and on which snapshots, and nothing beyond. The assessment of licenses informs"
        " counsel; it is no legal advice.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_notice(name: str, notices: Sequence[Mapping[str, Any]]) -> str:
    """NOTICE.md: who is to be credited and what else is owed."""
    parts = [f"# NOTICE for {_text(name)}"]
    if not notices:
        parts.append("Nothing in this release is used under somebody else's license.")
    parts += _notice_entries(notices, "##")
    return "\n\n".join(part for part in parts if part) + "\n"


def _notice_entries(notices: Sequence[Mapping[str, Any]], heading: str) -> list[str]:
    """One section for each thing that has a license of its own."""
    parts = []
    for notice in notices:
        where = f" ({', '.join(map(_text, notice['addresses']))})" if notice["addresses"] else ""
        lines = [f"- Credit: {_text(credit)}" for credit in notice["credits"]]
        lines += [f"- Changed: {_text(notice['changes'])}"] if notice["changes"] else []
        lines += [f"- {_text(text)} ({_code(obligation)})" for obligation, text in notice["obligations"]]
        lines += [f"- Confirmed ({_code(obligation)}): {_text(text)}" for obligation, text in notice["confirmations"]]
        lines += [f"- Not permitted by these terms, see the waivers: {_text(use)}" for use in notice["undetermined"]]
        lines += [f"- License text: {_code(path)}" for path in notice["texts"]]
        parts += [
            f"{heading} {_text(notice['name'])}",
            f"{_text(notice['kind']).capitalize()} under {_text(notice['license'])}{where}.",
            "\n".join(lines),
        ]
    return parts


def _check_row(check: Mapping[str, Any]) -> tuple[str, ...]:
    document = check["document"]
    verdict = document["verdict"]
    low, high = _number(verdict["ci_low"]), _number(verdict["ci_high"])
    return (
        _text(document["check"]),
        _text(document["asset"]),
        _text(verdict["decision"]),
        _text(verdict["statistic"]),
        _number(verdict["estimate"]),
        f"[{low or '…'}, {high or '…'}]" if low or high else "",
        _number(verdict["threshold"]),
        f"{verdict['n']:,}",
        f"`{check['record'][:_HEX]}`",
    )


def _waivers(waivers: Sequence[Mapping[str, Any]]) -> str:
    if not waivers:
        return ""
    rows = [
        (
            *(_text(record["document"][key]) for key in ("check", "asset", "decision", "by", "why", "expires_at")),
            _code(record["record"][:_HEX]),
        )
        for record in waivers
    ]
    text = "Waived is not passed: these checks failed, and somebody signed for releasing nevertheless, for a limited time."
    return f"## Released under waiver\n\n{text}\n\n" + _table(("check", "on", "decision", "who", "why", "until", "record"), rows)


def _training_waivers(closure: Mapping[str, Any]) -> str:
    waivers = closure.get("waivers") or ()
    if not waivers:
        return ""
    listed = "\n".join(f"- {_text('; '.join(f'{key}: {value}' for key, value in sorted(waiver.items())))}" for waiver in waivers)
    return f"**Trained under waiver.**\n\n{listed}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "None."
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _number(value: float | int | None) -> str:
    """At most four significant decimals; integers as they are."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _text(value: object) -> str:
    """Outside text made inert in Markdown: no HTML, no links, no table breaks, one line."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]|#!~])", r"\\\1", text)


def _code(value: object) -> str:
    """A code span; nothing inside one is markup, and escapes would show."""
    return "`" + " ".join(str(value).replace("`", "'").split()) + "`"


def _yaml(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", value) else "'" + value.replace("'", "''") + "'"
