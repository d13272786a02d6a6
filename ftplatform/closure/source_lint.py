"""What in somebody's training code will not hold elsewhere: the lint for files instead of closures.

For people who inherit a repository rather than a closure, and for code that a project brings along. Python is parsed, never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from ftplatform.closure.lint import Finding, image_rules, lint_requirements, quoted
from ftplatform.errors import InputDataError

_COMMIT = re.compile(r"[0-9a-f]{40}")
# A shell script trains by its name; what it starts may be called anything.
_TRAINS = re.compile(r"train|finetun|fine[-_]tun|sft|dpo|rlhf", re.IGNORECASE)

# Calls that set the state of a random generator; the last part of a dotted name counts.
_SEEDING = frozenset(
    {"seed", "manual_seed", "manual_seed_all", "set_seed", "seed_everything", "enable_full_determinism", "PRNGKey"}
)
_SEED_NAME = re.compile(r"(?:^|_)(?:seed|random_state)$", re.IGNORECASE)
_SHELL_SEED = re.compile(r"(?:--|\b)[\w.]*seed[ =]+[\"']?\$?\{?\w", re.IGNORECASE)


def lint_source(path: str, text: str) -> list[Finding]:
    """Violations in one file of a repository, by line; the rule depends on what kind of file its name says it is.

    Python: ``from_pretrained`` without a commit, code that trains and sets no seed. Shell: training scripts without a seed. Dockerfiles:
    base images without a digest. Requirement files: versions that the resolver chooses. Other files have no findings.

    Returns:
        Findings whose `path` is ``/LINE`` (1-based), in order.

    Raises:
        InputDataError: Python that does not parse.
    """
    name = PurePosixPath(path).name.lower()
    if name.endswith(".py"):
        return _lint_python(path, text)
    if name.endswith((".sh", ".bash", ".slurm")):
        missing = bool(_TRAINS.search(name)) and not _SHELL_SEED.search(_without_comments(text))
        return [Finding("/1", "unset-seed", quoted(path))] if missing else []
    if name.startswith("dockerfile") or name.endswith(".dockerfile"):
        return list(_lint_dockerfile(text))
    if name.startswith("requirements") and name.endswith((".txt", ".in")):
        return lint_requirements(text.splitlines())
    return []


def _lint_python(path: str, text: str) -> list[Finding]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise InputDataError(f"{path} does not parse as Python: {error}.", remedy="Give files of Python 3.") from error
    nodes = list(ast.walk(tree))
    findings = [
        Finding(f"/{node.lineno}", "branch-name", quoted(ast.unparse(node)))
        for node in nodes
        if isinstance(node, ast.Call) and _last(node.func) == "from_pretrained" and not _pinned(node)
    ]
    if any(_trains(node) for node in nodes) and not any(_seeds(node) for node in nodes):
        findings.append(Finding("/1", "unset-seed", quoted(path)))
    return sorted(findings, key=lambda finding: int(finding.path[1:]))


def _pinned(call: ast.Call) -> bool:
    """Whether the call names a revision that may be a commit; a word is a branch or tag, a variable is given the benefit."""
    for keyword in call.keywords:
        if keyword.arg == "revision":
            literal = keyword.value.value if isinstance(keyword.value, ast.Constant) else ...
            return literal is ... or (isinstance(literal, str) and bool(_COMMIT.fullmatch(literal)))
    return False


def _trains(node: ast.AST) -> bool:
    """Whether a node takes gradients or makes a trainer."""
    return isinstance(node, ast.Call) and (_last(node.func) == "backward" or _last(node.func).endswith("Trainer"))


def _seeds(node: ast.AST) -> bool:
    """Whether a node sets a seed, passes one on, or takes one as an option."""
    match node:
        case ast.Call():
            options = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            return (
                (_last(node.func) in _SEEDING and bool(node.args or node.keywords))
                or any(k.arg is not None and _SEED_NAME.search(k.arg) for k in node.keywords)
                or any(_SEED_NAME.search(o.lstrip("-").replace("-", "_")) for o in options if o.startswith("--"))
            )
        case ast.Assign():
            return any(_SEED_NAME.search(_last(target)) for target in node.targets)
        case ast.AnnAssign():
            return node.value is not None and bool(_SEED_NAME.search(_last(node.target)))
    return False


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _lint_dockerfile(text: str) -> Iterator[Finding]:
    stages: set[str] = {"scratch"}
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.match(r"\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", line, re.IGNORECASE)
        if match is None:
            continue
        if match.group(1).lower() not in stages:
            yield from (Finding(f"/{number}", rule, quoted(match.group(1))) for rule in image_rules(match.group(1)))
        if match.group(2):
            stages.add(match.group(2).lower())


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
