"""The license files of a repository or a folder: what they say together, and what changed since the last look.

One file may say Apache-2.0 (the code), another CC-BY-NC (the data), and the README "for research only". Which of them governs what we
took is for a person to conclude; until then the terms are disputed and the most restrictive statement counts, use by use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ftplatform.licensing.evidence import Evidence, find_clauses, find_statements, normalized_text_digest, read_evidence
from ftplatform.licensing.expressions import parse_license
from ftplatform.licensing.policy import Policy
from ftplatform.licensing.rights import USES, Level, Rights
from ftplatform.licensing.states import State, TermsObservation, to_text
from ftplatform.licensing.terms import SourceTerms, assess
from ftplatform.licensing.text_changes import compare_texts
from ftplatform.licensing.watchers.look import Archive, Cursor, Look, exhibit

_README = re.compile(r"readme(?:[._-].*)?", re.IGNORECASE)
_LICENSE = re.compile(r"(?:data|dataset|model|weights|code)?[._-]?(?:un)?licen[sc]e.*|copying.*|terms(?:[._-].*)?", re.IGNORECASE)
# Code about licenses and tables of license plates are no license.
_NO_TEXT = re.compile(
    r".*\.(?:py|js|ts|sh|rb|go|rs|c|h|cpp|java|ipynb|lock|exe|bat|csv|tsv|jsonl?|ya?ml|toml|parquet|arrow|db|gz|zst|zip|png|jpe?g|svg)",
    re.IGNORECASE,
)
_OFFERED_AS = re.compile(r"licen[sc]e[._-]([a-z]{2,})[\d.]*(?:\.(?:md|txt|rst))?", re.IGNORECASE)
_HEADING = re.compile(r"^(?:#{1,6}[ \t]*(?P<marked>[^\n]+?)[ \t#]*|(?P<underlined>[^\n]+)\n(?:={3,}|-{3,}|~{3,}))$", re.MULTILINE)
_LICENSE_HEADING = re.compile(r"licen[sc]|terms of use|terms and conditions|usage terms|copyright", re.IGNORECASE)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)


def is_license_file(name: str) -> bool:
    """True for the file names that by custom hold terms: LICENSE*, DATA_LICENSE*, COPYING*, TERMS*, README*."""
    return not _NO_TEXT.fullmatch(name) and bool(_LICENSE.fullmatch(name) or _README.fullmatch(name))


@dataclass(frozen=True, slots=True)
class LicenseFile:
    """One file: `evidence` and `text` are of its license passages if it is a README, else of all of it; `text` is empty if it is none.

    `data` are the bytes of the whole file.
    """

    data: bytes
    evidence: Evidence
    text: str


def read_license_file(path: str, data: bytes) -> LicenseFile:
    """Read a file; of a README only what concerns its terms, since the rest changes all the time."""
    evidence = read_evidence(path, data)
    if evidence.text_digest is None:
        return LicenseFile(data, evidence, "")
    text = data.decode("utf-8", errors="replace")
    if _README.fullmatch(path.rpartition("/")[2]):
        text = license_passages(text)
        evidence = replace(evidence, text_digest=normalized_text_digest(text))
    return LicenseFile(data, evidence, text)


def license_passages(readme: str) -> str:
    """The front matter's license lines, the sections headed "License" or the like, and paragraphs elsewhere that state terms."""
    readme = readme.replace("\r\n", "\n")
    kept: list[str] = []
    if front := _FRONT_MATTER.match(readme):
        kept += _license_lines(front.group(1))
        readme = readme[front.end() :]
    for title, body in _sections(readme):
        if _LICENSE_HEADING.search(title):
            kept.append(f"{title}\n\n{body.strip()}")
        else:
            kept += [p.strip() for p in re.split(r"\n[ \t]*\n", body) if find_clauses(p) or find_statements(p)]
    return "\n\n".join(kept)


def _license_lines(front_matter: str) -> Iterator[str]:
    """`license:`, `license_name:` and so on, with the lines of a list or folded text below them."""
    inside = False
    for line in front_matter.split("\n"):
        continued = inside and bool(re.match(r"[ \t]|- ", line))
        inside = continued or line.startswith("license")
        if inside:
            yield line


def _sections(text: str) -> Iterator[tuple[str, str]]:
    headings = list(_HEADING.finditer(text))
    yield "", text[: headings[0].start()] if headings else text
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        title = heading["marked"] or heading["underlined"]
        yield title, text[heading.end() : following.start() if following else len(text)]


@dataclass(frozen=True, slots=True)
class Dispute:
    """Files that contradict each other.

    Attributes:
        reasons: one clause each.
        strictest: use to the statements ("file: license" or "file: kind of clause") that restrict it most.
    """

    reasons: tuple[str, ...]
    strictest: Mapping[str, tuple[str, ...]]


def stated_licenses(files: Sequence[LicenseFile]) -> tuple[str, ...]:
    """Licenses the files say they are under, sorted, each once."""
    return tuple(sorted({statement for file in files for statement in file.evidence.statements}))


