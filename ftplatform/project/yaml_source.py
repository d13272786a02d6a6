"""YAML as text with positions: no type is guessed, no object is built, hostile input is refused.

`license: no` is the text ``no``, `version: 1.10` is ``1.10`` and dates stay as written; whoever wants a number parses one.
The reader works on the parser's events, so nothing of a document is expanded or constructed before its limits were checked.
Environment variables (`${NAME}`) are not substituted: the file means the same on every machine, and secrets stay out of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ftplatform.project.credentials import shown
from ftplatform.project.problems import KeyPath, Problem, ProjectFileError

MAX_BYTES = 1 << 20
#: Levels of nesting, aliases followed. A project file needs seven.
MAX_DEPTH = 32
#: Aliases (`*name`) in the file.
MAX_ALIASES = 64
#: Keys and values, aliases followed. A project of 50 sources has about a thousand.
MAX_NODES = 100_000

# YAML 1.2, production 1 (c-printable); the byte order mark is taken off before.
_NOT_PRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_TEXT_TAGS = (None, "!", "tag:yaml.org,2002:str")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Line and column, counted from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Node:
    """A value of the document: exactly one of `text`, `items` and `entries` is set.

    `size` and `depth` count this node and all below it with aliases followed; aliased nodes are shared, not copied.
    """

    position: Position
    text: str | None = None
    items: list[Node] | None = None
    entries: dict[str, Entry] | None = None
    size: int = 1
    depth: int = 1

    def plain(self) -> Any:
        """The value as dict, list and str."""
        if self.entries is not None:
            return {key: entry.value.plain() for key, entry in self.entries.items()}
        if self.items is not None:
            return [item.plain() for item in self.items]
        return self.text


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping: where it stands and what it holds."""

    position: Position
    value: Node


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """One parsed file."""

    file: str
    root: Node

    def walk(self, path: Sequence[str | int]) -> tuple[KeyPath, Position, Node]:
        """Follow `path` as far as it exists: the part that does, the position of its last key, and the value there."""
        node, position, found = self.root, self.root.position, []
        for part in path:
            if node.entries is not None and isinstance(part, str) and part in node.entries:
                position, node = node.entries[part].position, node.entries[part].value
            elif node.items is not None and isinstance(part, int) and 0 <= part < len(node.items):
                node = node.items[part]
                position = node.position
            else:
                break
            found.append(part)
        return tuple(found), position, node

    def position(self, path: Sequence[str | int]) -> Position:
        """Where the key (or list item) at `path` stands; the nearest one above it if the file does not have it."""
        return self.walk(path)[1]

    def scalars(self) -> Iterator[tuple[KeyPath, Position, str]]:
        """Every text value with its path and position; what several aliases share is visited once."""
        seen: set[int] = set()
        pending: list[tuple[KeyPath, Position, Node]] = [((), self.root.position, self.root)]
        while pending:
            path, position, node = pending.pop()
            if node.text is not None:
                yield path, position, node.text
                continue
            if id(node) in seen:
                continue
            seen.add(id(node))
            if node.entries is not None:
                pending += [((*path, key), entry.position, entry.value) for key, entry in node.entries.items()]
            pending += [((*path, index), item.position, item) for index, item in enumerate(node.items or ())]


def read_yaml(data: bytes, file: str) -> YamlDocument:
    """Parse one YAML document whose scalars all stay text; see `parse_yaml`.

    Raises:
        ProjectFileError: with every problem that was found.
    """
    document, problems = parse_yaml(data, file)
    if document is None or problems:
        raise ProjectFileError(problems)
    return document


