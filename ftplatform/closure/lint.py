"""What in a closure will not hold on another machine, or next year.

Each rule looks for one way in which a recipe depends on something it does not contain: somebody's home folder, a branch that moves,
a package version that the resolver chooses, a working copy that was never committed. A finding names the place as a JSON pointer
(RFC 6901). The rules read any JSON document, so they also serve for requirement lists and model references of other projects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftplatform.closure.packages import normalized_name

RULES: Mapping[str, str] = {
    "absolute-path": "Refer to stored bytes by hash; a path on one machine means nothing on another.",
    "home-path": "Refer to stored bytes by hash; home folders leave with their owners.",
    "windows-path": "Refer to stored bytes by hash; a drive letter means nothing on another machine.",
    "branch-name": "Name the commit (40 hexadecimal digits); branches and tags move.",
    "latest": "Name the exact version; 'latest' is another one tomorrow.",
    "unpinned-image": "Name the image by digest (@sha256:...).",
    "unpinned-package": "Pin the exact version (name==version).",
    "editable-package": "Install a released version, or record the hash of the tree that was used.",
    "vcs-package": "Name the commit of the repository (40 hexadecimal digits).",
    "dirty-tree": "Commit the changes, then train again.",
    "undeclared-variable": "Record the variable's value in the runtime, or write the value out.",
    "notebook-code": "Move the code into a module; cells run in any order.",
    "missing-hash": "Record the SHA-256 of the bytes that were used.",
    "unresolved-setting": "Record the value that was used, not the word that chose it.",
    "unset-seed": "Set every seed, each before what it decides, and record it.",
    "unrecorded-step": "Store what the person did (the edited file, the decision) and name its SHA-256.",
}

#: Longest value quoted in a finding.
_QUOTE = 120

# Keys whose text people wrote for people; paths and dollar signs in it are not references.
_PROSE = frozenset({"description", "summary", "reason", "why", "what", "system_prompt", "remedy", "note", "title"})

_HEX64 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HOME = re.compile(
    r"(?:^|[\s='\":,(])(?:~(?:[A-Za-z0-9_-]+)?/|\$\{?HOME\}?\b|%USERPROFILE%|(?:file://)?/(?:home|Users|root|export/home)/)",
    re.IGNORECASE,
)
_ABSOLUTE = re.compile(
    r"^(?:file://)?/(?!/)[^\s/][^/]*/|^/[^\s/]+\.[A-Za-z0-9]{1,8}$"
    r"|[\s='\":,(](?:file://)?/(?:mnt|tmp|var|data|scratch|workspace|content|kaggle|opt|srv|media|usr|nfs|lustre|gpfs|work|private)/"
)
_WINDOWS = re.compile(r"(?:^|[\s='\":,(])(?:[A-Za-z]:[\\/](?!/)|\\\\[^\\\s]+\\)")
_NOT_A_COMMIT = r"(?![0-9a-f]{40}(?:[/?#]|$))[^/\s]+"
_BRANCH_URL = re.compile(
    rf"://\S+/(?:tree|blob|resolve)/{_NOT_A_COMMIT}"
    rf"|://[^/\s]+/[^/\s]+/[^/\s]+/(?:-/)?raw/{_NOT_A_COMMIT}"
    rf"|://raw\.githubusercontent\.com/[^/\s]+/[^/\s]+/{_NOT_A_COMMIT}"
    r"|@(?:main|master|develop|dev|head)\b|\brefs/(?:heads|tags)/"
)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)[^}]*\}|\$([A-Z_][A-Z0-9_]*)\b|%([A-Z_][A-Z0-9_]*)%")
_LATEST = re.compile(r"^latest$|:latest(?:$|[-@])|[@/=]latest$", re.IGNORECASE)
_NOTEBOOK = re.compile(r"\.ipynb\b|<ipython-input|\bipykernel\b|^In ?\[\d*\]:", re.IGNORECASE)
_EXACT_VERSION = re.compile(
    r"v?\d+(?:!\d+)?(?:\.\d+)*(?:[-_.]?(?:a|b|c|rc|alpha|beta|pre|preview|post|rev|r|dev)[-_.]?\d*)*(?:\+[a-z0-9._-]+)?", re.I
)
_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(.*?)\s*(?:;.*)?$")
_VCS = re.compile(r"^(?:git|hg|svn|bzr)\+|^(?:@\s*)?(?:git|hg|svn|bzr)\+|\.git(?:@|#|$)")

_REVISION_KEYS = frozenset({"revision", "commit", "ref", "branch", "sha", "code_revision", "tokenizer_revision"})
_IMAGE_KEYS = frozenset({"image", "base_image", "container", "base_images"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation: where (JSON pointer), which rule, and the value, cut to 120 characters."""

    path: str
    rule: str
    value: str

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return RULES[self.rule]


