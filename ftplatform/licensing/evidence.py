"""Reading the file that a conclusion rests on: its identity, its identity up to layout, and clauses that restrict.

This finds contradictions; it never concludes a license. A tag may say Apache-2.0 while the README says "for non-commercial research
only"; whoever trusts the tag ships a problem. Clauses are matched on normalized text, and the passages of well-known permissive and
copyleft licenses that use the same words without restricting anything are taken out first.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from ftplatform.canonical import sha256_hex
from ftplatform.licensing.expressions import HUB_TAGS, parse_license

#: License texts have up to 100 kB; a larger file is not the terms but something that contains them somewhere.
MAX_EVIDENCE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Clause:
    """A restricting statement found in evidence: what it restricts, and the words around it."""

    kind: str
    quote: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """One file somebody read before concluding.

    Attributes:
        path: where it was read (project-relative path or URL).
        sha256: of its bytes.
        text_digest: digest that ignores case, layout, markup and copyright years; None if the file is no text (a scanned letter).
        clauses: restrictions it states.
        statements: normalized SPDX expressions it states as its license (identifier lines, front matter, well-known headings).
        problem: why the file proves nothing (missing, empty, too large), None if it does.
    """

    path: str
    sha256: str
    text_digest: str | None
    clauses: tuple[Clause, ...] = ()
    statements: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def identity(self) -> str:
        """What must change for a reviewer to look again: the words of a text, the bytes of anything else."""
        return self.text_digest or self.sha256


def read_evidence(path: str, data: bytes) -> Evidence:
    """Hash a file and look for restrictions in it.

    A file that is empty or larger than `MAX_EVIDENCE_BYTES` has a `problem`: it proves nothing, which the checks report,
    and is no reason for everything else to stop.
    """
    sha256 = sha256_hex(data)
    if not data.strip():
        return Evidence(path, sha256, None, problem="is empty")
    if len(data) > MAX_EVIDENCE_BYTES:
        return Evidence(
            path, sha256, None, problem=f"has {len(data):,} bytes; give the terms themselves, at most {MAX_EVIDENCE_BYTES:,}"
        )
    if b"\x00" in data[:4096] or data.startswith(b"%PDF"):
        return Evidence(path, sha256, None)
    text = data.decode("utf-8", errors="replace")
    return Evidence(path, sha256, normalized_text_digest(text), find_clauses(text), find_statements(text))


def missing_evidence(path: str, problem: str) -> Evidence:
    """Evidence that was named but could not be read; `problem` continues a sentence, e.g. "does not exist"."""
    return Evidence(path, sha256_hex(b""), None, problem=problem)


def normalized_text_digest(text: str) -> str:
    """SHA-256 of a text's words: case, punctuation, line breaks, markup, comment signs and copyright years do not count.

    A license whose year was bumped and whose lines were re-wrapped keeps its digest; a changed, added or removed word changes it.
    """
    return sha256_hex(" ".join(_words(_without_years(_plain(text)))).encode())


def find_clauses(text: str) -> tuple[Clause, ...]:
    """Statements that forbid commercial use, allow research only, or forbid derivatives; each kind once, with its first quote."""
    plain = _plain(text)
    for benign in _BENIGN:
        plain = benign.sub(" ", plain)
    found = []
    for kind, pattern in _CLAUSES:
        if match := pattern.search(plain):
            start, end = max(0, match.start() - 40), min(len(plain), match.end() + 40)
            found.append(Clause(kind, plain[start:end].strip()))
    return tuple(found)


def find_statements(text: str) -> tuple[str, ...]:
    """Licenses the text says it is under: `SPDX-License-Identifier:` and `license:` lines, restrictive Creative Commons names, and
    the heading of a well-known license text. Sorted, normalized, each once."""
    found: set[str | None] = set()
    for line in _IDENTIFIER_LINE.finditer(text[:_STATEMENT_WINDOW]):
        found.add(parse_license(line.group(1).strip(" \t\r,;\"'`*")).expression)
    plain = _plain(text)
    for mention in _LICENSED_UNDER.finditer(plain):
        found.add(parse_license(mention.group(1).rstrip(".")).expression)
    for match in _CREATIVE_COMMONS.finditer(plain):
        found.add(_creative_commons(match))
    found.add(identify_text(text))
    return tuple(sorted(expression for expression in found if expression is not None))


def identify_text(text: str) -> str | None:
    """The license whose standard text this is, by its heading (first 600 characters); None if it is none of the known ones."""
    head = " ".join(_words(_plain(text)))[:600]
    for pattern, key in _HEADINGS:
        if pattern.search(head):
            return key
    return None


# "License: X" anywhere in a long README may quote somebody else; front matter and badges stand at the top.
_STATEMENT_WINDOW = 20_000
_IDENTIFIER_LINE = re.compile(
    r"^[^\w\n]{0,12}(?:SPDX-License-Identifier|license)[\"']?[ \t]*:[ \t]*([^\n#<>|]{1,200})$", re.IGNORECASE | re.MULTILINE
)
_LICENSED_UNDER = re.compile(
    r"\b(?:licensed|released|published|distributed) under (?:the )?(?:terms of (?:the )?)?([A-Za-z][\w.+-]*\d[\w.+-]*)",
    re.IGNORECASE,
)

_TAG = re.compile(r"<[^<>]{1,200}>")
_COMMENT_SIGN = re.compile(r"^[ \t]*(?:[*#>;|]|//|--|dnl\b|rem\b)+", re.MULTILINE | re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:['’.][^\W_]+)*")
_YEAR = r"(?:19|20)\d\d"
_NOTICE_YEARS = re.compile(
    rf"((?:copyright|\(c\)|©)[ ,:]{{0,4}}(?:\(c\)|©)?[ ,:]{{0,4}})"
    rf"{_YEAR}(?: ?(?:[-,]|to|and) ?(?:{_YEAR}|present|today)){{0,40}}[ ,.]{{0,4}}"
)


def _plain(text: str) -> str:
    """Lower case, NFKC, no markup, single spaces, one kind of hyphen and quote."""
    text = unicodedata.normalize("NFKC", text)
    text = _COMMENT_SIGN.sub(" ", _TAG.sub(" ", text)).casefold()
    text = re.sub(r"[‐‑‒–—−]", "-", text).replace("’", "'").replace("“", '"').replace("”", '"')
    return " ".join(re.sub(r"[*_`]", " ", text).split())


def _without_years(plain: str) -> str:
    return _NOTICE_YEARS.sub(r"\1", plain)


def _words(plain: str) -> list[str]:
    return _WORD.findall(plain)


_AND_OR = r"(?: use| purposes?)?,? ?(?:and/or|and|or|as well as|&|/) ?(?:also )?(?:for )?"
# Passages that hold the words but restrict nothing.
_BENIGN = tuple(
    re.compile(pattern)
    for pattern in (
        # "commercial and non-commercial use", in either order: everything is allowed.
        rf"non-? ?commercial(?:ly)?{_AND_OR}commercial(?:ly)?",
        rf"(?<!non)(?<!non-)(?<!non )commercial(?:ly)?{_AND_OR}non-? ?commercial(?:ly)?",
        # GPL 2 section 3c and GPL 3 section 6c: one of several ways to hand over the source.
        r"allowed only for non-?commercial distribution and only if you received",
        r"allowed only occasionally and non-?commercially",
        # "This is not a non-commercial license" and relatives.
        r"not (?:limited|restricted) to (?:non-?\s?commercial|research)(?: use| purposes?)?",
        # CC licenses define the word before they use it; CC-BY and CC-BY-SA restrict nothing by it.
        r"creative commons (?:licenses|legal tools) .{0,40}non-?commercial",
        # Artistic 2.0 section 2 (private modification needs nothing) and LGPL 2.1 section 5 (a program that only links).
        r"provided that you do not distribute the modified version",
        r"contains no derivative of any portion",
    )
)

_CLAUSES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "non-commercial",
        re.compile(
            r"\bnon-?\s?commercial(?:ly)?\b"
            r"|\bno commercial (?:use|usage|purposes?|exploitation)\b"
            r"|\b(?:not|never|cannot|can't|prohibit\w*|forbid\w*|forbidden|disallow\w*|exclud\w*)\b[^.;]{0,60}\bcommercial(?:ly)?\b"
            r"(?=[^.;]{0,20}\b(?:use|used|usage|purposes?|exploit\w*|product|products|gain|advantage|reasons)\b)"
            r"|\bcommercial (?:use|usage|purposes?|exploitation)\b[^.;]{0,30}"
            r"\b(?:is|are) (?:not (?:allowed|permitted|granted)|prohibited|forbidden|disallowed|excluded)"
        ),
    ),
    (
        "research only",
        re.compile(
            r"\b(?:only|solely|exclusively|limited|restricted|strictly)\b[^.;]{0,30}\b(?:for|to)\b[^.;]{0,25}"
            r"\b(?:research|academic|educational|scholarly)\b[^.;]{0,40}"
            r"|\bfor (?:[a-z-]+ ){0,3}(?:research|academic|educational)(?: and (?:research|academic|educational|teaching))?"
            r"(?: use| purposes?)? only\b"
            r"|\b(?:research|academic)[- ]?(?:use[- ])?only\b"
        ),
    ),
    (
        "no derivatives",
        re.compile(
            r"\bno-?\s?deriv(?:ative|atives|s)?\b(?: works?)?"
            r"|\b(?:may|must|can|shall|do|are) ?not\b[^.;]{0,40}\b(?:create|make|prepare|distribute|share|produce)\b[^.;]{0,30}"
            r"\b(?:derivative works?|derivatives|adaptations|adapted material|modified versions?)\b"
            r"|\b(?:derivative works?|derivatives)\b[^.;]{0,20}\b(?:is|are) (?:not (?:allowed|permitted)|prohibited|forbidden)"
        ),
    ),
    (
        "no model training",
        re.compile(
            r"\b(?:may|must|can|shall|do|are) ?not\b[^.;]{0,60}\b(?:train|training|fine-?tun\w+|develop)\b[^.;]{0,60}"
            r"\b(?:models?|machine learning|artificial intelligence|ai|llms?)\b"
            r"|\bno (?:ai|machine learning|model) training\b"
        ),
    ),
)

# A Creative Commons name that restricts (NC or ND), spelled as a tag, a deed title or an abbreviation.
_CREATIVE_COMMONS = re.compile(
    r"\bcc[- ]by((?:[- ](?:nc|nd|sa)){1,3})\b(?:[- ]?v?(\d\.\d))?"
    r"|\battribution((?:[- ](?:noncommercial|non-commercial|noderivatives|noderivs|no derivatives|sharealike|share alike)){1,2})\b"
    r"(?:[- ]?v?(\d\.\d))?"
)
_PART = (("nc", ("nc", "noncommercial", "non-commercial")), ("nd", ("nd", "noderiv", "no deriv")), ("sa", ("sa", "share")))


def _creative_commons(match: re.Match[str]) -> str | None:
    parts_text = (match.group(1) or match.group(3) or "").strip()
    version = match.group(2) or match.group(4) or "4.0"
    words = parts_text.replace("non-commercial", "noncommercial")
    parts = [tag for tag, spellings in _PART if any(re.search(rf"(?:^|[- ]){re.escape(s)}", words) for s in spellings)]
    if not {"nc", "nd"} & set(parts):
        return None
    if "nd" in parts and "sa" in parts:
        parts.remove("sa")
    for candidate in (f"CC-BY-{'-'.join(parts).upper()}-{version}", f"CC-BY-{'-'.join(parts).upper()}-4.0"):
        if (parsed := parse_license(candidate)).expression is not None:
            return parsed.expression
    return None


def _heading(pattern: str, key: str) -> tuple[re.Pattern[str], str]:
    return re.compile(pattern), key


# First match wins: longer names stand before the names they contain. The words are those of `_words`: lower case, no punctuation
# but inner dots.
_HEADINGS: tuple[tuple[re.Pattern[str], str], ...] = (
    _heading(r"^(?:creative commons )*(?:legal code )?attribution noncommercial noderiv\w+ 4\.0", "CC-BY-NC-ND-4.0"),
    _heading(r"^(?:creative commons )*(?:legal code )?attribution noncommercial sharealike 4\.0", "CC-BY-NC-SA-4.0"),
    _heading(r"^(?:creative commons )*(?:legal code )?attribution noncommercial 4\.0", "CC-BY-NC-4.0"),
    _heading(r"^(?:creative commons )*(?:legal code )?attribution noderiv\w+ 4\.0", "CC-BY-ND-4.0"),
    _heading(r"^(?:creative commons )*(?:legal code )?attribution sharealike 4\.0", "CC-BY-SA-4.0"),
    _heading(r"^(?:creative commons )*(?:legal code )?attribution 4\.0", "CC-BY-4.0"),
    _heading(
        r"^(?:creative commons )?(?:legal code )?(?:cc0 1\.0 universal|creative commons legal code cc0 1\.0 universal)", "CC0-1.0"
    ),
    _heading(r"^gnu affero general public license version 3\b", "AGPL-3.0-only"),
    _heading(r"^gnu lesser general public license version 2\.1\b", "LGPL-2.1-only"),
    _heading(r"^gnu lesser general public license version 3\b", "LGPL-3.0-only"),
    _heading(r"^gnu free documentation license version 1\.3\b", "GFDL-1.3-only"),
    _heading(r"^gnu general public license version 2\b", "GPL-2.0-only"),
    _heading(r"^gnu general public license version 3\b", "GPL-3.0-only"),
    _heading(r"^mozilla public license version 2\.0\b", "MPL-2.0"),
    _heading(r"^eclipse public license v 2\.0\b", "EPL-2.0"),
    _heading(r"^apache license version 2\.0\b", "Apache-2.0"),
    _heading(
        r"^(?:the )?mit license\b|^permission is hereby granted free of charge to any person obtaining a copy of this software",
        "MIT",
    ),
    _heading(r"^(?:odc )?open database license(?: odbl)?", "ODbL-1.0"),
    _heading(r"^(?:community data license agreement|cdla) permissive (?:version )?2\.0", "CDLA-Permissive-2.0"),
    _heading(r"^(?:community data license agreement|cdla) permissive (?:version )?1\.0", "CDLA-Permissive-1.0"),
    _heading(r"^(?:community data license agreement|cdla) sharing (?:version )?1\.0", "CDLA-Sharing-1.0"),
    _heading(r"^llama 2 community license agreement\b", HUB_TAGS["llama2"]),
    _heading(r"^llama 3\.1 community license agreement\b", HUB_TAGS["llama3.1"]),
    _heading(r"^llama 3\.2 community license agreement\b", HUB_TAGS["llama3.2"]),
    _heading(r"^llama 3\.3 community license agreement\b", HUB_TAGS["llama3.3"]),
    _heading(r"^gemma terms of use\b", HUB_TAGS["gemma"]),
)
