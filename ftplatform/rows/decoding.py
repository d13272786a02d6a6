"""From stored bytes to decoded bytes, in small steps and under caps: gzip, Zstandard or neither."""

from __future__ import annotations

import hashlib
import io
import math
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from ftplatform.errors import InputDataError
from ftplatform.rows.limits import ReadLimits

_CHUNK = 1 << 18
# One Zstandard block of 4 stored bytes can decode to 128 KiB, and the library decodes all it is fed: 1 KiB makes 32 MiB at most.
_ZSTD_FEED = 1 << 10
# Frames that ask for a larger window need more than 128 MiB just to start (the limit of `zstd` itself).
_ZSTD_WINDOW = 1 << 27


class ByteBudget:
    """Decoded bytes all files of one read may produce together."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def spend(self, count: int, name: str) -> None:
        """Accounts for `count` bytes of file `name`.

        Raises:
            InputDataError: over the total.
        """
        self.used += count
        if self.used > self.total:
            raise InputDataError(
                f"{name}: reading stopped after {self.total:,} decoded bytes.",
                remedy="Raise the limit total_bytes if the data is really this large, or split the source.",
            )


class HashingReader:
    """Counts and hashes raw bytes as they are read."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._hash = hashlib.sha256()
        self.count = 0

    def read(self, size: int) -> bytes:
        """Up to `size` raw bytes; empty at the end."""
        data = self._raw.read(size)
        self._hash.update(data)
        self.count += len(data)
        return data

    def finish(self) -> str:
        """Reads what is left and returns the SHA-256 (hex) of the whole file."""
        while self.read(_CHUNK):
            pass
        return self._hash.hexdigest()


class DecodedStream(io.RawIOBase):
    """Decoded bytes of one file: a readable binary stream for named readers, and `chunks()` for the built-in ones.

    Attributes:
        name: the file as the user knows it, for messages.
        limits: the caps of this read.
    """

    def __init__(self, raw: HashingReader, *, name: str, compression: str | None, limits: ReadLimits, budget: ByteBudget) -> None:
        self.raw = raw
        self.name = name
        self.compression = compression
        self.limits = limits
        self.budget = budget
        self._decoded = 0
        self._chunks: Iterator[bytes] | None = None
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Part of the RawIOBase protocol: `io.BufferedReader` and `io.TextIOWrapper` build on it."""
        if not self._rest:
            self._rest = next(self.chunks(), b"")
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)

    def chunks(self) -> Iterator[bytes]:
        """Decoded pieces of at most some hundred KiB (Zstandard: 32 MiB), in order, each counted against the caps.

        Raises:
            InputDataError: damaged or truncated compression, a decompression bomb, the total exceeded.
        """
        if self._chunks is None:
            self._chunks = self._decode()
        return self._chunks

    def _decode(self) -> Iterator[bytes]:
        pieces = {"gzip": self._gunzip, "zstd": self._unzstd, None: self._plain}[self.compression]()
        ratio = {"gzip": self.limits.gzip_ratio, "zstd": self.limits.zstd_ratio, None: math.inf}[self.compression]
        for piece in pieces:
            if piece:
                self._decoded += len(piece)
                self.budget.spend(len(piece), self.name)
                if self._decoded > max(self.limits.ratio_grace_bytes, ratio * self.raw.count):
                    raise InputDataError(
                        f"{self.name}: decompression bomb: {self.raw.count:,} stored bytes had decoded to {self._decoded:,} when"
                        f" reading stopped (limit {ratio:g} to 1).",
                        remedy="Remove the file, or store the data uncompressed if it is genuine.",
                    )
                yield piece

    def _plain(self) -> Iterator[bytes]:
        while data := self.raw.read(_CHUNK):
            yield data

    def _gunzip(self) -> Iterator[bytes]:
        decoder = zlib.decompressobj(wbits=31)
        begun = complete = False
        while data := self.raw.read(1 << 16):
            while data:
                if complete:
                    # Members may follow each other (`cat a.gz b.gz`), and tape padding may follow them.
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    decoder, complete = zlib.decompressobj(wbits=31), False
                begun = True
                try:
                    piece = decoder.decompress(data, _CHUNK)
                    yield piece
                    # A full piece may leave output behind even when all input is consumed.
                    while not decoder.eof and (decoder.unconsumed_tail or len(piece) == _CHUNK):
                        piece = decoder.decompress(decoder.unconsumed_tail, _CHUNK)
                        yield piece
                except zlib.error as error:
                    raise self._damaged("gzip", str(error)) from error
                complete = decoder.eof
                data = decoder.unused_data
        if begun and not complete:
            raise self._truncated()

    def _unzstd(self) -> Iterator[bytes]:
        import zstandard

        library = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        decoder = library.decompressobj()
        begun = complete = False
        while block := self.raw.read(1 << 16):
            for start in range(0, len(block), _ZSTD_FEED):
                data = block[start : start + _ZSTD_FEED]
                while data:
                    if complete:
                        decoder, complete = library.decompressobj(), False
                    begun = True
                    try:
                        yield decoder.decompress(data)
                    except zstandard.ZstdError as error:
                        raise self._damaged("Zstandard", str(error)) from error
                    complete = decoder.eof
                    data = decoder.unused_data if complete else b""
        if begun and not complete:
            raise self._truncated()

    def _damaged(self, kind: str, detail: str) -> InputDataError:
        return InputDataError(
            f"{self.name}: not readable as {kind}: {detail}.", remedy="Check the download, or correct the file's suffix."
        )

    def _truncated(self) -> InputDataError:
        return InputDataError(f"{self.name}: the compressed data ends early.", remedy="The file was cut off; fetch it again.")

    def text_chunks(self) -> Iterator[bytes]:
        """`chunks()` without a UTF-8 byte order mark.

        Raises:
            InputDataError: the file is UTF-16 or UTF-32.
        """
        head = b""
        chunks = self.chunks()
        for chunk in chunks:
            head += chunk
            if len(head) >= 4:
                break
        if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
            raise InputDataError(f"{self.name}: the text is UTF-16 or UTF-32.", remedy="Convert it to UTF-8.")
        head = head.removeprefix(b"\xef\xbb\xbf")
        if head:
            yield head
        yield from chunks
