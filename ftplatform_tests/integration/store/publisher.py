"""A process that publishes until it is killed, and a launcher that forks such processes quickly.

Started as ``python -m ftplatform_tests.integration.store.publisher URL OPTIONS CACHE``. For every line on standard input it forks
a publisher and prints its process id; the publisher prints ``round`` after each version; when it is dead, ``dead`` follows.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import pyarrow as pa

from ftplatform.store import SnapshotDraft, Store, s3
from ftplatform_tests.unit.store.builders import record

ASSET = "raw/a"
CHECK = "survival"


def publish_forever(url: str, options: dict[str, str], cache: Path) -> None:
    """Publish versions whose three files and facts all say the same; evaluate each."""
    store = Store.open(url, options, cache_dir=cache)
    launcher = os.getppid()
    for number in range(1_000_000):
        if os.getppid() != launcher:  # nobody is left to kill us
            return
        mark = f"{os.getpid()}-{number}"
        with SnapshotDraft(ASSET, code_version="1", config_hash="c", environment="e", facts={"mark": mark}) as draft:
            draft.add_bytes("mark.txt", mark.encode())
            draft.add_bytes("padding.bin", mark.encode() * 20_000)
            draft.add_table("rows.parquet", pa.table({"mark": [mark] * 500}))
            snapshot = store.write(draft)
        store.publish(snapshot)
        store.begin_evaluation(ASSET, CHECK, judged={ASSET: snapshot.digest}, run_id=mark)
        record(store, ASSET, CHECK, snapshot, mark)
        os.write(1, b"round\n")


def main() -> None:
    url, options, cache = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
    # Load and parse once what every child would: they are to die while they publish, not while they import.
    warm = Store.open(f"memory://{os.getpid()}")
    with SnapshotDraft(ASSET, code_version="1", config_hash="c", environment="e") as draft:
        draft.add_table("rows.parquet", pa.table({"mark": ["warm"]}))
        snapshot = warm.write(draft)
    warm.publish(snapshot)
    record(warm, ASSET, CHECK, snapshot, "warm")
    s3.client(s3.parse_options(options))
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                publish_forever(url, options, cache)
            except BaseException:  # noqa: BLE001 - a child must never return into the launcher's loop
                traceback.print_exc()
            os._exit(1)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()
