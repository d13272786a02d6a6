"""Base models: a local folder or a hub commit, guarded, hashed and described without loading a single weight."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ftplatform.canonical import digest, sha256_hex
from ftplatform.errors import InputDataError, TrainingError
from ftplatform.training.safetensors_guard import MODEL_SUFFIXES, check_model_folder, model_files

#: Where hub models are kept; each in a folder named by its commit, so two revisions never mix.
DEFAULT_CACHE = Path("~/.cache/ftplatform/models")


def resolve_base_model(
    *, path: Path | str | None = None, hub: str | None = None, revision: str | None = None, cache: Path | None = None
) -> Path:
    """Folder with the files of a base model; a hub model is downloaded once, and only its weights, JSON and templates.

    Args:
        path: local folder; or
        hub: id on the Hugging Face hub, with `revision`, its 40-digit commit.
        cache: where downloads go, `DEFAULT_CACHE` by default.

    Raises:
        TrainingError: neither or both of `path` and `hub`; a revision that is not a commit.
        InputDataError: the hub cannot deliver it.
        UnsafeModel: the folder may run code or is malformed.
    """
    if (path is None) == (hub is None):
        raise TrainingError("a base model has exactly one of path and hub", remedy="Give one of the two.")
    if path is not None:
        folder = Path(path)
    else:
        assert hub is not None
        folder = _download(hub, revision or "", (cache or DEFAULT_CACHE).expanduser())
    check_model_folder(folder)
    return folder


def _download(hub: str, revision: str, cache: Path) -> Path:
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise TrainingError(
            f"revision {revision!r} of {hub} is not a commit", remedy="Give the 40-digit commit; branches and tags move."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    folder = cache / hub.replace("/", "--") / revision
    complete = folder / ".complete"
    if complete.exists():
        return folder
    try:
        snapshot_download(
            hub, revision=revision, local_dir=folder, allow_patterns=[f"*{suffix}" for suffix in sorted(MODEL_SUFFIXES)]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise InputDataError(
            f"{hub} at {revision} cannot be downloaded: {error}",
            remedy="Check id, commit, access and network (HF_HUB_OFFLINE, HF_TOKEN), or give a local path.",
        ) from error
    complete.touch()
    return folder


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_base_model(folder: Path) -> dict[str, Any]:
    """JSON-able description: what to record in a closure.

    Returns:
        `files` (list of path, sha256, size in bytes; by path), `digest` (SHA-256 over paths and hashes: the model's identity),
        `tokenizer_sha256`, `chat_template_sha256` (of the template's text; None without one), `parameters`, `dtypes` (tensors by
        type), `architecture`, `model_type`, `vocabulary`, `max_tokens` (positions the model was built for, None if unlimited).

    Raises:
        UnsafeModel: see `check_model_folder`.
    """
    tensors = check_model_folder(folder)
    files = [
        {"path": f.as_posix(), "sha256": file_sha256(folder / f), "size": (folder / f).stat().st_size} for f in model_files(folder)
    ]
    config = json.loads((folder / "config.json").read_bytes())
    template = chat_template_of(folder)
    return {
        "files": files,
        "digest": digest([[f["path"], f["sha256"]] for f in files]),
        "tokenizer_sha256": _tokenizer_hash(files),
        "chat_template_sha256": sha256_hex(template.encode()) if template is not None else None,
        "parameters": sum(math.prod(t.shape) for t in tensors.values()),
        "dtypes": dict(sorted(Counter(t.dtype for t in tensors.values()).items())),
        "architecture": (config.get("architectures") or [None])[0],
        "model_type": config.get("model_type"),
        "vocabulary": config.get("vocab_size"),
        "max_tokens": config.get("max_position_embeddings"),
    }


def chat_template_of(folder: Path) -> str | None:
    """The chat template's text: `chat_template.jinja`, or the (default) one in `tokenizer_config.json`."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    template = json.loads(config.read_bytes()).get("chat_template") if config.is_file() else None
    if isinstance(template, list):
        template = next((t["template"] for t in template if t.get("name") == "default"), None)
    return template


def _tokenizer_hash(files: list[dict[str, Any]]) -> str | None:
    """SHA-256 over every file that decides how text becomes tokens, the chat template excepted (it is hashed by its text)."""
    names = (
        "tokenizer.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "added_tokens.json",
        "special_tokens_map.json",
    )
    parts = [[f["path"], f["sha256"]] for f in files if f["path"] in names]
    return digest(parts) if parts else None
