"""Named readers: the plug-in point for nested formats that no `fields:` mapping can describe.

A reader is a function::

    def read(opened: OpenFile) -> Iterator[Record | Quarantined]: ...

It gets one open file and yields one item per record of that file, in order: a `Record` (messages and what else is known), or a
`Quarantined` for what it cannot read. It drops nothing. The parsed records of any file kind come from
`ftplatform.rows.file_kinds.raw_records(opened, is_record)`; a format of its own reads `opened.stream`, a binary stream of decoded
bytes (`io.TextIOWrapper(io.BufferedReader(opened.stream))` gives lines), under the caps in `opened.stream.limits`. The rules all
rows obey (no blank turns, only assistant turns trainable, ...) are applied to what it yields; breaking them quarantines the record.

Register it under a name with an entry point of group ``ftplatform.readers`` in a package's ``pyproject.toml``, or name it in the
project file as ``module:function``, where the module is a file beside the project file (``readers.py``) or importable.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from ftplatform.errors import ProjectError
from ftplatform.rows.file_kinds import OpenFile, raw_records
from ftplatform.rows.quarantine import Malformed, Quarantined, Reason
from ftplatform.rows.raw_records import IsRecord, RawRecord
from ftplatform.rows.records import Record, type_name

__all__ = ["ENTRY_POINT_GROUP", "Reader", "load_reader", "read_each", "reader_names"]

#: Group under which packages register readers.
ENTRY_POINT_GROUP = "ftplatform.readers"

Reader = Callable[[OpenFile], Iterator[Record | Quarantined]]

_MODULE_FUNCTION = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


def reader_names() -> list[str]:
    """Names of the installed readers."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def load_reader(name: str, base_dir: Path) -> Reader:
    """The reader called `name`.

    Args:
        name: an installed name, or ``module:function``.
        base_dir: folder of the project file, searched first for the module.

    Raises:
        ProjectError: no such reader, or it cannot be loaded.
    """
    match = _MODULE_FUNCTION.fullmatch(name)
    if match is None:
        for point in entry_points(group=ENTRY_POINT_GROUP):
            if point.name == name:
                return point.load()
        raise ProjectError(f"reader {name!r} is not known.", remedy=f"Use {', '.join(reader_names())}, or write module:function.")
    module_name, function_name = match.groups()
    try:
        function = getattr(_module(module_name, base_dir), function_name, None)
    except (ImportError, SyntaxError) as error:
        raise ProjectError(f"reader {name!r} cannot be loaded: {error}.", remedy="Correct the module's name or code.") from error
    if not callable(function):
        raise ProjectError(f"reader {name!r}: module {module_name} has no function {function_name}.", remedy="Correct the name.")
    return cast(Reader, function)


def _module(name: str, base_dir: Path) -> ModuleType:
    file = base_dir.joinpath(*name.split(".")).with_suffix(".py")
    if not file.is_file():
        return importlib.import_module(name)
    # Loaded under a name of its own: a project's `readers.py` must not hide, or be hidden by, another project's.
    spec = importlib.util.spec_from_file_location(f"_ftplatform_reader_{name.replace('.', '_')}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file.name} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_each(opened: OpenFile, is_record: IsRecord, convert: Callable[[dict[str, Any]], Record]) -> Iterator[Record | Quarantined]:
    """The loop most readers need: every object of the file through `convert`, which may raise `Malformed`.

    Args:
        opened: the open file.
        is_record: tells whether a `.json` document that is one object is itself a record.
        convert: from the parsed object to a record; position and raw form are filled in here.
    """
    limit = opened.stream.limits.excerpt_chars
    for item in raw_records(opened, is_record):
        if not isinstance(item, RawRecord):
            yield item
            continue
        try:
            if not isinstance(item.value, dict):
                raise Malformed(Reason.NOT_AN_OBJECT, f"the record is {type_name(item.value)}, not an object")
            record = convert(item.value)
        except Malformed as malformed:
            yield item.refuse(malformed, limit)
        else:
            yield Record(record.messages, record.fields, item.position, item)
