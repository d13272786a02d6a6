"""What assets read from files say of those files."""

from typing import Any

from ftplatform.defs.plan import Plan
from ftplatform.project.models import Data
from ftplatform.rows.reading import ReadCounts
from ftplatform.rows.sources import content_digest, list_files

_KINDS = {"jsonl", "json", "csv", "tsv", "parquet", "txt"}


def counts_record(counts: ReadCounts) -> dict[str, Any]:
    """Counts as facts of a snapshot."""
    return {"read": counts.read, "kept": counts.kept, "quarantined": counts.quarantined, "by_reason": dict(counts.by_reason)}


def content(plan: Plan, paths: list[str]) -> list[dict[str, str]]:
    """Name and SHA-256 of every file behind an asset, part of its recipe."""
    return [{"file": file.uri, "sha256": content_digest(file)} for file in list_files(paths, plan.root)]


def file_kinds(data: Data) -> list[str]:
    """Kinds of files, as Dagster shows them."""
    suffixes = {part for path in data.path for part in path.lower().split(".")[1:]}
    return sorted(suffixes & _KINDS) or ["file"]