def lint(document: Mapping[str, Any]) -> list[Finding]:
    """All violations in a closure manifest, in document order; each place at most once per rule."""
    declared = _declared_variables(document)
    found: dict[tuple[str, str], Finding] = {}
    for path, rule, value in _walk(document, (), declared):
        pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
        found.setdefault((pointer, rule), Finding(pointer, rule, quoted(value)))
    return list(found.values())


def lint_requirements(lines: Iterable[str]) -> list[Finding]:
    """Violations in the lines of a requirements file; `path` is the 1-based line number."""
    findings: list[Finding] = []
    for number, line in enumerate(lines, start=1):
        text = re.sub(r"(?:^|\s)#.*$", "", line).strip()
        if text and (rule := requirement_rule(text)) is not None:
            findings.append(Finding(f"/{number}", rule, quoted(text)))
    return findings


def requirement_rule(requirement: str) -> str | None:
    """The rule a requirement violates, None if it is pinned to one version, commit or file hash."""
    text = requirement.strip()
    if re.match(r"^(?:-e|--editable)\b", text):
        return "editable-package"
    if text.startswith("-"):
        return None  # options such as --index-url or --hash
    text = re.sub(r"\s--hash=\S+", "", text)
    match = _REQUIREMENT.match(text)
    rest = match.group(2).strip() if match else text
    if _VCS.search(text) or _VCS.search(rest):
        commit = re.search(r"@([0-9a-f]{40})(?:[#\s]|$)", text)
        return None if commit else "vcs-package"
    if rest.startswith("@") or re.match(r"^(?:https?|file):", text):
        return None if re.search(r"#(?:.*&)?sha256=[0-9a-f]{64}\b", text) else "unpinned-package"
    exact = re.fullmatch(r"\(?\s*={2,3}\s*([^,*\s]+)\s*\)?", rest)
    return None if exact and _EXACT_VERSION.fullmatch(exact.group(1)) else "unpinned-package"


def image_rules(image: str) -> list[str]:
    """The rules a container image reference violates; none if it is named by digest."""
    if re.search(r"@sha256:[0-9a-f]{64}$", image):
        return []
    return ["unpinned-image", *(["latest"] if _LATEST.search(image) else [])]


def quoted(value: Any) -> str:
    """`value` as text, cut to 120 characters."""
    text = str(value)
    return text if len(text) <= _QUOTE else text[: _QUOTE - 1] + "…"


def _walk(node: Any, path: tuple[str, ...], declared: frozenset[str]) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    if isinstance(node, Mapping):
        yield from _check_mapping(node, path)
        for key, value in node.items():
            yield from _check_entry(str(key), value, (*path, str(key)))
            if not (str(key) in _PROSE and isinstance(value, str)):
                yield from _walk(value, (*path, str(key)), declared)
    elif isinstance(node, Sequence) and not isinstance(node, str | bytes):
        for index, value in enumerate(node):
            yield from _walk(value, (*path, str(index)), declared)
    elif isinstance(node, str):
        for rule in _text_rules(node, declared):
            yield path, rule, node