def parse_yaml(data: bytes, file: str) -> tuple[YamlDocument | None, list[Problem]]:
    """Parse one YAML document whose scalars all stay text.

    Args:
        data: the file's bytes, UTF-8 with or without byte order mark, at most `MAX_BYTES`.
        file: name used in problems.

    Returns:
        The document and what is wrong with it, each with its line. Duplicate keys, tags, merge keys and empty values leave a
        document that can be checked further. There is none (None) after wrong encoding, a syntax error, a second document, a key
        that is not text, an alias bomb or deep nesting.
    """
    text = _decode(data, file)
    if isinstance(text, Problem):
        return None, [text]
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.accept(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
        reason = (error.problem or "cannot be parsed").strip()
        where = f" {error.context.strip()}" if error.context else ""
        builder.report(place, (), f"not valid YAML: {reason}{where}{_syntax_hint(text, place, reason)}")
    except yaml.YAMLError as error:
        builder.report(Position(1, 1), (), f"not valid YAML: {shown(error)}")
    except _Stop:
        pass
    else:
        if builder.root is not None:
            return YamlDocument(file, builder.root), builder.problems
        builder.report(Position(1, 1), (), "the file is empty")
    return None, builder.problems


class _Stop(Exception):
    """Ends parsing after a problem behind which nothing can be trusted."""


def _decode(data: bytes, file: str) -> str | Problem:
    def refuse(line: int, column: int, message: str) -> Problem:
        return Problem(file=file, line=line, column=column, message=message)

    if len(data) > MAX_BYTES:
        return refuse(1, 1, f"larger than {MAX_BYTES:,} bytes, the limit of a project file; keep data in files of its own")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _line_and_column(data[: error.start].decode("utf-8", "replace"))
        return refuse(line, column, f"not UTF-8: byte 0x{data[error.start]:02x}; save the file as UTF-8")
    if found := _NOT_PRINTABLE.search(text):
        line, column = _line_and_column(text[: found.start()])
        return refuse(line, column, f"control character U+{ord(found.group()):04X}; remove it")
    return text


def _line_and_column(before: str) -> tuple[int, int]:
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", before)
    return len(lines), len(lines[-1]) + 1


def _syntax_hint(text: str, place: Position, reason: str) -> str:
    lines = text.splitlines()
    line = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
    if "\\t" in reason or line[: len(line) - len(line.lstrip())].count("\t"):
        return "; indent with spaces, not tabs"
    if "mapping values are not allowed" in reason:
        return "; quote a value that holds ': '"
    if "alias" in reason or "start any token" in reason:
        return "; quote a value that starts with one of * & % @ ` ! |"
    return ""


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being read."""

    node: Node
    anchor: str | None
    path: KeyPath
    key: tuple[str, Position] | None = None


class _Builder:
    """Turns the parser's events into nodes with a stack of its own, so that nesting cannot exhaust Python's."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.root: Node | None = None
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._aliases = 0
        self._documents = 0
        self._handlers: dict[type, Callable[[Any, Position], None]] = {
            yaml.DocumentStartEvent: self._document,
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
        }

    def accept(self, event: yaml.Event) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event, Position(event.start_mark.line + 1, event.start_mark.column + 1))

    def report(self, position: Position, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(file=self.file, line=position.line, column=position.column, path=path, message=message))

    def _stop(self, position: Position, message: str) -> None:
        self.report(position, self._path(), message)
        raise _Stop

    def _path(self) -> KeyPath:
        """Path of the value that comes next."""
        if not self._stack:
            return ()
        frame = self._stack[-1]
        if frame.node.items is not None:
            return (*frame.path, len(frame.node.items))
        return (*frame.path, frame.key[0]) if frame.key else frame.path

    def _at_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].node.entries is not None and self._stack[-1].key is None

    def _document(self, _event: yaml.DocumentStartEvent, position: Position) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop(position, "a second YAML document starts here; the project is one document, remove the '---'")

    def _check_tag(self, tag: str | None, position: Position) -> None:
        if tag not in _TEXT_TAGS:
            self.report(position, self._path(), f"the tag {shown(tag)} is not supported: every value is text, remove the tag")

    def _scalar(self, event: yaml.ScalarEvent, position: Position) -> None:
        self._check_tag(event.tag, position)
        unquoted = not event.style and event.tag is None  # the pure parser says None, libyaml ''
        node = Node(position, text=event.value)
        if self._at_key():
            self._open_key(event.value, position, unquoted=unquoted)
        else:
            if unquoted and event.value in ("", "~", "null", "Null", "NULL"):
                place = self._stack[-1].key[1] if self._stack and self._stack[-1].key else position
                what = "no value" if event.value == "" else f"the value {event.value!r}, which means nothing in YAML"
                self.report(place, self._path(), f"has {what}; remove the key, give it a value, or quote a text")
            self._attach(node, position)
        if event.anchor is not None:
            self._anchors[event.anchor] = node

    def _open_key(self, key: str, position: Position, *, unquoted: bool) -> None:
        frame = self._stack[-1]
        assert frame.node.entries is not None
        if key in frame.node.entries:
            first = frame.node.entries[key].position.line
            self.report(position, (*frame.path, key), f"the key is given twice, first on line {first}; keep one")
        elif unquoted and key == "<<":
            self.report(
                position, (*frame.path, key), "merge keys are not supported; repeat the keys, or alias a whole value (key: *name)"
            )
        frame.key = (key, position)

    def _alias(self, event: yaml.AliasEvent, position: Position) -> None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._stop(position, f"more than {MAX_ALIASES} aliases (*name); write the values out")
        node = self._anchors.get(event.anchor)
        if node is None:
            self._stop(position, f"the alias {shown(event.anchor)} has no finished anchor of that name above it")
        elif self._at_key():
            self._stop(position, "an alias cannot be a key; write the key out")
        else:
            self._attach(node, position)

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, position: Position) -> None:
        if self._at_key():
            self._stop(position, "a key must be text, not a mapping or list; quote a value that starts with { or [")
        tag_of_kind = "tag:yaml.org,2002:map" if isinstance(event, yaml.MappingStartEvent) else "tag:yaml.org,2002:seq"
        if event.tag != tag_of_kind:
            self._check_tag(event.tag, position)
        if len(self._stack) >= MAX_DEPTH:
            self._stop(position, f"nested deeper than {MAX_DEPTH} levels")
        node = Node(position, entries={}) if isinstance(event, yaml.MappingStartEvent) else Node(position, items=[])
        self._stack.append(_Frame(node, event.anchor, self._path()))

    def _close(self, _event: yaml.Event, position: Position) -> None:
        frame = self._stack.pop()
        self._attach(frame.node, position)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = frame.node

    def _attach(self, node: Node, position: Position) -> None:
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        parent = frame.node
        if parent.items is not None:
            parent.items.append(node)
        elif frame.key is not None:
            assert parent.entries is not None
            key, place = frame.key
            parent.entries.setdefault(key, Entry(place, node))
            frame.key = None
        # Counted, not expanded: the arithmetic of a bomb is cheap, its expansion is not.
        parent.size += node.size + (parent.entries is not None)
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.size > MAX_NODES:
            self._stop(position, f"more than {MAX_NODES:,} keys and values once aliases are followed")
        if parent.depth + len(self._stack) - 1 > MAX_DEPTH:
            self._stop(position, f"nested deeper than {MAX_DEPTH} levels once aliases are followed")
