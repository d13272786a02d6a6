"""Notices that arrive by letter: a form somebody fills in, so that a claim counts although no watcher could see it.

The form is YAML, read as text without anchors, tags and guessed types, as policies are. The letter lies beside it and its hash is in
the form: a notice whose letter was exchanged is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ftplatform.canonical import sha256_hex
from ftplatform.errors import InputDataError
from ftplatform.licensing.evidence import MAX_EVIDENCE_BYTES, Evidence, read_evidence
from ftplatform.licensing.states import State, TermsObservation, to_text, to_time
from ftplatform.licensing.watchers.local_file import read_regular
from ftplatform.licensing.watchers.look import exhibit

if TYPE_CHECKING:
    import yaml

SCHEMA = "ftplatform.notice/1"
MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 4
#: Kind of notice to the state it puts its sources in.
KINDS: Mapping[str, State] = {
    "takedown": State.TAKEDOWN,
    "withdrawal": State.WITHDRAWN_ROWS,
    "relicense": State.RELICENSED,
    "retraction": State.REINSTATED,
    "counter_notice": State.REINSTATED,
}
_ANSWERS = frozenset({"retraction", "counter_notice"})
_REQUIRED = frozenset({"schema", "id", "kind", "received", "letter", "letter_sha256", "matcher", "recorded_by"})
_OPTIONAL = frozenset({"valid_from", "deadline", "claimant", "refers_to"})
_MATCHER = frozenset({"sources", "uris", "row_ids", "text_sha256", "near_duplicate_of", "persons"})
_HASHES = ("row_ids", "text_sha256", "near_duplicate_of")
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeForm:
    """A notice as recorded.

    Attributes:
        id: ``[a-z0-9_-]``, at most 64 characters.
        kind: one of `KINDS`.
        received: when the letter arrived.
        valid_from: since when it counts; `received` unless stated.
        deadline: by when we have to act, if it says so.
        claimant: who sent it.
        refers_to: id of the notice that a retraction or counter-notice answers.
        recorded_by: who filled in the form.
        letter: evidence of the letter.
        sources, uris, row_ids, text_sha256, near_duplicate_of, persons: what it is about, as far as the letter names it: names in
            the project, places, ids of rows, hashes of texts, rows whose near-duplicates are meant, people.
        sha256: of the form.
    """

    id: str
    kind: str
    received: datetime
    valid_from: datetime
    deadline: datetime | None
    claimant: str | None
    refers_to: str | None
    recorded_by: str
    letter: Evidence
    sources: tuple[str, ...]
    uris: tuple[str, ...]
    row_ids: tuple[str, ...]
    text_sha256: tuple[str, ...]
    near_duplicate_of: tuple[str, ...]
    persons: tuple[str, ...]
    sha256: str

    @property
    def state(self) -> State:
        """State its sources are in because of it."""
        return KINDS[self.kind]

    def observations(self, now: datetime, matched: Mapping[str, Iterable[str]] | None = None) -> tuple[TermsObservation, ...]:
        """What goes into the ledger. An answer to a notice rests on that notice, so that it lifts this one claim and no other.

        Args:
            now: when it is recorded.
            matched: source to ids of its rows that the notice was found to mean; no ids: all of it. Sources that the form names are
                in the result in any case.

        Raises:
            InputDataError: if an withdrawal names no rows of a source; which rows are withdrawn must be known.
        """
        rows = dict.fromkeys(self.sources, self.row_ids) | {s: tuple(ids) for s, ids in (matched or {}).items()}
        keeps_rows = self.state in (State.TAKEDOWN, State.WITHDRAWN_ROWS)
        detail = {
            "id": self.id,
            "kind": self.kind,
            "received": to_text(self.received),
            "deadline": to_text(self.deadline) if self.deadline else None,
            "claimant": self.claimant,
            "refers_to": self.refers_to,
            "recorded_by": self.recorded_by,
            "form_sha256": self.sha256,
            "uris": list(self.uris),
        }
        if self.state is State.WITHDRAWN_ROWS and (empty := sorted(s for s, ids in rows.items() if not ids)):
            raise InputDataError(
                f"the withdrawal {self.id} names no rows of {', '.join(empty)}.",
                remedy="List row_ids, or find the rows it means first.",
            )
        return tuple(
            TermsObservation(
                source=source,
                state=self.state,
                valid_from=self.valid_from,
                observed_at=now,
                watcher="notice",
                exhibits=(exhibit(self.letter),),
                notice=self.refers_to or self.id,
                rows=tuple(sorted(set(ids))) if keeps_rows else (),
                detail=detail,
            )
            for source, ids in sorted(rows.items())
        )


def read_notice(path: Path) -> NoticeForm:
    """Read a form and the letter beside it.

    Args:
        path: the YAML file; `letter` is a file name in the same folder.

    Raises:
        InputDataError: naming file, line and key.
    """
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise InputDataError(f"{path.name}: cannot be read ({error.strerror}).", remedy="Give the path of the form.") from error
    return _Form(path.name, data).notice(path.parent)


class _Form:
    """One form: its values with the lines they stand in."""

    def __init__(self, file: str, data: bytes) -> None:
        self.file = file
        self.sha256 = sha256_hex(data)
        self.keys = self._mapping(_compose(file, data), "the form", _REQUIRED | _OPTIONAL)
        if missing := sorted(_REQUIRED - set(self.keys)):
            raise InputDataError(f"{file}: lacks {', '.join(missing)}.", remedy="Give every required key.")

    def notice(self, folder: Path) -> NoticeForm:
        if (schema := self._text("schema")) != SCHEMA:
            raise self._error("schema", f"unknown schema {schema[:60]!r}", f"Write {SCHEMA!r}.")
        if (kind := self._text("kind")) not in KINDS:
            raise self._error("kind", f"unknown kind {kind[:60]!r}", f"Write one of {', '.join(KINDS)}.")
        matcher = {
            key: self._list(node, f"matcher.{key}")
            for key, node in self._mapping(self.keys["matcher"], "matcher", _MATCHER).items()
        }
        if not any(matcher.values()):
            raise self._error("matcher", "names nothing", f"Give at least one of {', '.join(sorted(_MATCHER))}.")
        received = self._time("received")
        deadline = self._time("deadline") if "deadline" in self.keys else None
        if deadline is not None and deadline < received:
            raise self._error("deadline", "is before the letter was received", "Correct one of the two.")
        refers_to = self._id("refers_to") if "refers_to" in self.keys else None
        if (refers_to is not None) is not (kind in _ANSWERS):
            raise self._error(
                "kind", f"a {kind} must {'' if kind in _ANSWERS else 'not '}say which notice it answers", "See 'refers_to'."
            )
        return NoticeForm(
            id=self._id("id"),
            kind=kind,
            received=received,
            valid_from=self._time("valid_from") if "valid_from" in self.keys else received,
            deadline=deadline,
            claimant=self._text("claimant") if "claimant" in self.keys else None,
            refers_to=refers_to,
            recorded_by=self._text("recorded_by"),
            letter=self._letter(folder),
            sources=matcher.get("sources", ()),
            uris=matcher.get("uris", ()),
            row_ids=matcher.get("row_ids", ()),
            text_sha256=matcher.get("text_sha256", ()),
            near_duplicate_of=matcher.get("near_duplicate_of", ()),
            persons=matcher.get("persons", ()),
            sha256=self.sha256,
        )

    def _letter(self, folder: Path) -> Evidence:
        name, stated = self._text("letter"), self._text("letter_sha256").lower()
        if name in (".", "..") or "/" in name or "\\" in name or (folder / name).is_symlink():
            raise self._error("letter", f"{name[:100]!r} is no file name", "Put the letter beside the form and give its name.")
        if not _SHA256.fullmatch(stated):
            raise self._error("letter_sha256", "is no SHA-256", "Write 64 hexadecimal digits.")
        try:
            data = read_regular(folder / name)
        except (OSError, ValueError) as error:
            raise self._error("letter", f"{name[:100]!r} cannot be read", "Put the letter beside the form.") from error
        if len(data) > MAX_EVIDENCE_BYTES:
            raise self._error("letter", f"has more than {MAX_EVIDENCE_BYTES:,} bytes", "Scan it with fewer dots.")
        if sha256_hex(data) != stated:
            raise self._error("letter_sha256", "is not the hash of the letter", "Check which letter belongs to the form.")
        return read_evidence(name, data)

    def _mapping(self, node: yaml.Node, where: str, known: frozenset[str]) -> dict[str, yaml.Node]:
        import yaml

        if not isinstance(node, yaml.MappingNode):
            raise self._at(node, f"{where} is not a mapping", "Write 'key: value' lines.")
        found: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            if key not in known:
                raise self._at(key_node, f"{where}: unknown key {key[:60]!r}", f"Allowed: {', '.join(sorted(known))}.")
            if key in found:
                raise self._at(key_node, f"{where}: {key!r} appears twice", "Keep one of them.")
            found[key] = value
        return found

    def _list(self, node: yaml.Node, where: str) -> tuple[str, ...]:
        import yaml

        if not isinstance(node, yaml.SequenceNode):
            raise self._at(node, f"{where} is not a list", "Write '[a, b]' or '- a' lines.")
        items = tuple(self._scalar(item, where) for item in node.value)
        if where.removeprefix("matcher.") in _HASHES and (bad := [item for item in items if not _SHA256.fullmatch(item)]):
            raise self._at(node, f"{where}: {bad[0][:80]!r} is no row id or hash", "Write 64 hexadecimal digits.")
        return tuple(dict.fromkeys(items))

    def _scalar(self, node: yaml.Node, where: str) -> str:
        import yaml

        if not isinstance(node, yaml.ScalarNode) or not str(node.value).strip():
            raise self._at(node, f"{where} is not text", "Write one word or a quoted sentence.")
        text = " ".join(str(node.value).split())
        if not text.isprintable():
            raise self._at(node, f"{where} holds invisible characters", "Remove them.")
        return text

    def _text(self, key: str) -> str:
        return self._scalar(self.keys[key], key)

    def _id(self, key: str) -> str:
        if not _ID.fullmatch(text := self._text(key)):
            raise self._error(key, f"{text[:80]!r} is no id", "Use small letters, digits, '-' and '_', at most 64.")
        return text

    def _time(self, key: str) -> datetime:
        try:
            return to_time(self._text(key))
        except InputDataError as error:
            raise self._error(key, error.message, error.remedy) from error

    def _error(self, key: str, problem: str, remedy: str) -> InputDataError:
        return self._at(self.keys[key], f"{key}: {problem}", remedy)

    def _at(self, node: yaml.Node, problem: str, remedy: str) -> InputDataError:
        return InputDataError(f"{self.file}:{node.start_mark.line + 1}: {problem}.", remedy=remedy)


def _compose(file: str, data: bytes) -> yaml.Node:
    """The document's nodes; nothing is built before the parser's events were found harmless."""
    import yaml

    if len(data) > MAX_BYTES:
        raise InputDataError(f"{file}: has more than {MAX_BYTES:,} bytes.", remedy="Put long lists of rows into several notices.")
    try:
        text = data.decode("utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            odd = depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent)
            if odd or getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
                line = event.start_mark.line + 1 if event.start_mark else 0
                raise InputDataError(
                    f"{file}:{line}: deep nesting, anchors, aliases and tags are not allowed.", remedy="Write plain text."
                )
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise InputDataError(f"{file}: byte {error.start} is not UTF-8.", remedy="Save the form as UTF-8.") from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputDataError(f"{file}: not YAML ({reason}).", remedy="Fix the syntax.") from error
    if node is None:
        raise InputDataError(f"{file}: the form is empty.", remedy="Fill it in.")
    return node
