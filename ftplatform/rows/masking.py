"""Masking of personal data and secrets in text shown to people: evidence, previews, logs.

Masking errs on the side of hiding; it is a display filter and changes no stored data (`redaction` does that).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from ftplatform.rows.personal_data import Finding, PiiKind, find_pii, iban_valid, is_card_number, luhn_valid

__all__ = [
    "Finding",
    "MaskingFilter",
    "PiiKind",
    "escape_controls",
    "excerpt",
    "find_pii",
    "iban_valid",
    "luhn_valid",
    "mask_logs",
    "mask_text",
    "mask_value",
]

# Zero-width joiner and non-joiner are left out: Persian, Indic scripts and emoji need them.
_SUSPECT = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def escape_controls(text: str) -> str:
    r"""Control, bidirectional-override, zero-width and tag characters as ``\uXXXX``; newline and tab stay.

    They can reorder or hide what a reader sees (CVE-2021-42574); lone surrogates have no UTF-8 form at all.
    """
    return _SUSPECT.sub(lambda found: _escaped(found.group()), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def mask_text(text: str) -> str:
    r"""`text` with personal data and secrets replaced by their kind in brackets and hidden characters shown escaped.

    >>> mask_text("mail jo@example.org, card 4111 1111 1111 1111")
    'mail [EMAIL], card [CARD]'
    """
    pieces: list[str] = []
    position = 0
    for finding in find_pii(text):
        pieces += [escape_controls(text[position : finding.start]), f"[{finding.kind}]"]
        position = finding.end
    pieces.append(escape_controls(text[position:]))
    return "".join(pieces)


#: Deeper than anything the strict JSON reader lets in.
_MAX_DEPTH = 100


def mask_value(value: Any, _depth: int = 0) -> Any:
    """The same JSON value with every string (keys included) masked; integers that are card numbers become ``"[CARD]"``."""
    if isinstance(value, str):
        return mask_text(value)
    if _depth >= _MAX_DEPTH:
        return "[…]"
    if isinstance(value, dict):
        masked: dict[str, Any] = {}
        for key, item in value.items():
            name = base = mask_text(str(key))
            copy = 2
            while name in masked:
                name, copy = f"{base}#{copy}", copy + 1
            masked[name] = mask_value(item, _depth + 1)
        return masked
    if isinstance(value, list | tuple):
        return [mask_value(item, _depth + 1) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and is_card_number(str(abs(value))[:20]):
        return "[CARD]"
    return value


def excerpt(text: str, limit: int = 200) -> str:
    """The masked beginning of `text`, at most `limit` characters, with "…" where something was cut.

    Masking comes before cutting, so that a cut cannot disguise half a number; of a huge text only the beginning is looked at.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    window = 4 * limit + 256
    masked = mask_text(text[:window])
    if len(text) > window:
        # The last characters of the window may be the unmasked half of something.
        masked = masked[: max(0, len(masked) - 128)]
    elif len(masked) <= limit:
        return masked
    return masked[: limit - 1].rstrip("\\") + "…"


class MaskingFilter(logging.Filter):
    """Masks what a log record says, arguments and traceback text included. Add it to a handler: a logger's own filter sees no child."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record in place and lets it through; one with nothing to mask stays as it is."""
        try:
            said = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # A handler would print the arguments that do not fit, unmasked.
            said = record.msg = f"{record.msg} (its arguments do not fit)"
            record.args = ()
        if (masked := mask_text(said)) != said:
            record.msg, record.args = masked, ()
        if record.exc_info:
            record.exc_text = mask_text(record.exc_text or logging.Formatter().formatException(record.exc_info))
        if record.stack_info:
            record.stack_info = mask_text(record.stack_info)
        return True


class _MaskedRecords:
    """Makes records as `make` does, masked."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make, self._filter = make, MaskingFilter()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        self._filter.filter(record)
        return record


def mask_logs() -> None:
    """From now on no log line of this process holds personal data, whoever logs it and wherever it goes.

    Records are masked where they are made: handlers come and go (Dagster has some for each run), and a logger's filter sees no child.
    Calling it again does nothing.
    """
    make = logging.getLogRecordFactory()
    if not isinstance(make, _MaskedRecords):
        logging.setLogRecordFactory(_MaskedRecords(make))
