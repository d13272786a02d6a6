"""Code with known answers: HumanEval, its rephrasings in six languages, and functions that are not of HumanEval."""

from __future__ import annotations

import ast
import sysconfig
from functools import cache
from pathlib import Path

from ftplatform.canonical import sha256_hex
from ftplatform.contamination.paraphrase.code import parsed
from ftplatform_tests import real_data

#: The rephrasings "multi" are five languages one after the other, the first two of which are those of "c" and "js".
_ITEMS = 164
LANGUAGES = ("python", "js", "c", "rust", "go", "java")


@cache
def humaneval(data: Path) -> list[str]:
    """Prompt and solution of the 164 items."""
    return _texts(data, "test__HumanEval")


@cache
def rephrased(data: Path, language: str) -> list[str]:
    """Text i is item i in other words and names, and in `language`."""
    if language in ("python", "js", "c"):
        return _texts(data, f"rephrase__humaneval_{language}")
    start = LANGUAGES.index(language) - 1
    return _texts(data, "rephrase__humaneval_multi")[start * _ITEMS : (start + 1) * _ITEMS]


@cache
def exercises(data: Path) -> list[str]:
    """Instructions with code as the answer (GPTeacher). A few set the task of an item: primes, medians, Fibonacci numbers."""
    records = real_data.read_json(data / "gpteacher" / "Codegen__codegen-instruct.json.gz")
    return list(dict.fromkeys(f"{r['instruction']}\n{r['input']}\n{r['response']}" for r in records))


@cache
def library(limit: int = 2000) -> list[str]:
    """Documented functions of this interpreter's standard library, chosen by hash."""
    found: dict[str, str] = {}
    for path in Path(sysconfig.get_paths()["stdlib"]).glob("*.py"):
        source = path.read_text(encoding="utf-8", errors="replace")
        lines, tree = source.splitlines(), parsed(source)
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                found[sha256_hex(text.encode())] = text
    return [found[key] for key in sorted(found)[:limit]]


def is_held_out(text: str) -> bool:
    """Which half of an eval set an item belongs to; settings are chosen on the other."""
    return int(sha256_hex(text.encode())[:8], 16) % 2 == 1


def _texts(data: Path, name: str) -> list[str]:
    return [record["text"] for record in real_data.read_jsonl(data / "llm_decontaminator" / f"{name}.jsonl.gz")]