def find_dispute(files: Sequence[LicenseFile], policy: Policy) -> Dispute | None:
    """Whether some file is stricter than what another file states, under a policy.

    A choice offered by file name (LICENSE-MIT beside LICENSE-APACHE) is no contradiction.
    """
    offered = [file for file in files if _offers_choice(file)]
    judged = [file for file in files if file not in offered] if len(offered) > 1 else list(files)
    evidence = tuple(file.evidence for file in judged)
    reasons: dict[str, None] = {}
    for license in stated_licenses(judged):
        assessment = assess(SourceTerms(name="files", concluded=license, evidence=evidence), policy)
        if assessment.status == State.DISPUTED:
            reasons |= dict.fromkeys(assessment.problems)
    if not reasons:
        return None
    return Dispute(tuple(reasons), _strictest(files, policy))


def _offers_choice(file: LicenseFile) -> bool:
    named = _OFFERED_AS.fullmatch(file.evidence.path.rpartition("/")[2])
    return named is not None and any(s.casefold().startswith(named.group(1).casefold()) for s in file.evidence.statements)


def _strictest(files: Sequence[LicenseFile], policy: Policy) -> dict[str, tuple[str, ...]]:
    said: list[tuple[str, Rights]] = []
    denied: list[tuple[str, Rights]] = []
    for file in files:
        said += [(f"{file.evidence.path}: {s}", policy.rights(parse_license(s))) for s in file.evidence.statements]
        for clause in file.evidence.clauses:
            alone = Evidence(file.evidence.path, file.evidence.sha256, file.evidence.text_digest, (clause,))
            # Without a conclusion everything is unknown but what the clause denies.
            denied.append(
                (f"{file.evidence.path}: {clause.kind}", assess(SourceTerms(name="clause", evidence=(alone,)), policy).rights)
            )
    found: dict[str, tuple[str, ...]] = {}
    for use in USES:
        levels = [(label, rights[use].level) for label, rights in said]
        levels += [(label, Level.DENY) for label, rights in denied if rights[use].level is Level.DENY]
        worst = max((level for _, level in levels), default=Level.ALLOW)
        if worst > Level.ALLOW:
            found[str(use)] = tuple(label for label, level in levels if level is worst)
    return found


def look_at_files(
    source: str,
    files: Sequence[LicenseFile],
    cursor: Cursor,
    now: datetime,
    *,
    watcher: str,
    policy: Policy,
    archive: Archive,
    revision: str | None = None,
    changed_at: datetime | None = None,
    problem: str | None = None,
    concluded: bool = False,
) -> Look:
    """Judge the files of one look against those of the last.

    Changed words: `RELICENSED`. A contradiction: `DISPUTED`, which outranks it, since the terms are open either way and the stricter
    reading is named. The first look: `ACTIVE` if a license is recognized, else `UNKNOWN`.

    Args:
        cursor: of the last look; its ``files`` map paths to (identity, SHA-256).
        changed_at: since when the files are as they are, if that is known.
        concluded: a person has concluded the terms; then a first look that recognizes no license reports `ACTIVE`.
    """
    seen = {file.evidence.path: [file.evidence.identity, file.evidence.sha256] for file in files}
    dispute = find_dispute(files, policy)
    marks = sorted(dispute.reasons) if dispute else []
    following: dict[str, Any] = {"files": seen, "dispute": marks, "revision": revision, "looked": to_text(now)}
    detail: dict[str, Any] = {"stated": {f.evidence.path: list(f.evidence.statements) for f in files if f.evidence.statements}}
    restrictions = {f.evidence.path: sorted(c.kind for c in f.evidence.clauses) for f in files if f.evidence.clauses}
    if restrictions:
        detail["restrictions"] = restrictions
    if dispute:
        detail |= {"dispute": list(dispute.reasons), "strictest": {use: list(said) for use, said in dispute.strictest.items()}}

    before = cursor.get("files")
    changes = _file_changes(before, files, archive) if before is not None else {}
    if before is None:
        state = State.ACTIVE if concluded or stated_licenses(files) else State.UNKNOWN
    elif changes:
        state, detail["changes"] = State.RELICENSED, changes
    elif marks == cursor.get("dispute", []):
        return Look(source=source, cursor={**cursor, **following}, looked=True, problem=problem)
    else:
        state = State.RELICENSED
    if dispute:
        state = State.DISPUTED
    observation = TermsObservation(
        source=source,
        state=state,
        valid_from=changed_at or now,
        observed_at=now,
        watcher=watcher,
        declared=stated_licenses(files) or "",
        exhibits=tuple(exhibit(file.evidence) for file in files),
        revision=revision,
        detail=detail,
    )
    documents = {file.evidence.sha256: file.data for file in files}
    return Look(source=source, cursor=following, looked=True, observations=(observation,), problem=problem, documents=documents)


def _file_changes(before: Mapping[str, Sequence[str]], files: Sequence[LicenseFile], archive: Archive) -> dict[str, Any]:
    """Path to what changed, for every file whose words changed, that is new, or that is gone."""
    changes: dict[str, Any] = {}
    for file in files:
        path, identity = file.evidence.path, file.evidence.identity
        if path not in before:
            changes[path] = {"kind": "added"}
        elif identity != before[path][0]:
            changes[path] = {"kind": "changed"}
            if file.text and (old := archive(before[path][1])) is not None:
                changes[path]["comparison"] = compare_texts(read_license_file(path, old).text, file.text).to_record()
    now_there = {file.evidence.path for file in files}
    return changes | {path: {"kind": "removed"} for path in before if path not in now_there}
