"""Which implementation of a kernel runs, how one is compiled, and how blocks are spread over cores."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, ParamSpec, TypeVar

from ftplatform.errors import FtplatformError

#: Overrides the choice: "numba" or "numpy".
VARIABLE = "FTPLATFORM_KERNELS"
#: Bytes of text from which numba pays. Importing numba and reading its cache took .5 CPU seconds, what NumPy needs beyond numba for
#: 10 MiB; compiling (once per machine) took more, which is left out. A process that has loaded it profits from small work too.
NUMBA_FROM_BYTES = 16 << 20
NUMBA_LOADED_FROM_BYTES = 1 << 20

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


class KernelUnavailable(FtplatformError):
    """The implementation asked for does not exist or is not installed."""


def use_numba(work: int, from_bytes: int = NUMBA_FROM_BYTES) -> bool:
    """Whether `work` bytes are to be processed by the compiled kernels: from `from_bytes` on, or less where numba is loaded already.

    Raises:
        KernelUnavailable: the environment variable names something else, or numba without its being installed.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", "numba", "numpy"):
        raise KernelUnavailable(f"{VARIABLE}={asked!r} names no kernels.", remedy='Set it to "numba" or "numpy", or unset it.')
    installed = _installed()
    if asked == "numba" and not installed:
        raise KernelUnavailable(f"{VARIABLE}=numba, but numba is not installed.", remedy="Install numba, or unset the variable.")
    if asked or not installed:
        return asked == "numba"
    return work >= (NUMBA_LOADED_FROM_BYTES if Compiled.loaded else from_bytes)


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


class Compiled(Generic[P, T]):
    """A function of scalars and arrays that numba compiles when it is first called; it runs without the interpreter lock."""

    loaded = False

    def __init__(self, function: Callable[P, T]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._dispatcher(*args, **kwargs)

    @functools.cached_property
    def _dispatcher(self) -> Callable[P, T]:
        import numba

        Compiled.loaded = True
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        try:
            return numba.njit(cache=True, **options)(self.function)
        except RuntimeError:  # neither the package nor the user's cache folder can be written: compile in every process
            return numba.njit(**options)(self.function)


def default_workers() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_blocks(function: Callable[[T], U], blocks: Iterable[T], workers: int | None = None) -> Generator[U, None, None]:
    """`function` of each block, in order; on threads where there is more than one core, with a bounded number in flight."""
    workers = workers or default_workers()
    if workers == 1:
        yield from map(function, blocks)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[U]] = deque()
        for block in blocks:
            waiting.append(pool.submit(function, block))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
