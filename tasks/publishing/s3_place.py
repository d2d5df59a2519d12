"""A bucket of S3, or of a store with the same protocol, as a place for exports.

It uses boto3, the provider's own library, which sends an object with the SHA-256 that the store has to check, abandons
a failed upload completely, and takes credentials from the usual places. (If an error interrupts an upload, pyarrow's
file system completes it with what it has so far; docs/publishing.md has the comparison.)
"""

import base64
import contextlib
import hashlib
import logging
import os
from collections.abc import Collection, Sequence
from typing import Any

import tenacity

from tasks.errors import StoreError, UsageError
from tasks.publishing.place import Piece, Place, Sink, Source, Stored

try:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore import exceptions
    from botocore.config import Config

    from tasks.publishing.s3_errors import telling
except ModuleNotFoundError:
    raise UsageError("An s3:// address needs boto3: pip install 'betfair-tick-export[s3]'.") from None

#: Larger objects are uploaded in parts of this size.
PART_BYTES = 64 << 20
_PARTS_AT_ONCE = 2  # of each object
_READ_BYTES = 1 << 20
_TRIES = 8  # per request, with pauses of up to 20 s between them
_FIRST_TRIES = 3  # for the first requests, which show whether there is a store at all
_CONNECT_S, _READ_S = 10, 60
_RECEIVE_TRIES = 5

#: The errors of a download that is cut off. (boto3 itself retries only until the answer begins.)
_BROKEN_OFF = (exceptions.IncompleteReadError, exceptions.ResponseStreamingError, exceptions.ReadTimeoutError)

_again_if_broken_off = tenacity.retry(
    retry=tenacity.retry_if_exception_type(_BROKEN_OFF),
    stop=tenacity.stop_after_attempt(_RECEIVE_TRIES),
    wait=tenacity.wait_random_exponential(0.1, 10),
    reraise=True,
)


