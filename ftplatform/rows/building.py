"""From records to Arrow: the rules every row obeys, whatever it was read from."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from ftplatform.rows.formats import reference_answer
from ftplatform.rows.quarantine import Malformed, Reason
from ftplatform.rows.raw_records import RawRecord
from ftplatform.rows.records import Message, Record, type_name
from ftplatform.rows.schema import MESSAGE_TYPE, ROW_SCHEMA, Role, Surface, row_id

#: Surfaces whose rows are never trained on (SPEC M4, M12), whatever a record says.
NEVER_TRAINED = frozenset({Surface.EVAL, Surface.DEBUG})
#: Surfaces whose rows may lack an answer: real inputs, questions, probes.
NO_TARGET_NEEDED = frozenset({Surface.EVAL, Surface.DEBUG, Surface.PRODUCTION})

_BATCH_ROWS = 4_096
_BATCH_CHARS = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDefaults:
    """What the rows of one source have in common; see `reading.ReadSpec`."""

    source: str
    surface: Surface
    first_seen_at: datetime.datetime | None
    parents: Sequence[str]
    slice_field: str | None
    require_target: bool


@dataclass(slots=True)
class RowBuilder:
    """Collects rows column by column and hands them out as record batches of `ROW_SCHEMA`."""

    defaults: RowDefaults
    _columns: dict[str, list[Any]] = field(init=False)
    _roles: list[str] = field(init=False)
    _contents: list[str] = field(init=False)
    _masks: list[bool] = field(init=False)
    _offsets: list[int] = field(init=False)
    _size: int = field(init=False)

    def __post_init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._columns = {name: [] for name in ROW_SCHEMA.names if name != "messages"}
        self._roles, self._contents, self._masks, self._offsets = [], [], [], [0]
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether it is time to take the batch."""
        return len(self._offsets) > _BATCH_ROWS or self._size >= _BATCH_CHARS

    def add(self, record: Record) -> None:
        """Adds one row.

        Raises:
            Malformed: the record breaks a rule of rows; nothing was added.
        """
        defaults = self.defaults
        fields = dict(record.fields)
        surface = _surface(fields, defaults.surface)
        messages = list(record.messages)
        if messages and messages[-1].role is not Role.ASSISTANT and surface is Surface.EVAL:
            reference = reference_answer(fields)
            if reference is not None:
                messages.append(Message(Role.ASSISTANT, reference))
        _require_usable(messages, defaults.require_target)
        masks = [_mask(message, surface) for message in messages]
        slices = _slices(fields, record, defaults.slice_field)
        values = {
            "row_id": _identity(messages),
            "source": defaults.source,
            "origins": [defaults.source],
            "parents": sorted({*defaults.parents, *_tags(fields.pop("parents", None), "parents")}),
            "slices": slices,
            "author": _name(fields.pop("author", None), "author"),
            "group": _name(fields.pop("group", None), "group"),
            "surface": str(surface),
            "created_at": _timestamp(fields.pop("created_at", None)),
            "first_seen_at": defaults.first_seen_at,
            "meta": _meta(fields),
        }
        for name, value in values.items():
            self._columns[name].append(value)
        for message, mask in zip(messages, masks, strict=True):
            self._roles.append(str(message.role))
            self._contents.append(message.content)
            self._masks.append(mask)
            self._size += len(message.content)
        self._offsets.append(len(self._roles))
        self._size += len(values["meta"]) + 200

    def take(self) -> pa.RecordBatch | None:
        """The rows collected so far, and an empty builder; None when there are none."""
        if len(self._offsets) == 1:
            return None
        turns = pa.StructArray.from_arrays(
            [pa.array(self._roles, pa.string()), pa.array(self._contents, pa.string()), pa.array(self._masks, pa.bool_())],
            fields=list(MESSAGE_TYPE),
        )
        messages = pa.ListArray.from_arrays(pa.array(self._offsets, pa.int32()), turns, type=ROW_SCHEMA.field("messages").type)
        arrays = [
            messages if column.name == "messages" else pa.array(self._columns[column.name], column.type) for column in ROW_SCHEMA
        ]
        self._reset()
        return pa.RecordBatch.from_arrays(arrays, schema=ROW_SCHEMA)


