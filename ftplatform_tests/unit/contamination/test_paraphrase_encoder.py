"""The encoder over a local folder: what it computes, and the folders it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ftplatform.contamination.paraphrase import CachedEncoder, Encoder, SentenceTransformerEncoder
from ftplatform.contamination.paraphrase.encoder import check_folder, folder_digest
from ftplatform.errors import UnsafeModel
from ftplatform_tests.unit.contamination import paraphrase_models

TEXTS = ["Where is my refund?", "x", "My money has not come back to me yet.", "The parcel is blue. " * 5]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A model folder of links to the packaged files, which a test may change."""
    target = tmp_path / "model"
    shutil.copytree(paraphrase_models.folder(), target, copy_function=lambda source, to: Path(to).symlink_to(source))
    return target


def replace_json(path: Path, document: object) -> None:
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(document))


def test_vectors_have_length_one_and_do_not_depend_on_the_batch() -> None:
    import torch

    single = SentenceTransformerEncoder(paraphrase_models.folder(), dtype="float32", batch_size=1)
    threads = torch.get_num_threads()
    together = SentenceTransformerEncoder(paraphrase_models.folder(), dtype="float32").encode(TEXTS)
    assert isinstance(single, Encoder)
    assert (together.dtype, together.shape) == (np.float32, (4, 384))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(single.encode(TEXTS), together, atol=1e-5)
    assert together[0] @ together[2] > together[0] @ together[3]
    assert torch.get_num_threads() == threads
    assert single.encode([]).shape == (0, 384)


def test_bfloat16_is_close_to_float32() -> None:
    exact, short = (SentenceTransformerEncoder(paraphrase_models.folder(), dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert exact.name.split()[0] == short.name.split()[0]
    assert exact.name != short.name
    similarity = np.einsum("ij,ij->i", exact.encode(TEXTS), short.encode(TEXTS))
    assert similarity.min() > 0.999


def test_a_cached_text_is_not_embedded_again() -> None:
    class Counting:
        name, multilingual = "counting", True
        asked: list[str]

        def __init__(self) -> None:
            self.asked = []

        def encode(self, texts):
            self.asked += texts
            return np.array([[len(text), 1.0] for text in texts], np.float32).reshape(-1, 2)

    inner = Counting()
    cached = CachedEncoder(inner)
    first = cached.encode(["a", "bb", "a"])
    np.testing.assert_array_equal(cached.encode(["bb", "ccc"]), [[2, 1], [3, 1]])
    np.testing.assert_array_equal(first, [[1, 1], [2, 1], [1, 1]])
    assert inner.asked == ["a", "bb", "ccc"]
    assert (cached.name, cached.multilingual) == ("counting", True)
    assert cached.encode([]).shape == (0, 2)


def test_the_digest_is_of_the_contents(copy: Path) -> None:
    before = folder_digest(copy)
    assert before == folder_digest(paraphrase_models.folder())
    (copy / "README.md").unlink()
    assert folder_digest(copy) == before
    config = json.loads((copy / "config.json").read_text())
    replace_json(copy / "config.json", {**config, "hidden_act": "relu"})
    assert folder_digest(copy) != before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pytorch_model.bin", b"\x80\x04.", "neither safetensors nor plain configuration"),
        ("modeling_own.py", b"print()", "neither safetensors nor plain configuration"),
        ("config.json", b'{"auto_map": {"AutoModel": "own.Model"}}', "auto_map"),
        ("modules.json", b'[{"idx": 0, "name": "0", "path": "", "type": "os.path"}]', "outside sentence-transformers"),
        ("modules.json", b'[{"idx": 0, "type": "sentence_transformersx.models"}]', "outside sentence-transformers"),
        ("modules.json", b'[{"path": "../else", "type": "sentence_transformers.models.Dense"}]', "outside its folder"),
        ("config.json", b"{", "not JSON"),
        ("modules.json", b'{"type": "os.path"}', "not a list"),
    ],
)
def test_a_folder_that_could_run_code_is_refused(copy: Path, name: str, content: bytes, message: str) -> None:
    (copy / name).unlink(missing_ok=True)
    (copy / name).write_bytes(content)
    with pytest.raises(UnsafeModel, match=message) as caught:
        SentenceTransformerEncoder(copy)
    assert name in str(caught.value)
    assert caught.value.remedy


def test_a_folder_without_weights_or_no_folder(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(UnsafeModel, match="holds no"):
        check_folder(copy)
    with pytest.raises(UnsafeModel, match="is not a folder"):
        check_folder(copy / "missing")
