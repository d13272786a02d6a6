from __future__ import annotations

import datetime
import tracemalloc

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.project.problems import ProjectFileError
from ftplatform.project.yaml_source import MAX_ALIASES, MAX_BYTES, MAX_DEPTH, Position, parse_yaml, read_yaml

TRAPS = """\
license: no
version: 1.10
date: 2026-01-02
octal: 0o17
hex: 0x1F
float: 1e3
sexagesimal: 22:22:22
truth: Yes
quoted: "null"
infinite: .inf
list: [on, 007, ~ish]
"""


@pytest.fixture(params=["libyaml", "pure Python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers of PyYAML: wheels come with libyaml, other builds may lack it."""
    if request.param == "libyaml":
        assert yaml.__with_libyaml__
    else:
        monkeypatch.delattr(yaml, "CSafeLoader")
    return request.param


def problem(text: str | bytes) -> tuple[int, str]:
    """Line and message of the only problem of a document."""
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ProjectFileError) as caught:
        read_yaml(data, "f.yaml")
    (only,) = caught.value.problems
    return only.line, only.message


@pytest.mark.usefixtures("parser")
def test_every_scalar_stays_the_text_that_was_written() -> None:
    value = read_yaml(TRAPS.encode(), "f.yaml").root.plain()
    assert value == {
        "license": "no",
        "version": "1.10",
        "date": "2026-01-02",
        "octal": "0o17",
        "hex": "0x1F",
        "float": "1e3",
        "sexagesimal": "22:22:22",
        "truth": "Yes",
        "quoted": "null",
        "infinite": ".inf",
        "list": ["on", "007", "~ish"],
    }


def test_the_usual_loader_guesses() -> None:
    guessed = yaml.safe_load(TRAPS)
    assert guessed["license"] is False
    assert guessed["version"] == 1.1
    assert guessed["date"] == datetime.date(2026, 1, 2)


@pytest.mark.usefixtures("parser")
def test_positions_of_keys_and_items() -> None:
    document = read_yaml(b"a:\n  b: 1\n  c:\n    - x\n    - y: 2\n", "f.yaml")
    assert document.position(("a", "b")) == Position(2, 3)
    assert document.position(("a", "c", 0)) == Position(4, 7)
    assert document.position(("a", "c", 1, "y")) == Position(5, 7)
    assert document.position(("a", "missing", "deeper")) == Position(1, 1)
    assert document.position(()) == Position(1, 1)


@pytest.mark.usefixtures("parser")
def test_aliased_values_are_shared_and_keep_the_place_of_their_anchor() -> None:
    document = read_yaml(b"base: &r\n  steps: 3\nother: *r\n", "f.yaml")
    assert document.root.plain() == {"base": {"steps": "3"}, "other": {"steps": "3"}}
    assert document.position(("other", "steps")) == Position(2, 3)
    assert [path for path, _, _ in document.scalars()] in ([("base", "steps")], [("other", "steps")])


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        pytest.param("a: 1\nb: 2\na: 3\n", 3, "given twice, first on line 1", id="duplicate key"),
        pytest.param("a:\n  x: !!python/object/apply:os.system [id]\n", 2, "python/object/apply:os.system", id="python tag"),
        pytest.param("a: !secret x\n", 1, "tag", id="custom tag"),
        pytest.param("a: !!int '3'\n", 1, "tag", id="core tag"),
        pytest.param("a: !!set {x: 1}\n", 1, "tag", id="set"),
        pytest.param("a: 1\n---\nb: 2\n", 2, "second YAML document", id="two documents"),
        pytest.param("a:\n\tb: 1\n", 2, "spaces, not tabs", id="tab"),
        pytest.param("a: [1, 2\nb: 3\n", 2, "not valid YAML", id="unclosed"),
        pytest.param("a: b: c\n", 1, "quote a value", id="colon"),
        pytest.param("a: *nowhere\n", 1, "no finished anchor", id="undefined alias"),
        pytest.param("a: &a [1, *a]\n", 1, "no finished anchor", id="alias of itself"),
        pytest.param("x: &x {k: v}\ny:\n  <<: *x\n", 3, "merge keys", id="merge key"),
        pytest.param("? [a, b]\n: c\n", 1, "a key must be text", id="list as key"),
        pytest.param("k: &k v\n*k : 3\n", 2, "alias cannot be a key", id="alias as key"),
        pytest.param("", 1, "empty", id="empty"),
        pytest.param("# only a comment\n", 1, "empty", id="comment"),
        pytest.param("a: 1\nb:\nc: 2\n", 2, "no value", id="no value"),
        pytest.param("a: 1\nb: ~\n", 2, "means nothing", id="tilde"),
        pytest.param("a: null\n", 1, "means nothing", id="null"),
        pytest.param("a: 1\nb: \x00\n", 2, "U+0000", id="NUL"),
        pytest.param("a: 1\nb: \x1b[31m\n", 2, "U+001B", id="escape"),
        pytest.param("a: 1\nb: é\n".encode("latin-1"), 2, "not UTF-8: byte 0xe9", id="latin-1"),
        pytest.param("a: 1\n".encode("utf-16"), 1, "not UTF-8", id="utf-16"),
        pytest.param(b"a: \xed\xa0\x80\n", 1, "not UTF-8", id="surrogate"),
        pytest.param("a: " + "[" * 2000, 1, "nested deeper", id="deep flow"),
        pytest.param(
            "".join(" " * n + "a:\n" for n in range(500)) + " " * 500 + "a: 1", MAX_DEPTH + 1, "nested deeper", id="deep block"
        ),
        pytest.param("a: x" + "x" * MAX_BYTES, 1, "1,048,576 bytes", id="over 1 MiB"),
    ],
)
def test_refused_with_its_line(text: str | bytes, line: int, part: str) -> None:
    found_line, message = problem(text)
    assert part in message
    assert found_line == line


