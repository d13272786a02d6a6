"""What the trainer's surroundings were: versions, hardware class, threads, determinism. Recorded in every closure.

Nothing here imports torch at module load, because the code location and the command line read it too.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any, Literal

from ftplatform.errors import TrainingError

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16"]

#: Distributions whose version can change the bytes of an adapter.
NUMERIC_PACKAGES = (
    "accelerate", "huggingface_hub", "numpy", "peft", "pyarrow", "safetensors", "tokenizers", "torch", "transformers",
)  # fmt: skip

#: Environment variables that change which kernels run, and so the last bits of a result.
NUMERIC_VARIABLES = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "PYTORCH_CUDA_ALLOC_CONF",
)  # fmt: skip


def package_versions(names: tuple[str, ...] = NUMERIC_PACKAGES) -> dict[str, str]:
    """Installed version by distribution name; a package that is not installed is left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def has_bf16(device: str) -> bool:
    """Whether matrix products in bfloat16 run in hardware on `device` ("cpu" or "cuda")."""
    import torch

    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if os.environ.get("ATEN_CPU_CAPABILITY") in {"avx2", "default"}:
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def capability_class(device: str = "cpu") -> str:
    """Name of the hardware class inside which a replay is bitwise, e.g. ``x86_64/AVX512+bf16`` or ``cuda/9.0/NVIDIA H200``.

    On a CPU it is what PyTorch dispatches on (instruction set), not the model name: measured on one machine, every instruction set
    gives its own bytes and is reproducible within itself.
    """
    import torch

    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return f"cuda/{major}.{minor}/{torch.cuda.get_device_name()}"
    return f"{platform.machine()}/{torch.backends.cpu.get_cpu_capability()}{'+bf16' if has_bf16('cpu') else ''}"


def resolve_device(device: Literal["auto", "cpu", "cuda"]) -> Device:
    """``auto`` becomes the GPU if PyTorch sees one.

    Raises:
        TrainingError: ``cuda`` was asked for and is not there.
    """
    import torch

    if device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise TrainingError(
            "the manifest asks for a GPU and PyTorch sees none", remedy="Run it on a GPU machine or set device to cpu."
        )
    return "cpu"


def resolve_precision(precision: Literal["auto", "fp32", "bf16"], device: Device) -> Precision:
    """``auto`` becomes bf16 where hardware multiplies it."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(device) else "fp32"


def repro_class(device: str) -> Literal["bitwise", "statistical"]:
    """What a replay on the same hardware class may be expected to give.

    Bit for bit on a CPU (tested). On a GPU attention's backward pass may add in any order, deterministic mode or not
    (flash-attention issue 2244), so nothing better is claimed until a replay has shown it.
    """
    return "bitwise" if device == "cpu" else "statistical"


def describe_environment(device: str = "cpu") -> dict[str, Any]:
    """JSON-able record of everything around a training run that can change its result. Holds no host name, path or user."""
    import torch

    record: dict[str, Any] = {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": package_versions(),
        "torch_build": torch.__version__,
        "device": device,
        "capability_class": capability_class(device),
        "repro_class": repro_class(device),
        "threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "variables": {name: os.environ[name] for name in NUMERIC_VARIABLES if name in os.environ},
        "gpu": None,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        record["gpu"] = {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    return record
