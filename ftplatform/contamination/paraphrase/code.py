"""Program text: which items are code, and the features that outlive a rephrasing.

Somebody who rewrites a function renames what is his to name and keeps what the task dictates: the words of the description, the values
of the examples, the order of operators and branches, the library functions called. Each is a view of its own with a cosine of its
own, so that a translation into another language, which has other syntax, is still compared by words and values.

Only names the author could choose are normalized away: L. Jiang et al., DECKARD, ICSE 2007, and S. Schleimer et al., Winnowing, SIGMOD
2003, compare programs in the same way by their syntax and by their tokens.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ftplatform.contamination.paraphrase.texts import MAX_CHARACTERS

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: What is compared. `syntax` exists only for text that parses as Python; `tokens` for any language.
VIEWS = ("words", "literals", "tokens", "syntax")

_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_QUOTES = re.compile(r'"""|\'\'\'')
# What is left open ends with the text, so that no pattern scans a hostile text more than once.
_DOCSTRINGS = r'""".*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)|#[^\n]*'
_PYTHON_COMMENT = re.compile(_DOCSTRINGS, re.DOTALL)
_COMMENT = re.compile(rf"/\*.*?(?:\*/|\Z)|//[^\n]*|{_DOCSTRINGS}", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\\n]|\\.){0,60}"|'(?:[^'\\\n]|\\.){0,60}')|(?P<number>\d+(?:\.\d+)?)|(?P<name>[^\W\d]\w*)"""
    r"""|(?P<operator>===|!==|==|!=|<=|>=|&&|\|\||\*\*|//|->|=>|[-+*/%]=|\+\+|--|[-+*/%<>=!&|^~?])|(?P<open>\()"""
)
_WORD_IN_NAME = re.compile(r"[^\W\d_a-z]?[^\W\d_A-Z]+|[^\W\d_a-z]+")
#: Spellings of one operation in the languages of the C family and in Python.
_SPELLINGS = {
    **{"&&": "and", "||": "or", "!": "not", "===": "==", "!==": "!=", "++": "+=", "--": "-=", "elif": "if", "catch": "except"},
    **{"null": "None", "NULL": "None", "nil": "None", "true": "True", "false": "False"},
    **{"def": "def", "function": "def", "func": "def", "fn": "def", "not": "not", "and": "and", "or": "or", "in": "in", "is": "=="},
    **{
        word: word
        for word in ("if", "else", "for", "while", "return", "break", "continue", "switch", "case", "None", "True", "False")
    },
    **{word: word for word in ("try", "except", "throw", "raise", "lambda", "yield", "assert")},
}
#: A longer constant is text, which is read as words, or data. In characters; the pattern above has the same bound.
_MAX_LITERAL = 60
#: Parts of the tree that carry no choice of the author beyond their parent's.
_LEAVES = (ast.expr_context, ast.operator, ast.cmpop, ast.unaryop, ast.boolop)
_STATEMENTS = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Assign,
    ast.For,
    ast.While,
    ast.If,
)


def is_code(text: str) -> bool:
    """Whether a text holds a fenced block, or parses as Python with at least one statement that prose does not make."""
    if _FENCED.search(text):
        return True
    tree = parsed(text)
    return tree is not None and any(isinstance(node, _STATEMENTS) for node in tree.body)