@pytest.mark.usefixtures("parser")
def test_all_soft_problems_are_reported_together_and_leave_a_document() -> None:
    document, problems = parse_yaml(b"a: 1\na: 2\nb: ~\nc: !x 3\nd: 4\n", "f.yaml")
    assert [p.line for p in problems] == [2, 3, 4]
    assert document is not None
    assert document.root.plain()["d"] == "4"


def test_a_byte_order_mark_and_other_line_ends_are_read() -> None:
    document = read_yaml(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f.yaml")
    assert document.root.plain() == {"a": "1", "b": "2"}
    assert document.position(("b",)).line == 2


def test_a_file_of_exactly_one_mebibyte_is_read() -> None:
    text = b"a: " + b"x" * (MAX_BYTES - 4) + b"\n"
    assert len(text) == MAX_BYTES
    assert len(read_yaml(text, "f.yaml").root.plain()["a"]) == MAX_BYTES - 4


def bomb(levels: int, width: int) -> str:
    """`levels` lists, each holding the one before `width` times: width ** levels values in a few hundred bytes."""
    lines = ["l0: &l0 x"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("levels", "width", "part"),
    [
        pytest.param(9, 9, "keys and values once aliases are followed", id="billion laughs"),
        pytest.param(20, 3, "keys and values once aliases are followed", id="few aliases, 3^19 values"),
        pytest.param(MAX_DEPTH + 5, 1, "nested deeper", id="chain"),
    ],
)
def test_alias_bombs_are_refused_without_being_expanded(levels: int, width: int, part: str) -> None:
    data = bomb(levels, width).encode()
    assert len(data) < 2000
    tracemalloc.start()
    _, message = problem(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert part in message
    assert peak < 5_000_000


@pytest.mark.usefixtures("parser")
def test_the_number_of_aliases_is_limited() -> None:
    within = f"a: &a x\nb: [{', '.join(['*a'] * MAX_ALIASES)}]\n"
    assert read_yaml(within.encode(), "f.yaml").root.plain()["b"] == ["x"] * MAX_ALIASES
    assert f"more than {MAX_ALIASES} aliases" in problem(within.replace("]", ", *a]"))[1]


def test_the_usual_loader_accepts_the_bomb() -> None:
    # It shares the lists, so the cost falls on whoever walks them next: here 3^19 values.
    loaded = yaml.safe_load(bomb(20, 3))
    count, node = 1, loaded["l19"]
    while isinstance(node, list):
        count, node = count * len(node), node[0]
    assert count == 3**19


@given(st.text(max_size=300))
def test_any_text_gives_a_document_or_problems_with_lines(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    document, problems = parse_yaml(data, "f.yaml")
    assert document is not None or problems
    assert all(1 <= p.line <= text.count("\n") + text.count("\r") + len(text.splitlines()) + 2 for p in problems)


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,? \n\t~<0", max_size=80))
def test_yaml_punctuation_never_crashes_either_parser(text: str) -> None:
    values = []
    for loader in (yaml.CSafeLoader, yaml.SafeLoader):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(yaml, "CSafeLoader", loader)
            document, problems = parse_yaml(text.encode(), "f.yaml")
        assert document is not None or problems
        values.append(document.root.plain() if document is not None and not problems else None)
    if None not in values:
        assert values[0] == values[1]


_CHARACTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\ufeff\uffff\ufffe")
_TEXTS = st.text(_CHARACTERS, max_size=20)
_VALUES = st.recursive(_TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3), max_leaves=8)


@given(st.dictionaries(_TEXTS, _VALUES, min_size=1, max_size=4))
def test_what_was_written_quoted_is_read_back(value: dict[str, object]) -> None:
    text = yaml.safe_dump(value, default_style='"', allow_unicode=True).encode()
    assert read_yaml(text, "f.yaml").root.plain() == value
