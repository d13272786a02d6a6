"""Near-duplicates of rows in files: `python -m ftplatform.engine PARTS... --out FILE [--index FOLDER]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ftplatform.engine.executors import executor_from_environment, named_executor
from ftplatform.engine.pipeline import Settings, files_of, near_duplicates
from ftplatform.engine.sketching import Columns
from ftplatform.errors import FtplatformError
from ftplatform.progress import listening


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ftplatform.engine", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", type=Path, help="files of rows, or folders of Parquet files; none to judge the index alone"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="Parquet file to write: row_id, cluster, representative, similarity"
    )
    parser.add_argument("--index", type=Path, help="folder that keeps the sketches: parts added before are not read again")
    parser.add_argument(
        "--executor", choices=["serial", "process", "ray"], help="by default by FTPLATFORM_RAY_ADDRESS and number of parts"
    )
    parser.add_argument("--workers", type=int, help="processes or Ray tasks at a time")
    parser.add_argument("--threshold", type=float, default=Settings.threshold, help="least Jaccard similarity of word 3-grams")
    parser.add_argument("--recall", type=float, default=Settings.recall, help="probability that a pair at the threshold is found")
    parser.add_argument("--row-id", default=Columns.row_id, help="column of the rows' ids")
    parser.add_argument("--text", default=Columns.text, help="column of the texts")
    options = parser.parse_args(arguments)
    try:
        parts = files_of(options.parts)
        settings = Settings(options.threshold, options.recall)
        name = options.executor
        executor = named_executor(name, options.workers) if name else executor_from_environment(len(parts))
        with closing(executor), listening(_told):
            summary = near_duplicates(
                parts, options.out, executor, settings, columns=Columns(options.row_id, options.text), index=options.index
            )
    except FtplatformError as problem:
        print(problem, file=sys.stderr)
        return 2
    print(
        f"{summary.rows:,} rows in {summary.parts:,} parts ({summary.sketched:,} read): {summary.clusters:,} clusters; "
        f"{summary.redundant:,} rows are represented by another one.{' Some buckets were sampled.' if summary.sampled else ''}"
    )
    return 0


def _told(stage: str, done: int, total: int | None) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{stage} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done == total:
        print(f"{stage} {done}/{total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
