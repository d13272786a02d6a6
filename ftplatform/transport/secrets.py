"""Secrets of endpoints: read from the environment for each request, kept nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable

from ftplatform.transport.errors import TransportError


def environment_secret(name: str) -> Callable[[], str]:
    """A callable that reads the environment variable `name` when it is called.

    Raises:
        TransportError: by the callable, if the variable is not set or holds what no header may hold.
    """

    def read() -> str:
        value = os.environ.get(name, "").strip()
        if not value or not value.isascii() or not value.isprintable():
            raise TransportError(
                f"The environment variable {name} is {'not usable as a key' if value else 'not set'}.",
                remedy=f"Set {name} to the key of the endpoint.",
            )
        return value

    return read
