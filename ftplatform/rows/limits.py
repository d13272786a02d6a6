"""Caps that keep memory and time bounded whatever a file holds."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """Limits of one read. Sizes are decoded bytes.

    Attributes:
        line_bytes: one record (a line, an element of a JSON array, a Parquet row). Longer ones are quarantined, not read.
        total_bytes: all files of the read together; beyond it the read stops with an error.
        records: all records of the read together; beyond it the read stops with an error.
        gzip_ratio: decoded over stored bytes of one file. DEFLATE reaches 1,032 at most, chat logs with a long repeated system
            prompt about 100; a bomb is near the maximum of its format.
        zstd_ratio: the same for Zstandard, whose long matches bring such logs to 600 and bombs to 10,000 and more.
        parquet_ratio: the same for Parquet, whose dictionaries make high ratios legitimate; a bomb reaches millions.
        ratio_grace_bytes: below this much output the ratio is not judged (a tiny file of spaces is no bomb).
        depth: nesting of one JSON record.
        excerpt_chars: how much of a malformed record is kept beside its reason.
    """

    line_bytes: int = MIB
    total_bytes: int = 32 << 30
    records: int = 100_000_000
    gzip_ratio: float = 500.0
    zstd_ratio: float = 5_000.0
    parquet_ratio: float = 5_000.0
    ratio_grace_bytes: int = 16 * MIB
    depth: int = 64
    excerpt_chars: int = 500

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"limit {name} must be positive, not {getattr(self, name)}")
