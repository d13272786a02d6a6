"""Where the project file meets licensing: the terms of everything in it that carries a license, and the policy in force.

Names of terms are the names rows carry in `origins` and `parents`: asset names (``raw/tickets``, ``synthetic/made``) and
``teacher:<id>``.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ftplatform.defs.keys import Family, asset_name
from ftplatform.errors import InputDataError
from ftplatform.licensing.evidence import Evidence, missing_evidence, read_evidence
from ftplatform.licensing.policy import Policy, default_policy, load_policy
from ftplatform.licensing.terms import Kind, SourceTerms
from ftplatform.project.loading import LoadedProject
from ftplatform.project.models import License, Project


def teacher_name(teacher_id: str) -> str:
    """How a teacher is named in the parents of rows it wrote."""
    return f"teacher:{teacher_id}"


def project_policy(loaded: LoadedProject) -> Policy:
    """The policy the project names, or the one shipped with the package."""
    if loaded.project.license_policy is None:
        return default_policy()
    file = Path(loaded.resolve(loaded.project.license_policy))
    try:
        return load_policy(file.read_bytes(), source=loaded.project.license_policy)
    except OSError as error:
        raise InputDataError(
            f"license_policy {loaded.project.license_policy} cannot be read: {error.strerror}.", remedy="Correct the path."
        ) from error


def license_blocks(project: Project) -> dict[str, License]:
    """The license block of everything that has one, by the name of its terms, in file order."""
    found = {asset_name(Family.RAW, name): source.license for name, source in project.sources.items()}
    found |= {teacher_name(s.teacher.id): s.teacher.license for s in project.synthetic.values()}
    found |= {asset_name(Family.FEEDBACK, name): block.license for name, block in project.feedback.items()}
    found |= {asset_name(Family.EVAL_SETS, name): block.license for name, block in project.eval_sets.items()}
    return found | {asset_name(Family.BASE_MODELS, name): block.license for name, block in project.base_models.items()}


def project_terms(loaded: LoadedProject) -> dict[str, SourceTerms]:
    """Terms by name, in file order; reads every evidence file as it is now."""
    project = loaded.project
    found: dict[str, SourceTerms] = {}

    def add(name: str, kind: Kind, license_: License, derived_from: tuple[str, ...] = (), parents: bool = False) -> None:
        found[name] = SourceTerms(
            name=name,
            kind=kind,
            declared=license_.declared,
            concluded=license_.concluded,
            concluded_by=license_.concluded_by,
            evidence=_evidence(loaded, license_),
            derived_from=derived_from,
            rows_have_parents=parents,
        )

    for name, source in project.sources.items():
        add(asset_name(Family.RAW, name), Kind.SOURCE, source.license, parents=True)
    for name, synthetic in project.synthetic.items():
        teacher = teacher_name(synthetic.teacher.id)
        add(teacher, Kind.TEACHER, synthetic.teacher.license)
        seeds = tuple(asset_name(Family.RAW, seed) for seed in synthetic.seeds)
        add(asset_name(Family.SYNTHETIC, name), Kind.SYNTHETIC, License(), (teacher, *seeds), parents=True)
    for name, feedback in project.feedback.items():
        add(asset_name(Family.FEEDBACK, name), Kind.FEEDBACK, feedback.license)
    for name, eval_set in project.eval_sets.items():
        add(asset_name(Family.EVAL_SETS, name), Kind.EVAL_SET, eval_set.license)
    for name, base in project.base_models.items():
        add(asset_name(Family.BASE_MODELS, name), Kind.BASE_MODEL, base.license)
    return found


def _evidence(loaded: LoadedProject, license_: License) -> tuple[Evidence, ...]:
    if license_.evidence is None:
        return ()
    path = loaded.resolve(license_.evidence)
    if "://" in path:
        return (missing_evidence(license_.evidence, "a page on the network can change; keep a copy of it in the project"),)
    try:
        return (read_evidence(license_.evidence, Path(path).read_bytes()),)
    except OSError as error:
        # A finding of the license check, with the source named, not a crash of the whole graph.
        return (missing_evidence(license_.evidence, error.strerror or "cannot be read"),)


def evidence_texts(loaded: LoadedProject) -> dict[str, bytes]:
    """Every evidence file of the project that can be read, by its path in the file; a release carries them along."""
    found: dict[str, bytes] = {}
    for terms in project_terms(loaded).values():
        for evidence in terms.evidence:
            file = Path(loaded.resolve(evidence.path))
            if "://" not in evidence.path and file.is_file():
                found[evidence.path] = file.read_bytes()
    return found


def known_parents(terms: Mapping[str, SourceTerms], rows: pa.Table | None) -> dict[str, SourceTerms]:
    """The terms, with what the rows say about parents: a source none of whose rows names one cannot be meant by a merged row's parents."""
    if rows is None:
        return dict(terms)
    has_parents = pc.greater(pc.list_value_length(rows["parents"]), 0)
    with_parents = set(pc.list_flatten(rows.filter(has_parents)["origins"]).to_pylist())
    seen = set(pc.list_flatten(rows["origins"]).to_pylist())
    return {n: replace(t, rows_have_parents=n in with_parents) if n in seen else t for n, t in terms.items()}
