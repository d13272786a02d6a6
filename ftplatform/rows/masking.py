"""Masking of personal data and secrets in text shown to people: evidence, previews, logs.

Detection by pattern and checksum (Luhn, ISO 7064 mod 97), no model. Every pattern is bounded and anchored on a character that
cannot precede it, so the time is linear in the text whatever it holds. Masking errs on the side of hiding; it is a display
filter, not an anonymization of stored data.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any


class PiiKind(StrEnum):
    """What was found; the mask shows it in brackets."""

    EMAIL = "EMAIL"
    PHONE = "PHONE"
    CARD = "CARD"
    IBAN = "IBAN"
    SSN = "SSN"
    IP = "IP"
    NUMBER = "NUMBER"
    SECRET = "SECRET"


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of personal data: `text[start:end]`."""

    kind: PiiKind
    start: int
    end: int


# --- characters that hide or reorder text -----------------------------------------------------------------------------------
# Zero-width joiner and non-joiner stay: Persian, Indic scripts and emoji need them.
_VISIBLE_FORMAT = {"\u200c", "\u200d"}
_SUSPECT = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_INVISIBLE = re.compile(r"[\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")


def escape_controls(text: str) -> str:
    r"""Control, bidirectional-override, zero-width and tag characters as ``\uXXXX``; newline and tab stay.

    They can reorder or hide what a reader sees (CVE-2021-42574); lone surrogates have no UTF-8 form at all.
    """
    return _SUSPECT.sub(lambda found: _escaped(found.group()), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


# --- numbers ----------------------------------------------------------------------------------------------------------------
_NUMERIC_RUN = re.compile(r"(?<![\w+.])(?:\+|\()?\d(?:[ .\-()/\u2010-\u2015\u00a0]{0,3}\d){6,63}(?!\d)(?![A-Za-z])")
_GROUP = re.compile(r"\d+")
_NUMBER_START = re.compile(r"[+(]?\d")
_ISO_DATE = re.compile(
    r"(?:19|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])(?!\d)|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:19|20)\d\d(?!\d)"
)
_SSN = re.compile(r"(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}")
_NANP = re.compile(r"(?:\+?1[ .\-]?)?(?:\(\d{3}\) ?|\d{3}[ .\-\u2010-\u2015])\d{3}[ .\-\u2010-\u2015]\d{4}")


def _digits(text: str) -> list[int]:
    return [unicodedata.digit(character) for character in text if character.isdigit()]


def luhn_valid(digits: list[int]) -> bool:
    """ISO/IEC 7812-1 check digit."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if position % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _is_card(digits: list[int]) -> bool:
    # Major industry identifiers 2-6 cover every payment network; all-equal digits pass Luhn but are no card.
    return 13 <= len(digits) <= 19 and 2 <= digits[0] <= 6 and len(set(digits)) > 1 and luhn_valid(digits)


def _classify_number(text: str) -> PiiKind | None:
    digits = _digits(text)
    if _is_card(digits):
        return PiiKind.CARD
    if _SSN.fullmatch(text):
        return PiiKind.SSN
    if _NANP.fullmatch(text):
        return PiiKind.PHONE
    if text.startswith(("+", "(")) and 8 <= len(digits) <= 15:
        return PiiKind.PHONE
    groups = _GROUP.findall(text)
    if len(groups) == 1:
        return PiiKind.NUMBER if len(digits) >= 9 else None
    # Grouped digits: a national phone number has 9 to 15 of them in groups of at least two (amounts use "," which ends a run).
    if 9 <= len(digits) <= 15 and min(map(len, groups)) >= 2:
        return PiiKind.PHONE
    if any(len(group) >= 9 for group in groups) or len(digits) >= 16:
        return PiiKind.NUMBER
    return None


def _numbers(text: str) -> Iterator[Finding]:
    for run in _NUMERIC_RUN.finditer(text):
        start, end = run.span()
        date = _ISO_DATE.match(text, start, end)
        if date is not None:
            start = date.end()
            rest = _NUMBER_START.search(text, start, end)
            if rest is None:
                continue
            start = rest.start()
        kind = _classify_number(text[start:end])
        groups = [(start + found.start(), start + found.end()) for found in _GROUP.finditer(text[start:end])]
        card = None if kind is PiiKind.CARD else _card_within(text, groups)
        if card is not None:
            # Two numbers written side by side: name the card, hide the rest as a number.
            if card[0] > start:
                yield Finding(PiiKind.NUMBER, start, card[0])
            yield Finding(PiiKind.CARD, *card)
            if card[1] < end:
                yield Finding(PiiKind.NUMBER, card[1], end)
        elif kind is not None:
            yield Finding(kind, start, end)


def _card_within(text: str, groups: list[tuple[int, int]]) -> tuple[int, int] | None:
    if groups[-1][1] - groups[0][0] < 13:
        return None
    for first in range(len(groups)):
        # Card numbers are printed in at most five groups.
        length = 0
        for last in range(first, min(first + 5, len(groups))):
            length += groups[last][1] - groups[last][0]
            if 13 <= length <= 19 and _is_card(_digits(text[groups[first][0] : groups[last][1]])):
                return groups[first][0], groups[last][1]
    return None


# --- IBAN: lengths by country, ISO 13616 registry ---------------------------------------------------------------------------
_IBAN_LENGTHS = {
    15: "NO", 16: "BE BI", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU XK MN", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST",
    26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE",
    31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
_IBAN_LENGTH = {country: length for length, countries in _IBAN_LENGTHS.items() for country in countries.split()}
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ \-]?[A-Za-z0-9])")


def _ibans(text: str) -> Iterator[Finding]:
    for found in _IBAN_START.finditer(text):
        length = _IBAN_LENGTH.get(found.group()[:2].upper())
        if length is None:
            continue
        end = found.end()
        compact = found.group().upper()
        while len(compact) < length and end < len(text):
            # Groups are separated by at most one space or hyphen.
            step = 1 if text[end] in " -" else 0
            character = text[end + step : end + step + 1]
            if not (character.isascii() and character.isalnum()):
                break
            compact += character.upper()
            end += step + 1
        if len(compact) == length and not text[end : end + 1].isalnum() and iban_valid(compact):
            yield Finding(PiiKind.IBAN, found.start(), end)


def iban_valid(compact: str) -> bool:
    """ISO 7064 mod 97-10 check of an upper-case IBAN without spaces."""
    if not compact.isascii() or not compact.isalnum():
        return False
    rearranged = compact[4:] + compact[:4]
    return int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1


# --- addresses --------------------------------------------------------------------------------------------------------------
_EMAIL = re.compile(
    r"(?<![\w.%+\-])[\w.%+\-]{1,64}[@\uff20][A-Za-z0-9\u00a1-\uffff](?:[A-Za-z0-9.\-\u00a1-\uffff]{0,252}[A-Za-z0-9\u00a1-\uffff])?"
)
_OBFUSCATED_EMAIL = re.compile(
    r"(?<![\w.%+\-])[\w.%+\-]{1,64} ?[\[(] ?at ?[\])] ?[A-Za-z0-9\-]{1,63}(?:(?:\.| ?[\[(] ?dot ?[\])] ?)[A-Za-z0-9\-]{1,63}){1,5}",
    re.IGNORECASE,
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{3,39}(?:\d{1,3}(?:\.\d{1,3}){3})?(?![\w:])")


def _emails(text: str) -> Iterator[Finding]:
    for found in _EMAIL.finditer(text):
        if "." in found.group().rpartition("@")[2]:
            yield Finding(PiiKind.EMAIL, *found.span())
    for found in _OBFUSCATED_EMAIL.finditer(text):
        yield Finding(PiiKind.EMAIL, *found.span())


def _addresses(text: str) -> Iterator[Finding]:
    for pattern in (_IPV4, _IPV6):
        for found in pattern.finditer(text):
            candidate = found.group()
            if pattern is _IPV6 and (candidate.count(":") < 2 or sum(map(str.isdigit, candidate)) == 0):
                continue
            try:
                ipaddress.ip_address(candidate.strip(":") if not candidate.endswith("::") and "::" not in candidate else candidate)
            except ValueError:
                continue
            yield Finding(PiiKind.IP, *found.span())


# --- secrets: published token prefixes, key material, credentials in URLs, and long mixed tokens -----------------------------
_SECRETS = re.compile(
    r"""
      -----BEGIN[ ][A-Z ]{0,30}PRIVATE[ ]KEY-----(?:[^-]{0,8192}-----END[ ][A-Z ]{0,30}PRIVATE[ ]KEY-----)?
    | (?<![A-Za-z0-9])(?:
        sk-[A-Za-z0-9_\-]{16,256} | sk_(?:live|test)_[A-Za-z0-9]{16,128} | rk_(?:live|test)_[A-Za-z0-9]{16,128}
      | gh[pousr]_[A-Za-z0-9]{20,255} | github_pat_[A-Za-z0-9_]{20,255} | glpat-[A-Za-z0-9_\-]{16,64}
      | xox[abeoprs]-[A-Za-z0-9\-]{10,255} | hf_[A-Za-z0-9]{20,64} | npm_[A-Za-z0-9]{30,64} | pypi-[A-Za-z0-9_\-]{32,255}
      | A(?:KIA|SIA)[0-9A-Z]{16} | AIza[0-9A-Za-z_\-]{35} | ya29\.[0-9A-Za-z_\-]{20,255}
      | SG\.[A-Za-z0-9_\-]{16,64}\.[A-Za-z0-9_\-]{16,64}
      | eyJ[A-Za-z0-9_\-]{8,2048}\.[A-Za-z0-9_\-]{8,4096}(?:\.[A-Za-z0-9_\-]{0,1024})?
      )
    """,
    re.VERBOSE,
)
_KEYWORD_SECRET = re.compile(
    r"(?i:(?<![A-Za-z])(?:api[_\- ]?key|access[_\- ]?key"
    r"|secret(?:[_\- ]?key)?|client[_\- ]?secret|auth[_\- ]?token|access[_\- ]?token"
    r"|token|passwd|password|pwd|bearer))[\"']?\s{0,3}(?:[:=]|\bis\b)?\s{0,3}[\"']?(?P<value>[A-Za-z0-9_.\-+/=~!@#$%^&*]{6,256})"
)
_KEYWORD = re.compile(r"(?i)key|secret|token|pass|pwd|bearer")
_URL_CREDENTIALS = re.compile(r"(?<=://)[^\s/@:]{1,128}:[^\s/@]{1,256}(?=@)")
_LONG_TOKEN = re.compile(r"(?<![A-Za-z0-9_+/=\-])[A-Za-z0-9_+/\-]{24,512}={0,2}(?![A-Za-z0-9_+/=\-])")


def _secrets(text: str) -> Iterator[Finding]:
    for found in _SECRETS.finditer(text):
        yield Finding(PiiKind.SECRET, *found.span())
    for found in _URL_CREDENTIALS.finditer(text):
        yield Finding(PiiKind.SECRET, *found.span())
    if _KEYWORD.search(text):
        for found in _KEYWORD_SECRET.finditer(text):
            value = found["value"]
            # "token is required" is prose; a secret has a digit or symbol in it, or follows "=" / ":".
            separator = text[found.start() : found.start("value")]
            if any(map(str.isdigit, value)) or (("=" in separator or ":" in separator) and len(value) >= 8 and not value.isalpha()):
                yield Finding(PiiKind.SECRET, *found.span("value"))
    for found in _LONG_TOKEN.finditer(text):
        token = found.group()
        # Random tokens mix cases and digits; hexadecimal digests (row ids) and paths do not.
        changes = sum(_class(a) != _class(b) for a, b in pairwise(token))
        if (
            any(map(str.isdigit, token))
            and any(map(str.isupper, token))
            and any(map(str.islower, token))
            and changes >= 0.4 * len(token)
        ):
            yield Finding(PiiKind.SECRET, *found.span())


def _class(character: str) -> int:
    return 0 if character.isdigit() else 1 if character.isupper() else 2 if character.islower() else 3


# --- the public functions ---------------------------------------------------------------------------------------------------
#: Earlier detectors win where findings overlap.
_DETECTORS: tuple[Callable[[str], Iterator[Finding]], ...] = (_secrets, _emails, _ibans, _addresses, _numbers)


def find_pii(text: str) -> list[Finding]:
    """Personal data and secrets in `text`, in order, without overlaps.

    Zero-width characters are looked through, so that they cannot split a number in two. Offsets are code points of `text`.
    """
    visible, origin = text, None
    if _INVISIBLE.search(text):
        origin = [index for index, character in enumerate(text) if not _INVISIBLE.match(character)]
        visible = "".join(text[index] for index in origin)
    found: list[Finding] = []
    for detector in _DETECTORS:
        found.extend(detector(visible))
    # Stable sort: at equal start the earlier detector stays first; an overlap is merged under the first one's name.
    found.sort(key=lambda finding: finding.start)
    merged: list[Finding] = []
    for finding in found:
        if merged and finding.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Finding(last.kind, last.start, max(last.end, finding.end))
        else:
            merged.append(finding)
    if origin is None:
        return merged
    return [Finding(finding.kind, origin[finding.start], origin[finding.end - 1] + 1) for finding in merged]


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
    if isinstance(value, int) and not isinstance(value, bool) and _is_card(_digits(str(abs(value))[:20])):
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
