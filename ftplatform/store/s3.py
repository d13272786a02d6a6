"""The store in S3 or a compatible server, on conditional writes (``If-None-Match``, ``If-Match``); no lock server, no database.

Retries, deadlines and doubt are handled here and nowhere below: the client library must not repeat a conditional write on its
own, because the repetition of a write whose response was lost answers "precondition failed" and looks like a lost race.
"""

from __future__ import annotations

import base64
import difflib
import functools
import hashlib
import itertools
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ftplatform.errors import StoreError, StoreUnavailable
from ftplatform.store.backend import CHUNK, Entry, Stored
from ftplatform.store.local import hash_file

T = TypeVar("T")
A = TypeVar("A")

#: Bytes of a part of a multipart upload. A blob of up to two parts is sent in one request.
PART = 32 * 2**20
#: Limit of S3.
_MAX_PARTS = 10_000
#: Parts in flight at once.
_WINDOW = 4
#: An existing object this old (seconds) is sent again instead of trusted: that restarts its grace period for garbage
#: collection and heals damage, for what the first upload cost.
_TOUCH_AFTER_S = 3600.0
#: Attempts of one request before giving up; with the pauses between them about ten seconds.
_ATTEMPTS = 8
_READS = 3

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_=-][A-Za-z0-9._=-]*(?:/|$))*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `store_options` may hold for an S3 store. Credentials come from the environment, never from here.

    Attributes:
        endpoint_url: of an S3-compatible server.
        region: of the bucket.
        profile: in the AWS configuration files.
        addressing_style: ``auto``, ``path`` or ``virtual``.
        connect_timeout: seconds to open a connection.
        read_timeout: seconds a connection may be silent.
        deadline: seconds after which one request, retries included, is given up.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing_style: str = "auto"
    connect_timeout: float = 5.0
    read_timeout: float = 20.0
    deadline: float = 60.0


class _Transient(Exception):
    """Worth another try; whether the request took effect is not known."""


class _Missing(Exception):
    """404."""


class _Unmet(Exception):
    """A precondition did not hold (412)."""


class _OutOfRange(Exception):
    """The object has no byte in the range asked for (416)."""


def open_s3(url: str, options: Mapping[str, str]) -> S3Backend:
    """The backend of ``s3://bucket/prefix``; nothing is sent yet.

    Raises:
        StoreError: on a malformed URL, credentials in it, or an unknown or invalid option.
    """
    bucket, _, prefix = url.split("://", 1)[1].partition("/")
    if "@" in bucket or ":" in bucket:
        raise StoreError(
            "The store URL holds credentials or a port.", remedy="Put credentials into the environment and hosts into endpoint_url."
        )
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket) or not _PREFIX.fullmatch(prefix):
        raise StoreError(
            f"{url!r} is not a valid S3 store.", remedy="Use s3://bucket/prefix with letters, digits, '.', '_', '-' and '/'."
        )
    return S3Backend(bucket, prefix, parse_options(options))


def parse_options(options: Mapping[str, str]) -> Options:
    """`Options` from text values, errors naming the key."""
    known = {field.name: field for field in fields(Options)}
    parsed = Options()
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            secret = name.lower() in {
                "key",
                "secret",
                "token",
                "username",
                "password",
                "aws_access_key_id",
                "aws_secret_access_key",
            }
            raise StoreError(
                f"The S3 store has no option {name!r}.",
                remedy="Put credentials into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or a profile."
                if secret
                else f"Did you mean {near[0]!r}?"
                if near
                else f"Options are {', '.join(known)}.",
            )
        if isinstance(known[name].default, float):
            try:
                number = float(value)
            except ValueError:
                number = -1.0
            if not 0 < number < 86_400:
                raise StoreError(f"The option {name!r} is {value!r}.", remedy="Give a number of seconds above zero.")
            parsed = replace(parsed, **{name: number})
        else:
            parsed = replace(parsed, **{name: str(value)})
    if parsed.addressing_style not in {"auto", "path", "virtual"}:
        raise StoreError(f"addressing_style is {parsed.addressing_style!r}.", remedy="Use 'auto', 'path' or 'virtual'.")
    return parsed


