"""Every place a project file points to: data, license texts, models, the policy, the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ftplatform.project.models import Data, Endpoint, License, Project, Reward
from ftplatform.project.problems import KeyPath

UriKind = Literal["data", "encoder", "evidence", "model", "policy", "store", "words"]


def uris(project: Project) -> Iterator[tuple[KeyPath, str, UriKind]]:
    """Every place the project points to: path of the key, the text, and what is expected there."""
    yield ("store",), project.store, "store"
    if project.license_policy is not None:
        yield ("license_policy",), project.license_policy, "policy"
    if project.behavior_policy is not None:
        yield ("behavior_policy",), project.behavior_policy, "policy"
    if project.language.dictionary is not None:
        yield ("language", "dictionary"), project.language.dictionary, "words"
    for name, diff in project.language.edits.items():
        yield ("language", "edits", name), diff, "words"
    for path, block in data_blocks(project):
        for index, uri in enumerate(block.path):
            yield (*path, "path", index), uri, "data"
    for name, model in project.base_models.items():
        if model.path is not None:
            yield ("base_models", name, "path"), model.path, "model"
    if project.encoder is not None:
        yield ("encoder", "path"), project.encoder.path, "encoder"
    for path, terms in _licenses(project):
        if terms.evidence is not None:
            yield (*path, "evidence"), terms.evidence, "evidence"


def _licenses(project: Project) -> Iterator[tuple[KeyPath, License]]:
    for section in ("sources", "feedback", "eval_sets", "base_models"):
        for name, block in getattr(project, section).items():
            yield (section, name, "license"), block.license
    for name, synthetic in project.synthetic.items():
        yield ("synthetic", name, "teacher", "license"), synthetic.teacher.license


def data_blocks(project: Project) -> Iterator[tuple[KeyPath, Data | Reward | Endpoint]]:
    for section in ("sources", "synthetic", "feedback", "eval_sets", "rewards", "endpoints"):
        for name, block in getattr(project, section).items():
            yield (section, name), block
