"""The project's encoder, loaded once a process and only by steps that compare texts by meaning."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from ftplatform.defs.plan import Plan
from ftplatform.errors import InputDataError
from ftplatform.project.uris import parse_source_uri

if TYPE_CHECKING:
    from ftplatform.contamination.paraphrase.encoder import SentenceTransformerEncoder


def encoder_of(plan: Plan) -> "SentenceTransformerEncoder | None":
    """The encoder of the project; None if it has none.

    Raises:
        InputDataError: the path is not a local folder.
        UnsafeModel: the folder holds code or pickled weights.
    """
    spec = plan.project.encoder
    if spec is None:
        return None
    uri = parse_source_uri(spec.path)
    if not uri.is_local:
        raise InputDataError(f"the encoder {spec.path} is not on this machine.", remedy="Copy the model to a local folder.")
    return _loaded(uri.local(plan.root), spec.multilingual)


def encoder_identity(plan: Plan) -> str | None:
    """Digest of the encoder's files, without loading it; part of what decides a result."""
    from ftplatform.contamination.paraphrase.encoder import folder_digest

    spec = plan.project.encoder
    return None if spec is None else folder_digest(parse_source_uri(spec.path).local(plan.root))


@functools.cache
def _loaded(folder: Path, multilingual: bool) -> "SentenceTransformerEncoder":
    from ftplatform.contamination.paraphrase.encoder import SentenceTransformerEncoder

    return SentenceTransformerEncoder(folder, multilingual=multilingual)
