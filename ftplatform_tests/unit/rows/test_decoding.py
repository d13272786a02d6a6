"""Decompression: every legal form is read, every damaged one is an error, bombs stop early."""

from __future__ import annotations

import gzip
import io
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ftplatform.errors import InputDataError
from ftplatform.rows.decoding import ByteBudget, DecodedStream, HashingReader
from ftplatform.rows.limits import MIB, ReadLimits

LIMITS = ReadLimits()


def stream(raw: bytes, compression: str | None, limits: ReadLimits = LIMITS) -> DecodedStream:
    return DecodedStream(
        HashingReader(io.BytesIO(raw)),
        name="f.jsonl",
        compression=compression,
        limits=limits,
        budget=ByteBudget(limits.total_bytes),
    )


def decode(raw: bytes, compression: str | None, limits: ReadLimits = LIMITS) -> bytes:
    return b"".join(stream(raw, compression, limits).chunks())


def zstd(data: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


TEXT = b"".join(b"line %d with some text\n" % i for i in range(50_000))


@given(st.lists(st.binary(max_size=2_000), min_size=1, max_size=4))
def test_round_trip_of_several_members(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert decode(b"".join(gzip.compress(part) for part in parts), "gzip") == whole
    assert decode(b"".join(zstd(part) for part in parts), "zstd") == whole
    assert decode(whole, None) == whole


def test_large_and_padded_and_skippable() -> None:
    assert decode(gzip.compress(TEXT), "gzip") == TEXT
    assert decode(gzip.compress(TEXT) + b"\0" * 1_000, "gzip") == TEXT  # tape padding
    assert decode(zstd(TEXT, level=19), "zstd") == TEXT
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"index"
    assert decode(zstd(TEXT) + skippable + zstd(b"more"), "zstd") == TEXT + b"more"
    assert io.TextIOWrapper(io.BufferedReader(stream(gzip.compress(TEXT), "gzip"))).readlines()[1] == "line 1 with some text\n"


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_every_truncation_is_an_error(compression: str) -> None:
    stored = gzip.compress(TEXT[:20_000]) if compression == "gzip" else zstd(TEXT[:20_000])
    for cut in range(1, len(stored), 37):
        with pytest.raises(InputDataError):
            decode(stored[:cut], compression)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_damage_and_wrong_suffix_are_errors(compression: str) -> None:
    for raw in (b"plain text, not compressed", b"\x00" * 100 + b"x"):
        with pytest.raises(InputDataError, match=r"f\.jsonl"):
            decode(raw, compression)
    stored = bytearray(gzip.compress(TEXT))
    stored[-6] ^= 1  # the checksum
    with pytest.raises(InputDataError):
        decode(bytes(stored), "gzip")


def test_garbage_after_a_member_is_an_error() -> None:
    with pytest.raises(InputDataError):
        decode(gzip.compress(b"a") + b"garbage", "gzip")


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_bombs_stop_soon_after_the_grace(compression: str) -> None:
    zeros = bytes(100 * MIB)
    bomb = gzip.compress(zeros, 9) if compression == "gzip" else zstd(zeros, level=19)
    del zeros
    assert len(bomb) < 400_000
    bombed = stream(bomb, compression)
    with pytest.raises(InputDataError, match="decompression bomb"):
        list(bombed.chunks())
    assert bombed.budget.used <= LIMITS.ratio_grace_bytes + 33 * MIB


def test_nested_gzip_quine_like_members_are_counted_together() -> None:
    # Many small members, none suspicious alone.
    member = gzip.compress(bytes(MIB), 9)
    with pytest.raises(InputDataError, match="decompression bomb"):
        decode(member * 100, "gzip")


def test_repetitive_but_genuine_text_is_no_bomb() -> None:
    # ADV: a long system prompt repeated in every record compresses far beyond ordinary text.
    prompt = bytes(range(32, 127)) * 40
    text = b"".join(prompt + b" question %d about %d\n" % (i, i * 7919) for i in range(10_000))
    assert len(text) > 2 * LIMITS.ratio_grace_bytes
    assert decode(gzip.compress(text), "gzip") == text
    assert decode(zstd(text), "zstd") == text


def test_total_is_shared_and_enforced() -> None:
    limits = ReadLimits(total_bytes=1_000)
    with pytest.raises(InputDataError, match="1,000 decoded bytes"):
        decode(b"x" * 2_000, None, limits)


def test_window_that_needs_too_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=29, enable_ldm=True, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    raw = compressor.compress(b"x" * 1_000) + compressor.flush()
    with pytest.raises(InputDataError, match="Zstandard"):
        decode(raw, "zstd")


def test_digest_covers_bytes_after_the_last_read() -> None:
    import hashlib

    raw = gzip.compress(TEXT)
    reader = HashingReader(io.BytesIO(raw))
    reader.read(10)
    assert reader.finish() == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32-be"])
def test_other_encodings_are_named(encoding: str) -> None:
    raw = "\ufeff".encode(encoding) + "text".encode(encoding) if encoding != "utf-16" else "text".encode(encoding)
    with pytest.raises(InputDataError, match="UTF-16 or UTF-32"):
        list(stream(raw, None).text_chunks())


def test_byte_order_mark_is_dropped_even_when_split_over_chunks() -> None:
    raw = zlib.compress(b"")  # any bytes; here a stream of one-byte chunks matters

    class OneByte(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(1)

    split = DecodedStream(
        HashingReader(OneByte(b"\xef\xbb\xbfab" + raw)), name="f", compression=None, limits=LIMITS, budget=ByteBudget(10**9)
    )
    assert b"".join(split.text_chunks()) == b"ab" + raw
