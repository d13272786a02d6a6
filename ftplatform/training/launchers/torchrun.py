"""Several processes under torchrun (`torch.distributed.run`) on one machine: how they start, and how they find each other.

Nothing listens beyond this machine. `--standalone` would: its store listens on every interface (measured, torch 2.13), and whoever
reaches a store may change what is in it. Processes meet in a file instead, torchrun opens no store for them, and gloo and NCCL are
held to the loopback interface.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ftplatform.training.environment import Device
from ftplatform.training.replica import Replica

_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
#: Environment of the processes.
VARIABLES = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}


def command(module: str, arguments: Sequence[str], processes: int, folder: Path) -> list[str]:
    """Command line that starts `processes` times ``python -m module`` and ends all of them when one fails.

    Args:
        folder: private to this run, for the files in which processes meet and for torchrun's logs.
    """
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={processes}", "--max-restarts=0"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint={folder / 'rendezvous'}", "--rdzv-conf=store_type=file", "--rdzv-id=run"),
        *("--local-addr=127.0.0.1", f"--log-dir={folder / 'torchrun'}", "--module", module),
        *arguments,
        f"--process-group={folder / 'group'}",
    ]


@contextmanager
def process_group(file: Path, device: Device) -> Iterator[Replica]:
    """Joins the other processes of a run that torchrun started, on a GPU each or on CPUs.

    Args:
        file: where they meet; must not exist before the first of them comes.
    """
    import torch
    from torch import distributed

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=file.as_uri(), rank=rank, world_size=world)
    try:
        yield Replica(rank, world)
    finally:
        distributed.destroy_process_group()
