"""Detection of personal data and secrets by pattern and checksum, without a model.

Checksums are Luhn (cards) and ISO 7064 mod 97 (IBAN); social security numbers obey the ranges that are issued. Every pattern is
bounded and anchored on a character that cannot precede it, so the time is linear in the text whatever it holds.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import polars as pl


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
    # Only a recognizer that is passed in finds these; no pattern does.
    PERSON = "PERSON"
    ADDRESS = "ADDRESS"


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of personal data: `text[start:end]`."""

    kind: PiiKind
    start: int
    end: int


# Characters that have no width: they may stand inside of a number to split it.
_INVISIBLE = re.compile(r"[\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")

# --- numbers ----------------------------------------------------------------------------------------------------------------
_NUMERIC_RUN = re.compile(r"(?<![\w+.])(?:\+|\()?\d(?:[ .\-()/\u2010-\u2015\u00a0]{0,3}\d){6,63}(?!\d)(?![A-Za-z])")
_GROUP = re.compile(r"\d+")
_NUMBER_START = re.compile(r"[+(]?\d")
_ISO_DATE = re.compile(
    r"(?:19|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])(?!\d)|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:19|20)\d\d(?!\d)"
)
_SSN = re.compile(r"(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}")
_NANP = re.compile(r"(?:\+?1[ .\-]?)?(?:\(\d{3}\) ?|\d{3}[ .\-\u2010-\u2015])\d{3}[ .\-\u2010-\u2015]\d{4}")
#: A number whose form says what it is, wherever it stands in a run.
_WELL_FORMED = re.compile(rf"(?<!\d)(?:{_SSN.pattern}|{_NANP.pattern})(?!\d)")
_FOREIGN = re.compile(r"\+(?!1\D)")


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


def is_card_number(text: str) -> bool:
    """Whether the digits of `text` are a payment card's."""
    return _is_card(_digits(text))


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
        yield from _run(text, *run.span())


def _run(text: str, start: int, end: int) -> Iterator[Finding]:
    """What a run of digits and separators holds. People write numbers side by side ("on 555-123-4567 at 8"), so it is taken apart."""
    first = _NUMBER_START.search(text, start, end)
    if first is None:
        return
    start = first.start()
    date = _ISO_DATE.match(text, start, end)
    if date is not None:
        yield from _run(text, date.end(), end)
        return
    groups = [(start + found.start(), start + found.end()) for found in _GROUP.finditer(text[start:end])]
    written = text[start : groups[-1][1]]
    kind = _classify_number(written)
    if kind is not PiiKind.CARD and (card := _card_within(text, groups)) is not None:
        part, name = card, PiiKind.CARD
    elif kind is not PiiKind.CARD and not _FOREIGN.match(written) and (known := _WELL_FORMED.search(text, start, end)) is not None:
        part, name = known.span(), PiiKind.SSN if _SSN.fullmatch(known.group()) else PiiKind.PHONE
    else:
        if kind is not None:
            yield Finding(kind, start, start + len(written))
        return
    yield from _run(text, start, part[0])
    yield Finding(name, *part)
    yield from _run(text, part[1], end)


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


# --- all of them ------------------------------------------------------------------------------------------------------------
#: Separates numbers, and is part of no pattern.
_BLANK = "\0"

#: Earlier detectors win where findings would overlap.
_DETECTORS: tuple[Callable[[str], Iterator[Finding]], ...] = (_secrets, _emails, _ibans, _addresses, _numbers)


def _blanked(text: str, findings: list[Finding]) -> str:
    """The text with what is known blanked: digits beside it must not join it to a number that is neither."""
    pieces: list[str] = []
    position = 0
    for finding in sorted(findings, key=lambda finding: finding.start):
        pieces += [text[position : finding.start], _BLANK * (finding.end - max(position, finding.start))]
        position = max(position, finding.end)
    return "".join([*pieces, text[position:]]) if pieces else text


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
        here = list(detector(visible))
        found += here
        visible = _blanked(visible, here)
    # Findings of one detector may overlap; they are merged under the first one's name.
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


# What every finding has in it, in one pass of an engine that does not backtrack; most texts end here.
_WORTH_A_LOOK = "|".join(
    (
        r"[@\x{ff20}]",
        r"[\[(] ?(?i:at) ?[\])]",
        r"\d(?:[ .\-()/\x{2010}-\x{2015}\x{a0}]{0,3}\d){6}",
        r"[A-Za-z]{2}\d{2}(?:[ \-]?[A-Za-z0-9]){11}",
        r"\d\.\d{1,3}\.\d{1,3}\.\d",
        r"[0-9A-Fa-f]?:[0-9A-Fa-f]*:",
        r"-----BEGIN ",
        r"sk-|[sr]k_|gh[pousr]_|github_pat_|glpat-|xox|hf_|npm_|pypi-|AKIA|ASIA|AIza|ya29\.|SG\.|eyJ",
        r"(?i:key|secret|token|passwd|password|pwd|bearer)[\"']?\s{0,3}(?:[:=]|is)?\s{0,3}[\"']?[A-Za-z0-9_.\-+/=~!@#$%^&*]{6}",
        r"[A-Za-z0-9_+/\-]{24}",
        r"[\x{ad}\x{61c}\x{180e}\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}\x{feff}\x{e0000}-\x{e007f}]",
    )
)


def may_hold_pii(text: pl.Expr) -> pl.Expr:
    """False only where `find_pii` finds nothing; boolean, null of null. For columns of texts, of which few hold anything."""
    return text.str.contains(_WORTH_A_LOOK)