def _require_usable(messages: Sequence[Message], require_target: bool) -> None:
    if not messages:
        raise Malformed(Reason.NO_MESSAGES, "the record has no turns")
    for number, message in enumerate(messages, start=1):
        if not message.content.strip():
            raise Malformed(Reason.EMPTY_CONTENT, f"turn {number} ({message.role}) is blank")
        if message.trainable and message.role is not Role.ASSISTANT:
            raise Malformed(Reason.TRAINABLE_ROLE, f"turn {number}: only assistant turns can be trainable, not {message.role}")
    if all(message.role is Role.SYSTEM for message in messages):
        raise Malformed(Reason.NO_MESSAGES, "the record has nothing but a system prompt")
    if require_target and all(message.role is not Role.ASSISTANT for message in messages):
        raise Malformed(Reason.NO_TARGET, "no assistant turn to learn from")


def _mask(message: Message, surface: Surface) -> bool:
    if message.role is not Role.ASSISTANT or surface in NEVER_TRAINED:
        return False
    return message.trainable is not False


def _identity(messages: Sequence[Message]) -> str:
    try:
        return row_id({"role": message.role, "content": message.content} for message in messages)
    except ValueError as error:
        raise Malformed(Reason.LONE_SURROGATE, str(error)[:200]) from None


def _surface(fields: dict[str, Any], default: Surface) -> Surface:
    value = fields.pop("surface", None)
    if value is None:
        return default
    if value not in list(Surface):
        raise Malformed(Reason.INVALID_SURFACE, f"surface {str(value)[:40]!r} is not one of {', '.join(Surface)}")
    return Surface(value)


def _name(value: Any, column: str) -> str | None:
    """A name or number as text."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Malformed(Reason.WRONG_TYPE, f"{column!r} is {type_name(value)}, not a string or number")
    return str(value)


def _tags(value: Any, column: str) -> list[str]:
    """A tag, or a list of tags (as JSON text where the format knows only text)."""
    if value is None or value == "":
        return []
    if isinstance(value, str) and value.startswith("["):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return [value]
    items = value if isinstance(value, list) else [value]
    return [tag for tag in (_name(item, column) for item in items) if tag is not None]


def _slices(fields: dict[str, Any], record: Record, slice_field: str | None) -> list[str]:
    tags = set(_tags(fields.pop("slices", None), "slices"))
    if slice_field is not None:
        value = fields.get(slice_field)
        if value is None and isinstance(record.raw, RawRecord) and isinstance(record.raw.value, Mapping):
            # The key may have been mapped to another name, or used for the conversation itself.
            value = record.raw.value.get(slice_field)
        tags.update(_tags(value, slice_field))
    return sorted(tags)


def _timestamp(value: Any) -> datetime.datetime | None:
    """ISO 8601 text, or seconds or milliseconds since 1970; without a zone it is UTC."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            text = value.strip()
            if text.replace(".", "", 1).isdecimal() and len(text) >= 9:
                return _timestamp(float(text))
            moment = datetime.datetime.fromisoformat(text)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            # Seconds reach 1e11 in the year 5138; larger numbers are milliseconds.
            moment = datetime.datetime.fromtimestamp(value / 1000 if abs(value) >= 1e11 else value, datetime.UTC)
        elif isinstance(value, datetime.datetime):
            moment = value
        else:
            raise Malformed(Reason.INVALID_TIMESTAMP, f"'created_at' is {type_name(value)}, not a time")
        return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError, OSError):
        raise Malformed(Reason.INVALID_TIMESTAMP, f"'created_at' {str(value)[:40]!r} is not ISO 8601 or a Unix time") from None


def _meta(fields: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError) as error:
        raise Malformed(Reason.WRONG_TYPE, f"a field has no JSON form: {error}"[:200]) from None