def _check_mapping(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Rules about entries that belong together."""
    parent = path[-2] if len(path) >= 2 and path[-1].isdigit() else ""
    # A stored file, or the reference to a snapshot, without the hash it should be found by.
    if "path" in node and parent == "files" and "sha256" not in node:
        yield (*path, "sha256"), "missing-hash", node["path"]
    if "asset" in node and parent in {"inputs", "judged"} and "snapshot" not in node:
        yield (*path, "snapshot"), "missing-hash", node["asset"]
    if parent == "human_steps" and not _is_hash(node.get("sha256")):
        yield (*path, "sha256"), "unrecorded-step", node.get("what", "")
    if parent == "direct" and "kind" in node:
        pin = node.get("pin")
        pinned = isinstance(pin, str) and bool(
            _COMMIT.fullmatch(pin) if node["kind"] == "vcs" else re.fullmatch(r"\w+=[0-9a-f]{64}", pin)
        )
        if not pinned:
            rule = {"vcs": "vcs-package", "editable": "editable-package"}.get(str(node["kind"]), "unpinned-package")
            yield path, rule, f"{node.get('name')} ({node['kind']})"
    # A model from a hub without a commit.
    if node.get("hub") and not node.get("revision"):
        yield (*path, "revision"), "branch-name", node["hub"]


def _check_entry(key: str, value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Rules about one key and its value."""
    if key in {"sha256", "snapshot", "digest"} and not _is_hash(value):
        yield path, "missing-hash", value
    elif key in _REVISION_KEYS and isinstance(value, str) and not _COMMIT.fullmatch(value):
        yield path, "branch-name", value
    elif key == "dirty" and value is True:
        yield path, "dirty-tree", value
    elif key == "execution_count" and value is not None:
        yield path, "notebook-code", value
    elif key == "packages" and isinstance(value, Mapping):
        for name, version in value.items():
            if not (isinstance(version, str) and _EXACT_VERSION.fullmatch(version)):
                rule = requirement_rule(f"{normalized_name(str(name))} {version}") or "unpinned-package"
                yield (*path, str(name)), rule, version
    elif key == "requirements" and isinstance(value, Sequence) and not isinstance(value, str):
        for index, line in enumerate(value):
            if (rule := requirement_rule(str(line))) is not None:
                yield (*path, str(index)), rule, line
    elif key in _IMAGE_KEYS:
        for image in [value] if isinstance(value, str) else value or ():
            if "unpinned-image" in image_rules(str(image)):
                yield path, "unpinned-image", image
    elif path[:1] == ("seeds",) and len(path) == 2 and (isinstance(value, bool) or not isinstance(value, int)):
        yield path, "unset-seed", value
    elif path[:1] in {("hyperparameters",), ("runtime",)} and value == "auto":
        yield path, "unresolved-setting", value


def _text_rules(text: str, declared: frozenset[str]) -> Iterator[str]:
    if _HOME.search(text):
        yield "home-path"
    elif _ABSOLUTE.search(text):
        yield "absolute-path"
    if _WINDOWS.search(text):
        yield "windows-path"
    if _BRANCH_URL.search(text):
        yield "branch-name"
    if _LATEST.search(text):
        yield "latest"
    if _NOTEBOOK.search(text):
        yield "notebook-code"
    names = {next(group for group in match.groups() if group) for match in _VARIABLE.finditer(text)}
    if names - declared - {"HOME", "USERPROFILE"}:
        yield "undeclared-variable"


def _declared_variables(document: Mapping[str, Any]) -> frozenset[str]:
    runtime = document.get("runtime")
    variables = runtime.get("variables") if isinstance(runtime, Mapping) else None
    return frozenset(variables) if isinstance(variables, Mapping) else frozenset()


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and bool(_HEX64.fullmatch(value))