class S3Backend:
    """Objects are S3 objects below a prefix; see `Backend` for the contract."""

    def __init__(self, bucket: str, prefix: str, options: Options, *, part: int = PART, page: int = 1000) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options
        self._part = part
        self._page = page

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    # ---- objects ---------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Stored | None:
        def attempt() -> Stored:
            response = self._send("get_object", Key=self._prefix + key)
            return Stored(_body(response), response["ETag"])

        try:
            return self._retry(f"read {key}", attempt)
        except _Missing:
            return None

    def stat(self, key: str) -> Entry | None:
        try:
            found = self._retry(f"look for {key}", lambda: self._send("head_object", Key=self._prefix + key))
        except _Missing:
            return None
        return Entry(key, found["ContentLength"], found["LastModified"].timestamp())

    def chunks(self, key: str) -> Iterator[bytes]:
        try:
            first, size = self._range(key, 0)
            yield first
            yield from (data for data, _ in _windowed(functools.partial(self._range, key), range(len(first), size, CHUNK)))
        except _Missing:
            raise KeyError(key) from None

    def local_path(self, key: str) -> Path | None:
        return None

    def ensure(self, key: str, source: Path | bytes, sha256: str) -> None:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        for _ in range(_READS):
            found = self.stat(key)
            if (
                found is not None
                and found.size == size
                and found.modified > time.time() - _TOUCH_AFTER_S
                and self._holds(key, sha256)
            ):
                return
            if self._upload(key, source, size, sha256, exclusive=found is None):
                return
            # Somebody created it meanwhile, or our own write arrived and its response did not: look again.
        raise StoreUnavailable(f"{self.url}/{key} keeps changing while it is written.", remedy="Run again.")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.compare_and_swap(key, data, None) is not None

    def compare_and_swap(self, key: str, data: bytes, expected: str | None) -> str | None:
        self._require_conditional_writes()
        return self._swap(key, data, expected)

    def list(self, prefix: str) -> Iterator[Entry]:
        token: str | None = None
        while True:
            page, token = self._retry(f"list {prefix}", functools.partial(self._list_page, self._prefix + prefix, token))
            for item in page:
                yield Entry(item["Key"][len(self._prefix) :], item["Size"], item["LastModified"].timestamp())
            if token is None:
                return

    def delete_if_older(self, key: str, cutoff: float) -> bool:
        found = self.stat(key)
        if found is None or found.modified > cutoff:
            return False
        self._retry(f"delete {key}", lambda: self._send("delete_object", Key=self._prefix + key))
        return True

    def sweep(self, cutoff: float) -> int:
        """Abort multipart uploads begun before `cutoff`: a killed writer leaves them, invisible and billed."""
        aborted = 0
        marker: dict[str, str] = {}
        while True:
            page = self._retry(
                "list unfinished uploads",
                functools.partial(self._send, "list_multipart_uploads", Prefix=self._prefix + "blobs/", **marker),
            )
            for upload in page.get("Uploads", ()):
                if upload["Initiated"].timestamp() <= cutoff:
                    self._abort(upload["Key"], upload["UploadId"])
                    aborted += 1
            if not page.get("IsTruncated"):
                return aborted
            marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    # ---- reading ---------------------------------------------------------------------------------------------------------

    def _range(self, key: str, start: int) -> tuple[bytes, int]:
        """Up to `CHUNK` bytes from `start`, and the size of the whole object."""

        def attempt() -> tuple[bytes, int]:
            try:
                response = self._send("get_object", Key=self._prefix + key, Range=f"bytes={start}-{start + CHUNK - 1}")
            except _OutOfRange:  # only the empty object has no first byte
                return b"", 0
            data = _body(response)
            whole = _CONTENT_RANGE.fullmatch(response.get("ContentRange", ""))
            if whole is None or int(whole[1]) != start or len(data) != min(CHUNK, int(whole[2]) - start):
                raise _Transient(f"{len(data)} bytes came as {response.get('ContentRange')!r}")
            return data, int(whole[2])

        return self._retry(f"read {key}", attempt)

    def _holds(self, key: str, sha256: str) -> bool:
        hasher = hashlib.sha256()
        try:
            for chunk in self.chunks(key):
                hasher.update(chunk)
        except KeyError:
            return False
        return hasher.hexdigest() == sha256

    def _list_page(self, prefix: str, token: str | None) -> tuple[list[dict[str, Any]], str | None]:
        more = {} if token is None else {"ContinuationToken": token}
        page = self._send("list_objects_v2", Prefix=prefix, MaxKeys=self._page, **more)
        items = page.get("Contents", [])
        following = page.get("NextContinuationToken")
        # A damaged listing must not pass for a shorter one: garbage collection believes it.
        if (
            page.get("KeyCount", len(items)) != len(items)
            or bool(page.get("IsTruncated")) != (following is not None)
            or any(not {"Key", "Size", "LastModified"} <= item.keys() or not item["Key"].startswith(prefix) for item in items)
        ):
            raise _Transient("the listing is inconsistent")
        return items, following

    # ---- writing ---------------------------------------------------------------------------------------------------------

    def _swap(self, key: str, data: bytes, expected: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        doubtful = False

        def attempt() -> str | None:
            nonlocal doubtful
            try:
                return self._send("put_object", Key=self._prefix + key, Body=data, ContentMD5=_md5(data), **condition)["ETag"]
            except _Transient:
                doubtful = True
                raise
            except (_Unmet, _Missing):
                return self._etag_if_ours(key, data) if doubtful else None

        return self._retry(f"write {key}", attempt)

    def _etag_if_ours(self, key: str, data: bytes) -> str | None:
        """The tag of the object if it holds exactly `data`: then the write whose response was lost has arrived."""
        for _ in range(_READS):  # a bit flipped on the wire must not turn a success into a lost race
            stored = self.get(key)
            if stored is None or len(stored.data) != len(data):
                return None
            if stored.data == data:
                return stored.etag
        return None

    def _upload(self, key: str, source: Path | bytes, size: int, sha256: str, *, exclusive: bool) -> bool:
        """Send a content-addressed object; False if it exists after all (`exclusive`)."""
        condition = {"IfNoneMatch": "*"} if exclusive else {}
        if size > 2 * self._part:
            return self._upload_parts(key, _as_file(source), size, sha256, condition)
        data = source if isinstance(source, bytes) else source.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise _changed(source)
        try:
            self._retry(
                f"write {key}",
                lambda: self._send("put_object", Key=self._prefix + key, Body=data, ContentMD5=_md5(data), **condition),
            )
        except _Unmet:
            return False
        return True

    def _upload_parts(self, key: str, source: Path, size: int, sha256: str, condition: Mapping[str, str]) -> bool:
        part = max(self._part, -(-size // _MAX_PARTS))
        target = {"Key": self._prefix + key}
        upload = self._retry(f"begin to write {key}", lambda: self._send("create_multipart_upload", **target))["UploadId"]
        target["UploadId"] = upload

        def send(number: int) -> dict[str, Any]:
            with source.open("rb") as file:
                file.seek((number - 1) * part)
                data = file.read(part)
            checksum = _md5(data)
            response = self._retry(
                f"write part {number} of {key}",
                lambda: self._send("upload_part", **target, PartNumber=number, Body=data, ContentMD5=checksum),
            )
            return {"PartNumber": number, "ETag": response["ETag"]}

        try:
            parts = list(_windowed(send, range(1, -(-size // part) + 1)))
            if hash_file(source) != sha256:
                raise _changed(source)
            self._retry(
                f"finish writing {key}",
                lambda: self._send("complete_multipart_upload", **target, MultipartUpload={"Parts": parts}, **condition),
            )
        except (_Unmet, _Missing):
            # Created by somebody else, or completed by an attempt whose response was lost (the upload is then gone).
            self._abort(target["Key"], upload)
            return False
        except BaseException:
            self._abort(target["Key"], upload, quietly=True)
            raise
        return True

    def _abort(self, key: str, upload: str, *, quietly: bool = False) -> None:
        try:
            self._retry(f"abandon the upload of {key}", lambda: self._send("abort_multipart_upload", Key=key, UploadId=upload))
        except _Missing:
            pass
        except StoreError:
            if not quietly:  # else an error is on its way already; garbage collection will find the upload
                raise

    def _require_conditional_writes(self) -> None:
        """Refuse a server that accepts conditional headers and ignores them: two runs would overwrite each other unnoticed."""
        if (self._bucket, self._prefix, self._options) in _conditional:
            return
        key, mark = "format.json", b'{"schema":"ftplatform.store/1"}'
        self._swap(key, mark, None)
        # It exists now, so neither "only if absent" nor "only if it has this other tag" may succeed.
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"00000000000000000000000000000000"'}):
            try:
                self._retry(
                    "probe conditional writes",
                    functools.partial(self._send, "put_object", Key=self._prefix + key, Body=mark, **condition),
                )
            except _Unmet:
                continue
            raise StoreError(
                f"{self.url}: the server ignores {next(iter(condition))}, so two runs could overwrite each other.",
                remedy="Use a server or version that enforces If-None-Match and If-Match.",
            )
        _conditional.add((self._bucket, self._prefix, self._options))

    # ---- requests --------------------------------------------------------------------------------------------------------

    def _retry(self, what: str, attempt: Callable[[], T]) -> T:
        give_up = time.monotonic() + self._options.deadline
        for number in itertools.count(1):
            try:
                return attempt()
            except _Transient as error:
                pause = random.uniform(0.5, 1) * min(0.1 * 2 ** (number - 1), 5.0)
                if number >= _ATTEMPTS or time.monotonic() + pause > give_up:
                    raise StoreUnavailable(
                        f"Could not {what} in {self.url}: {error} (after {number} attempts).",
                        remedy="Check the connection and the server, then run again; nothing is half-done.",
                    ) from error
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _send(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One request, once."""
        from botocore import exceptions
        from botocore.parsers import ResponseParserError
        from urllib3.exceptions import HTTPError  # botocore lets it through when a body it reads itself (a listing) breaks off

        connected = client(self._options)
        try:
            return getattr(connected, operation)(Bucket=self._bucket, **parameters)
        except exceptions.ClientError as error:
            raise self._classify(error, parameters.get("Key", "")) from error
        except exceptions.SSLError as error:
            raise StoreError(f"{self.url}: {error}", remedy="Check the certificate of the endpoint.") from error
        except (
            exceptions.HTTPClientError,
            exceptions.ConnectionError,
            exceptions.IncompleteReadError,
            HTTPError,
            OSError,
        ) as error:
            raise _Transient(f"{type(error).__name__}: {error}") from error
        except ResponseParserError as error:
            raise _Transient(f"unreadable response: {error}") from error
        except exceptions.BotoCoreError as error:
            raise StoreError(
                f"{self.url}: {error}", remedy="Check region, endpoint_url and the credentials in the environment."
            ) from error

    def _classify(self, error: Any, key: str) -> Exception:
        """What an error response means. By status code where it decides: it travels outside the body."""
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = str(error.response.get("Error", {}).get("Code", ""))
        text = f"{status} {code}: {error.response.get('Error', {}).get('Message', '')}"
        if code == "NoSuchBucket":
            return StoreError(f"There is no bucket {self._bucket!r}.", remedy="Create it, or correct 'store'.")
        if status == 404:
            return _Missing(key)
        if status == 412:
            return _Unmet(key)
        if status == 416:
            return _OutOfRange(key)
        if code in {"ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"} or status in {401, 403}:
            return StoreError(
                f"{self.url} refuses access to {key!r} ({text}).",
                remedy="Check the credentials; needed are s3:GetObject, PutObject, DeleteObject, ListBucket, AbortMultipartUpload.",
            )
        # 409: a concurrent conditional request (S3 asks to try again). RequestTimeout: the body came too slowly.
        if (status >= 500 and status != 501) or status in {408, 409, 429} or code in {"RequestTimeout", "SlowDown", "BadDigest"}:
            return _Transient(text)
        return StoreError(f"{self.url}/{key}: {text}.", remedy="Check endpoint_url and whether the server supports this request.")


#: Places that were seen to enforce conditional writes: a process opens a store once a step and asks once.
_conditional: set[tuple[str, str, Options]] = set()

#: By profile. A session holds the parsed service description, the dearest part of setting up a client.
_sessions: dict[str | None, Any] = {}
_clients: dict[tuple[int, Options], Any] = {}
_clients_lock = threading.Lock()


def client(options: Options) -> Any:
    """The client for these options: setting one up takes half a second, and its connections do not survive a fork."""
    key = (os.getpid(), options)
    with _clients_lock:
        if key not in _clients:
            _clients[key] = _new_client(options)
        return _clients[key]


def _new_client(options: Options) -> Any:
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    try:
        session = _sessions.setdefault(options.profile, botocore.session.Session(profile=options.profile))
        return session.create_client(
            "s3",
            region_name=options.region,
            endpoint_url=options.endpoint_url,
            config=Config(
                connect_timeout=options.connect_timeout,
                read_timeout=options.read_timeout,
                retries={"total_max_attempts": 1, "mode": "standard"},
                s3={"addressing_style": options.addressing_style},
                max_pool_connections=32,
                tcp_keepalive=True,
                # Older compatible servers reject the newer default checksums; Content-MD5 and our SHA-256 do their work.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreError(f"The S3 client cannot be set up: {error}", remedy="Check endpoint_url, region and profile.") from error


def _body(response: Mapping[str, Any]) -> bytes:
    from botocore import exceptions

    stream = response["Body"]  # its context manager would hand out the raw stream, with errors of another library
    try:
        data = stream.read()
    except (exceptions.BotoCoreError, OSError) as error:
        raise _Transient(f"the response broke off: {error}") from error
    finally:
        stream.close()
    if len(data) != response["ContentLength"]:
        raise _Transient(f"the response broke off after {len(data)} bytes")
    return data


def _windowed(function: Callable[[A], T], items: Iterable[A]) -> Iterator[T]:
    """`function` of each item, in order, with up to `_WINDOW` of them running ahead."""
    queue: deque[Future[T]] = deque()
    items = list(items)
    if len(items) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(_WINDOW) as pool:
        try:
            for item in items:
                if len(queue) >= _WINDOW:
                    yield queue.popleft().result()
                queue.append(pool.submit(function, item))
            while queue:
                yield queue.popleft().result()
        finally:
            for waiting in queue:
                waiting.cancel()


def _md5(data: bytes) -> str:
    """Content-MD5: guards the way to the server, which refuses a body that does not match."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _as_file(source: Path | bytes) -> Path:
    if isinstance(source, bytes):
        raise StoreError(f"{len(source)} bytes are too many to add from memory.", remedy="Write them to a file and use add_file.")
    return source


def _changed(source: Path | bytes) -> StoreError:
    return StoreError(
        f"{source if isinstance(source, Path) else 'data'} changed while it was stored.",
        remedy="Keep the file still and run again.",
    )
