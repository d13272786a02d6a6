"""Functions that executors run in tests."""

from __future__ import annotations

import os
import signal
import time

from ftplatform.errors import InputDataError


class Stubborn(Exception):
    """Cannot be made again from its arguments, as the way between processes would have it."""

    def __init__(self, one: str, *, two: str) -> None:
        super().__init__(f"{one} {two}")


def double(number: int) -> int:
    return 2 * number


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def refuse_three(number: int) -> int:
    if number == 3:
        raise InputDataError("three is not wanted", remedy="Leave it out.")
    return number


def stumble(number: int) -> int:
    raise Stubborn("a", two="b")


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def variable(name: str) -> str | None:
    return os.environ.get(name)