def parsed(source: str) -> ast.Module | None:
    """The syntax tree of Python source; None for anything else. Nothing of it runs.

    Hostile nesting ends in an error of the parser, which counts as "not Python".
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Odd escapes and comparisons in somebody else's text.
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


@dataclass(frozen=True)
class View:
    """One kind of feature, weighted by its rarity among the items.

    Attributes:
        positions: column of each feature.
        weights: log of items over items with the feature, shape (features,).
        unseen: weight of a feature that no item has.
    """

    positions: dict[str, int]
    weights: NDArray[np.float64]
    unseen: float

    @classmethod
    def fit(cls, bags: Sequence[Counter[str]]) -> View:
        """Learn the features of the items."""
        seen = Counter(feature for bag in bags for feature in bag)
        names = sorted(seen)
        counts = np.array([seen[name] for name in names], dtype=np.float64)
        return cls({name: k for k, name in enumerate(names)}, np.log((1 + len(bags)) / counts), float(np.log(1 + len(bags))))

    def matrix(self, bags: Sequence[Counter[str]]) -> csr_matrix:
        """Weighted bags, shape (bags, features), such that the product of two rows is a damped cosine.

        Each row is as long as if it held one more feature that nobody shares: two one-line functions that have all in common are
        less alike than two long ones.
        """
        from scipy.sparse import csr_matrix

        owners, columns, values, squares = [], [], [], np.full(len(bags), self.unseen**2)
        for owner, bag in enumerate(bags):
            for feature, count in bag.items():
                column = self.positions.get(feature)
                value = (1 + np.log(count)) * (self.unseen if column is None else self.weights[column])
                squares[owner] += value**2
                if column is not None:
                    owners.append(owner)
                    columns.append(column)
                    values.append(value)
        rows = np.array(owners, dtype=np.int64)
        scaled = np.array(values, dtype=np.float64) / np.sqrt(squares[rows])
        return csr_matrix((scaled.astype(np.float32), (rows, columns)), shape=(len(bags), max(1, len(self.weights))))


@dataclass(frozen=True)
class CodeIndex:
    """The views of a set of items."""

    views: dict[str, View]

    @classmethod
    def fit(cls, items: pl.Series) -> CodeIndex:
        """Learn the features of `items`, the texts of one eval set."""
        bags = _bags(items)
        return cls({name: View.fit(bags[name]) for name in VIEWS})

    def matrices(self, texts: pl.Series) -> dict[str, csr_matrix]:
        """The texts in each view, each of shape (texts, features of the view)."""
        bags = _bags(texts)
        return {name: view.matrix(bags[name]) for name, view in self.views.items()}


def _bags(texts: pl.Series) -> dict[str, list[Counter[str]]]:
    every = [features(text) for text in texts.to_list()]
    return {name: [bags[name] for bags in every] for name in VIEWS}


def features(text: str) -> dict[str, Counter[str]]:
    """Bags of the features of one text, by view. Only the first `MAX_CHARACTERS` are read."""
    text = text[:MAX_CHARACTERS]
    source = "\n".join(_FENCED.findall(text)) or text
    tree = parsed(source)
    values = list(_values(_QUOTES.sub(" ", text)))
    return {
        "words": Counter(part.lower() for name in re.findall(r"[^\W\d]\w*", text) for part in _WORD_IN_NAME.findall(name)),
        # A value says little, two in a row are an example.
        "literals": Counter([*values, *map(" ".join, pairwise(values))]),
        "tokens": Counter(_grams(_operations((_COMMENT if tree is None else _PYTHON_COMMENT).sub(" ", source)))),
        "syntax": Counter() if tree is None else Counter(_shapes(tree)),
    }


def _values(text: str) -> Iterator[str]:
    """Numbers and short strings in order, those of examples and comments included."""
    for found in _TOKEN.finditer(text):
        if found["number"]:
            whole, _, fraction = found["number"].partition(".")
            yield whole if not fraction.rstrip("0") else f"{whole}.{fraction.rstrip('0')}"
        elif found["string"] and len(found["string"]) > 2:
            yield f"'{found['string'][1:-1].lower()}'"


def _operations(source: str) -> Iterator[str]:
    """Operators, control flow, numbers and called functions in order; other names are left out."""
    tokens = list(_TOKEN.finditer(source))
    before = None
    for k, token in enumerate(tokens):
        said = token[0]
        defined, before = before == "def", _SPELLINGS.get(said)
        if said in _SPELLINGS:
            yield _SPELLINGS[said]
        elif token["operator"] or token["number"]:
            yield said
        elif token["name"] and k + 1 < len(tokens) and tokens[k + 1]["open"] and not defined:
            yield f"{said.lower()}()"


def _grams(said: Iterator[str]) -> Iterator[str]:
    tokens = list(said)
    yield from (token for token in tokens if token.endswith("()"))
    yield from map(" ".join, zip(tokens, tokens[1:], tokens[2:], strict=False))


def _shapes(tree: ast.Module) -> Iterator[str]:
    """Nodes, nodes with their child, and neighboring children; variables have no names, functions have their arity."""
    prose = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    for node in ast.walk(tree):
        if node in prose:
            continue
        label = _label(node)
        children = [_label(c) for c in ast.iter_child_nodes(node) if not isinstance(c, _LEAVES) and c not in prose]
        yield label
        yield from (f"{label} > {child}" for child in children)
        yield from (f"{left} , {right}" for left, right in pairwise(children))


def _label(node: ast.AST) -> str:
    kind = type(node).__name__
    match node:
        case ast.BinOp() | ast.UnaryOp() | ast.BoolOp() | ast.AugAssign():
            return f"{kind} {type(node.op).__name__}"
        case ast.Compare():
            return f"{kind} {type(node.ops[0]).__name__}"
        case ast.Constant():
            # The digits of a huge number may not even be printed.
            long = len(node.value) > _MAX_LITERAL if isinstance(node.value, str | bytes) else _is_huge(node.value)
            return kind if long else f"{kind} {node.value!r}"
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return f"{kind} {name}"
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return f"{kind} {len(node.args.posonlyargs) + len(node.args.args)}"
        case _:
            return kind


def _is_huge(value: object) -> bool:
    return isinstance(value, int) and value.bit_length() > 4 * _MAX_LITERAL