class S3Place(Place):
    """A bucket and a prefix in it."""

    least_piece_bytes = 5 << 20  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html

    def __init__(self, address: str, bucket: str, prefix: str, threads: int) -> None:
        super().__init__(address)
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        for library in ("boto3", "botocore"):  # they say where they found credentials
            logging.getLogger(library).setLevel(logging.WARNING)
        with self._telling():
            self._client, self._asking = (self._new_client(threads, tries) for tries in (_TRIES, _FIRST_TRIES))

    @staticmethod
    def _new_client(threads: int, tries: int) -> Any:
        return boto3.client(
            "s3",
            config=Config(
                retries={"total_max_attempts": tries, "mode": "standard"},
                connect_timeout=_CONNECT_S,
                read_timeout=_READ_S,
                max_pool_connections=threads * (1 + _PARTS_AT_ONCE),
            ),
        )

    def list(self, beginning: str = "") -> dict[str, Stored]:
        """Return every object below the prefix whose name begins so."""
        with self._telling():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + beginning
            )
            return {
                entry["Key"].removeprefix(self._prefix): Stored(entry["Size"], entry["ETag"].strip('"'))
                for page in pages
                for entry in page.get("Contents", ())
            }

    def read(self, name: str) -> bytes | None:
        """Return the content of a small object, None if there is none."""
        with self._telling(name):
            try:
                return self._read(name)
            except self._asking.exceptions.NoSuchKey:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Store a small object."""
        with self._telling(name):
            self._put(name, content, hashlib.sha256(content).hexdigest())

    def send(self, name: str, source: Source) -> Stored:
        """Store a file. The store itself compares the SHA-256, for several parts that of each. The size is compared
        here, and the MD5 in the store's tag. A tag that is another one (stores that encrypt with keys of their own, or
        count parts in their own way) says nothing: then the object is read back.
        """
        with self._telling(name):
            if source.size_bytes <= PART_BYTES:
                with open(source.path, "rb") as file:
                    tag = self._put(name, file, source.checksum)
            else:
                self._client.upload_file(
                    str(source.path),
                    self._bucket,
                    self._prefix + name,
                    ExtraArgs={"ChecksumAlgorithm": "SHA256"},
                    Config=TransferConfig(
                        multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=_PARTS_AT_ONCE
                    ),
                )
                answer = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
                tag = answer["ETag"].strip('"')
                if answer["ContentLength"] != source.size_bytes:
                    raise StoreError(
                        f"{self.address}: {name} arrived with {answer['ContentLength']} bytes, expected"
                        f" {source.size_bytes}. Start again."
                    )
            if tag != _tag(source) and self._checksum(name) != source.checksum:
                raise StoreError(f"{self.address}: {name} did not arrive as it was sent. Start again.")
        return Stored(source.size_bytes, tag)

    def holds(self, name: str, stored: Stored, source: Source) -> bool:
        """Return whether the object equals the file, according to the store's tag."""
        return stored.tag == _tag(source)

    def receive(self, name: str, file: Sink) -> None:
        """Append the content of an object; if the connection is lost, continue where it stopped."""

        @_again_if_broken_off
        def receive_rest() -> None:
            some = {"Range": f"bytes={file.size_bytes}-", "IfMatch": tag} if file.size_bytes else {}
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, **some)
            for piece in answer["Body"].iter_chunks(_READ_BYTES):
                file.write(piece)

        with self._telling(name):
            tag = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)["ETag"]
            receive_rest()

    def remove(self, name: str) -> None:
        """Remove an object."""
        with self._telling(name):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def begin(self, name: str) -> str:
        """Begin a multipart upload; return its id."""
        self.abandon([name])
        with self._telling(name):
            answer = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=self._prefix + name, ChecksumAlgorithm="SHA256"
            )
        return str(answer["UploadId"])

    def add(self, name: str, token: str, number: int, source: Source) -> Piece:
        """Send a part of a multipart upload; the store itself compares its SHA-256."""
        with self._telling(name), open(source.path, "rb") as file:
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=self._prefix + name,
                UploadId=token,
                PartNumber=number,
                Body=file,
                ChecksumSHA256=_base64(source.checksum),
            )
        return Piece(source.size_bytes, source.checksum, str(answer["ETag"]))

    def _join(self, name: str, token: str, pieces: Sequence[Piece]) -> None:
        parts = [
            {"PartNumber": number, "ETag": piece.tag, "ChecksumSHA256": _base64(piece.checksum)}
            for number, piece in enumerate(pieces, 1)
        ]
        with self._telling(name), contextlib.suppress(self._client.exceptions.NoSuchUpload):  # it was joined before
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=self._prefix + name, UploadId=token, MultipartUpload={"Parts": parts}
            )

    def abandon(self, names: Collection[str]) -> None:
        """Abort the multipart uploads of objects."""
        keys = {self._prefix + name for name in names}
        with self._telling():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=os.path.commonprefix([*keys])
            )
            for upload in [upload for page in pages for upload in page.get("Uploads", ()) if upload["Key"] in keys]:
                with contextlib.suppress(self._client.exceptions.NoSuchUpload):  # it has just ended
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    def _put(self, name: str, body: Any, checksum: str) -> str:
        """Store a body with the SHA-256 that the store has to check; return the store's tag."""
        answer = self._client.put_object(
            Bucket=self._bucket, Key=self._prefix + name, Body=body, ChecksumSHA256=_base64(checksum)
        )
        return str(answer["ETag"]).strip('"')

    @_again_if_broken_off
    def _read(self, name: str) -> bytes:
        return bytes(self._asking.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read())

    @_again_if_broken_off
    def _checksum(self, name: str) -> str:
        """Return the SHA-256, in hex, of an object as it is in the store."""
        digest = hashlib.sha256()
        answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
        for piece in answer["Body"].iter_chunks(_READ_BYTES):
            digest.update(piece)
        return digest.hexdigest()

    def _telling(self, name: str = "") -> contextlib.AbstractContextManager[None]:
        """Turn an error of boto3 into one line."""
        return telling(f"{self.address}: {name}: " if name else f"{self.address}: ", self._endpoint)

    @property
    def _endpoint(self) -> str:
        return str(self._client.meta.endpoint_url) if hasattr(self, "_client") else ""


def _tag(source: Source) -> str:
    """Return the tag that S3 gives a file: its MD5; for several parts, the MD5 of their MD5s, and their number."""
    parts = []
    with open(source.path, "rb") as file:
        for start in range(0, source.size_bytes or 1, PART_BYTES):
            digest = _md5()
            left = min(PART_BYTES, source.size_bytes - start)
            while left and (piece := file.read(min(left, _READ_BYTES))):
                digest.update(piece)
                left -= len(piece)
            parts.append(digest.digest())
    if len(parts) == 1:
        return str(parts[0].hex())
    return f"{_md5(b''.join(parts)).hexdigest()}-{len(parts)}"


def _base64(checksum: str) -> str:
    return base64.b64encode(bytes.fromhex(checksum)).decode()


def _md5(data: bytes = b"") -> Any:
    return hashlib.md5(data, usedforsecurity=False)
