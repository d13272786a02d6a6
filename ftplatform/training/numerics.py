"""Threads, determinism and random state of a computation, put back afterwards: a run may share its process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def numerics(*, device: str, threads: int, deterministic: bool) -> Iterator[None]:
    """Inside, PyTorch computes with `threads` CPU threads and, if asked, deterministic algorithms only."""
    if device == "cuda" and deterministic:
        # Read by cuBLAS when its first handle is created; it keeps a caller's own choice.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    before = torch.get_num_threads()
    was, warn_only = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(was, warn_only=warn_only)
