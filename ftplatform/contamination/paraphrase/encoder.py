"""Sentence embeddings, the optional better tier: a protocol, and an implementation over a local sentence-transformers folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ftplatform import progress
from ftplatform.canonical import digest, sha256_hex
from ftplatform.errors import UnsafeModel

#: What a model folder may hold; pickled weights (.bin, .pt) and code (.py) can run code when loaded.
_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".md", ".model", ""})
_CHUNK = 1 << 20


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors whose dot product says how alike the texts are.

    Attributes:
        name: what ran, for the verdict: kind and digest of the model.
        multilingual: whether a text and its translation get similar vectors.
    """

    @property
    def name(self) -> str: ...

    @property
    def multilingual(self) -> bool: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length one, shape (n, d)."""
        ...


class SentenceTransformerEncoder:
    """A sentence-transformers model from a local folder. Nothing is downloaded, no code of the folder runs.

    Args:
        folder: as saved by sentence-transformers, weights in safetensors.
        multilingual: declared by whoever chose the model; a folder does not say it reliably.
        dtype: bfloat16 is about three times as fast as float32 where the processor has instructions for it (AVX512-BF16, AMX), and
            is what "auto" takes there.
        threads: torch threads while encoding; more than the free cores is slower than one.
        batch_size: texts at a time.

    Raises:
        UnsafeModel: if the folder holds pickled weights, code, or modules from outside sentence-transformers.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        multilingual: bool = False,
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        threads: int = 1,
        batch_size: int = 64,
    ) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        folder = Path(folder)
        check_folder(folder)
        self._dtype = ("bfloat16" if bfloat16_is_fast() else "float32") if dtype == "auto" else dtype
        self._threads, self._batch_size = threads, batch_size
        self._multilingual = multilingual
        self._name = f"{folder.name}@sha256:{folder_digest(folder)} {self._dtype}"
        self._model = SentenceTransformer(
            str(folder),
            device="cpu",
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": getattr(torch, self._dtype), "use_safetensors": True},
        )

    @property
    def name(self) -> str:
        """Folder name, digest of its files, number format."""
        return self._name

    @property
    def multilingual(self) -> bool:
        """As declared."""
        return self._multilingual

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length one, shape (n, d). Text beyond the model's window is not read."""
        parts = []
        # Texts of like length together: a batch is padded to its longest.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        with self._own_threads():
            for start in range(0, len(order), 16 * self._batch_size):
                chosen = [texts[i] for i in order[start : start + 16 * self._batch_size]]
                encoded = self._model.encode(chosen, batch_size=self._batch_size, convert_to_tensor=True, show_progress_bar=False)
                parts.append(encoded.float().numpy())
                progress.advance("contamination_paraphrase embeddings", start + len(chosen), len(texts))
        if not parts:
            return np.zeros((0, self._model.get_embedding_dimension() or 1), np.float32)
        vectors = np.concatenate(parts)
        found = np.empty_like(vectors)
        found[order] = vectors
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    @contextmanager
    def _own_threads(self) -> Iterator[None]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)


class CachedEncoder:
    """Remembers the vector of every text by its SHA-256, so that several checks, or tests, embed a text once.

    Args:
        encoder: asked for what is not known yet.
        vectors: what is known already, by digest; filled in place. It belongs to one `encoder.name`.
    """

    def __init__(self, encoder: Encoder, vectors: MutableMapping[str, NDArray[np.float32]] | None = None) -> None:
        self._encoder = encoder
        self._vectors = {} if vectors is None else vectors

    @property
    def name(self) -> str:
        """Of the encoder."""
        return self._encoder.name

    @property
    def multilingual(self) -> bool:
        """Of the encoder."""
        return self._encoder.multilingual

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length one, shape (n, d)."""
        keys = [sha256_hex(text.encode("utf-8", "surrogatepass")) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}
        self._vectors.update(zip(new, self._encoder.encode(list(new.values())), strict=True))
        return np.stack([self._vectors[key] for key in keys]) if keys else self._encoder.encode([])


def check_folder(folder: Path) -> None:
    """Refuse a model folder that could run code when loaded, by looking at names and configuration only.

    Raises:
        UnsafeModel: naming the file.
    """
    if not folder.is_dir():
        raise UnsafeModel(f"{folder} is not a folder.", remedy="Give a local folder with a sentence-transformers model.")
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        if path.suffix.lower() not in _SUFFIXES:
            raise UnsafeModel(
                f"{path} is neither safetensors nor plain configuration.",
                remedy="Save the model with safetensors and without code into a folder of its own.",
            )
    if not any(path.suffix == ".safetensors" for path in files):
        raise UnsafeModel(f"{folder} holds no *.safetensors.", remedy="Convert the weights to safetensors.")
    for path in files:
        if path.suffix != ".json" or path.name.startswith(("tokenizer", "vocab")):
            continue
        try:
            document = json.loads(path.read_bytes())
        except ValueError as error:
            raise UnsafeModel(f"{path} is not JSON: {error}.", remedy="Export the model again.") from None
        if path.name == "modules.json":
            _check_modules(path, document)
        if isinstance(document, dict) and "auto_map" in document:
            raise UnsafeModel(f"{path} asks to run code of the model folder (auto_map).", remedy="Use a model without own code.")


def _check_modules(path: Path, document: object) -> None:
    """The loader imports whatever classes this file names."""
    if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
        raise UnsafeModel(f"{path} is not a list of modules.", remedy="Export the model again.")
    for entry in document:
        if not str(entry.get("type", "")).startswith("sentence_transformers."):
            raise UnsafeModel(f"{path} names a module from outside sentence-transformers.", remedy="Use a model without own code.")
        inside = PurePosixPath(str(entry.get("path", "")))
        if inside.is_absolute() or ".." in inside.parts:
            raise UnsafeModel(f"{path} points outside its folder: {inside}.", remedy="Export the model again.")


def folder_digest(folder: Path) -> str:
    """First 16 hex digits of a SHA-256 over names and contents of all files that are loaded."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".safetensors", ".json", ".txt", ".model"):
            hashed = hashlib.sha256()
            with path.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    hashed.update(chunk)
            contents[path.relative_to(folder).as_posix()] = hashed.hexdigest()
    return digest(contents)[:16]


def bfloat16_is_fast() -> bool:
    """Whether the processor multiplies bfloat16 natively, as far as the operating system says (Linux)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
