"""The SQL, one text for SQLite and Postgres.

Versions and sources are numbered, because 4-byte keys keep both indexes of the edges in memory where 64-character digests would not.
"""

from __future__ import annotations

#: Raise when the tables change; `GraphIndex` then asks for a rebuild.
FORMAT = 1

TABLES = ("lineage_version", "lineage_edge", "lineage_source", "lineage_version_source", "lineage_packed")

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS lineage_meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS lineage_version (
        id INTEGER PRIMARY KEY, snapshot TEXT NOT NULL UNIQUE, asset TEXT NOT NULL, family TEXT NOT NULL, created_at TEXT,
        live SMALLINT NOT NULL, provenance_complete SMALLINT NOT NULL, n_rows BIGINT, tokens BIGINT, steps BIGINT,
        gpu_seconds DOUBLE PRECISION, owner TEXT)""",
    """CREATE TABLE IF NOT EXISTS lineage_edge (
        parent INTEGER NOT NULL, child INTEGER NOT NULL, role SMALLINT NOT NULL, PRIMARY KEY (parent, child, role))""",
    "CREATE INDEX IF NOT EXISTS lineage_edge_by_child ON lineage_edge (child, parent, role)",
    "CREATE TABLE IF NOT EXISTS lineage_source (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE IF NOT EXISTS lineage_version_source (
        source INTEGER NOT NULL, version INTEGER NOT NULL, role SMALLINT NOT NULL, n_rows BIGINT, shared_rows BIGINT,
        derived_rows BIGINT, tokens BIGINT, step_share DOUBLE PRECISION, PRIMARY KEY (source, version))""",
    "CREATE INDEX IF NOT EXISTS lineage_version_source_by_version ON lineage_version_source (version, source)",
    "CREATE TABLE IF NOT EXISTS lineage_packed (name TEXT PRIMARY KEY, data BYTEA NOT NULL)",
    f"INSERT INTO lineage_meta (name, value) VALUES ('format', {FORMAT}), ('generation', 0) ON CONFLICT (name) DO NOTHING",
)

META = "SELECT name, value FROM lineage_meta"
NEXT_GENERATION = "UPDATE lineage_meta SET value = value + 1 WHERE name = 'generation'"

VERSION_FIELDS = (
    "id",
    "snapshot",
    "asset",
    "family",
    "created_at",
    "live",
    "provenance_complete",
    "n_rows",
    "tokens",
    "steps",
    "gpu_seconds",
    "owner",
)
CARRIER_FIELDS = ("version", "role", "n_rows", "shared_rows", "derived_rows", "tokens", "step_share")

CARRIERS = f"SELECT {', '.join(CARRIER_FIELDS)} FROM lineage_version_source WHERE source = :source"

PACKED = "SELECT name, data FROM lineage_packed"
PACK = "INSERT INTO lineage_packed (name, data) VALUES (:name, :data) ON CONFLICT (name) DO UPDATE SET data = excluded.data"

#: Sources of everything upstream of a version, itself included, and how many of their rows are in the version itself. Takes `version`.
#: `UNION` (not `UNION ALL`) visits every version once, so diamonds do not multiply and cycles end.
#: CROSS JOIN keeps SQLite from reading the whole table of sources in the order of its key.
SOURCES_ABOVE = """WITH RECURSIVE above (id) AS (
    SELECT CAST(:version AS INTEGER) UNION SELECT e.parent FROM above a JOIN lineage_edge e ON e.child = a.id),
  found (source) AS (SELECT DISTINCT vs.source FROM above a CROSS JOIN lineage_version_source vs WHERE vs.version = a.id)
SELECT s.name, here.n_rows, here.derived_rows
FROM found f JOIN lineage_source s ON s.id = f.source
LEFT JOIN lineage_version_source here ON here.source = f.source AND here.version = :version
ORDER BY s.name"""
