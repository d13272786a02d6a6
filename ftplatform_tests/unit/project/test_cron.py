from __future__ import annotations

import pytest
from dagster._utils.schedules import is_valid_cron_string
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.project.cron import cron_problem


@pytest.mark.parametrize(
    "line",
    [
        "0 3 * * *",
        "*/5 1-3,7 * jan-mar mon-fri",
        "0 0 29 2 *",
        "0 0 1 JAN Mon",
        "0 0 * * 7",
        "59 23 31 12 *",
        "@daily",
        "1-10/3 * * * *",
    ],
)
def test_accepted_lines_are_accepted_by_dagster(line: str) -> None:
    assert cron_problem(line) is None
    assert is_valid_cron_string(line)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("", "five fields"),
        ("0 3 * *", "five fields"),
        ("0 0 3 * * *", "five fields"),
        ("0  3 * * *", "five fields"),
        ("60 * * * *", "minute: '60' is outside 0 to 59"),
        ("0 24 * * *", "hour: '24' is outside"),
        ("0 0 0 * *", "day of the month"),
        ("0 0 * 13 *", "month"),
        ("0 0 * * 8", "day of the week"),
        ("0 0 * * funday", "day of the week"),
        ("*/0 * * * *", "step must be"),
        ("5/10 * * * *", "a step needs"),
        ("0 22-2 * * *", "runs backwards"),
        ("a b c d e", "minute"),
        ("0 0 31 4 *", "never comes"),
        ("0 0 30 2 *", "never comes"),
        ("-1 * * * *", "not a number"),
        ("0 3 * * *; rm -rf /", "five fields"),
        ("@reboot", "not a cron macro"),
        ("@Daily", "not a cron macro"),
    ],
)
def test_refused_lines_say_why(line: str, part: str) -> None:
    problem = cron_problem(line)
    assert problem is not None
    assert part in problem


def test_dagster_alone_takes_a_date_that_never_comes() -> None:
    assert is_valid_cron_string("0 0 31 4 *")
    assert cron_problem("0 0 31 4 *") is not None


_FIELD = st.one_of(
    st.just("*"),
    st.integers(0, 70).map(str),
    st.tuples(st.integers(0, 70), st.integers(0, 70)).map(lambda p: f"{p[0]}-{p[1]}"),
    st.integers(0, 70).map(lambda n: f"*/{n}"),
    st.sampled_from(["jan", "sun", "mon-fri", "1,2,3", "", ",", "-", "/", "L", "?", "1#2"]),
)


@given(st.lists(_FIELD, min_size=4, max_size=6).map(" ".join))
def test_whatever_we_accept_dagster_accepts(line: str) -> None:
    if cron_problem(line) is None:
        assert is_valid_cron_string(line), line
