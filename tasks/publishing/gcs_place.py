"""A bucket of Google Cloud Storage as a place for exports.

It uses google-cloud-storage, the provider's own library, which speaks the provider's own protocol, tries again what the
provider says can be tried again, and takes credentials from the usual places.
"""

import base64
import contextlib
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Collection, Sequence
from typing import IO, Any

import tenacity

from tasks.errors import StoreError, UsageError
from tasks.publishing.pieces import FOLDER, PlaceOfPieces, is_of, piece_name
from tasks.publishing.place import Piece, Sink, Source, Stored

try:
    import google_crc32c
    import requests
    from google.api_core.exceptions import ClientError, NotFound, RetryError
    from google.cloud import storage
    from google.cloud.storage.retry import DEFAULT_RETRY

    from tasks.publishing.gcs_errors import telling
except ModuleNotFoundError:
    raise UsageError("A gs:// address needs google-cloud-storage: pip install 'betfair-tick-export[gcs]'.") from None

#: Objects above 8 MB are uploaded in chunks of this size, one after another; each can be sent again by itself.
_CHUNK_BYTES = 16 << 20
_JOINED_AT_ONCE = 32  # https://cloud.google.com/storage/docs/composing-objects
_READ_BYTES = 1 << 20
_TIMEOUT_S = (10, 60)  # to connect, and to answer
_RETRY = DEFAULT_RETRY.with_delay(0.5, 20, 2).with_timeout(120)
_FIRST_RETRY = DEFAULT_RETRY.with_delay(0.5, 2, 2).with_timeout(5)  # of requests that show whether there is a store
_SEND_TRIES, _RECEIVE_TRIES = 3, 3
_FIELDS = "items(name,size,md5Hash,crc32c,generation),nextPageToken"

#: The errors of a download that is cut off, after the library has tried again for as long as it may.
_BROKEN_OFF = (RetryError, requests.RequestException, ConnectionError)


def _can_begin_again(error: BaseException) -> bool:
    """Return whether it helps to send all of an object again.

    It was damaged on its way (400), or the store has forgotten the upload (404, 410), or it has less of it than the
    library can send again (ValueError).
    """
    return isinstance(error, ValueError) or isinstance(error, ClientError) and error.code in (400, 404, 410)


_again_from_its_beginning = tenacity.retry(
    retry=tenacity.retry_if_exception(_can_begin_again),
    stop=tenacity.stop_after_attempt(_SEND_TRIES),
    wait=tenacity.wait_random_exponential(0.1, 10),
    reraise=True,
)


class GcsPlace(PlaceOfPieces):
    """A bucket and a prefix in it."""

    def __init__(self, address: str, bucket: str, prefix: str) -> None:
        super().__init__(address)
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint = os.environ.get("STORAGE_EMULATOR_HOST", "storage.googleapis.com")
        logging.getLogger("google").setLevel(logging.ERROR)  # it tells how it looks for credentials
        warnings.filterwarnings("ignore", module=r"google\.auth\.")  # and that they are a user's
        # otherwise the library reads the bucket's own settings, for traces that nobody has asked for
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        with self._telling():
            self._client = storage.Client(project=None)  # no request here needs the project
            self._bucket = self._client.bucket(bucket)

    def list(self, beginning: str = "") -> dict[str, Stored]:
        """Return every object below the prefix whose name begins so, but for pieces."""
        with self._telling():
            return {
                name: Stored(int(blob.size), _tag(blob))
                for blob in self._blobs(beginning)
                if not (name := blob.name.removeprefix(self._prefix)).startswith(f"{FOLDER}/")
            }

    def read(self, name: str) -> bytes | None:
        """Return the content of a small object, None if there is none."""
        with self._telling(name):
            with contextlib.suppress(NotFound):
                return bytes(
                    self._blob(name).download_as_bytes(raw_download=True, timeout=_TIMEOUT_S, retry=_FIRST_RETRY)
                )
        with self._telling():
            next(iter(self._blobs(name)), None)  # whether it is the bucket that does not exist
        return None

    def write(self, name: str, content: bytes) -> None:
        """Store a small object."""
        with self._telling(name):
            self._put(name, io.BytesIO(content), _Digests(io.BytesIO(content)))

    def send(self, name: str, source: Source) -> Stored:
        """Store a file. The store itself compares the MD5 and the CRC32C; they are computed in the same pass as the
        SHA-256, so they are those of the right content. What the store says afterwards is compared once more.
        """
        with self._telling(name), open(source.path, "rb") as file:
            digests = _Digests(file)
            if digests.sha256 != source.checksum:
                raise StoreError(f"{source.path}: it changed while it was sent to {self.address}. Start again.")
            blob = self._put(name, file, digests)
            if not self._is_equal(blob, digests):
                raise StoreError(f"{self.address}: {name} did not arrive as it was sent. Start again.")
        return Stored(source.size_bytes, _tag(blob))

    def holds(self, name: str, stored: Stored, source: Source) -> bool:
        """Return whether the object equals the file, according to the store's MD5, or its CRC32C for joined pieces."""
        with open(source.path, "rb") as file:
            digests = _Digests(file)
        return stored.tag in (digests.md5.hex(), _crc32c_tag(digests.crc32c))

    def receive(self, name: str, file: Sink) -> None:
        """Append the content of an object; if the connection is lost, continue where it stopped."""

        with self._telling(name):
            blob = self._blob(name)
            try:
                blob.reload(timeout=_TIMEOUT_S, retry=_RETRY)
                self._receive(name, blob.generation, blob.size, file)
            except NotFound:
                raise StoreError(
                    f"{self.address}: {name} is missing, or was replaced meanwhile. If Publish is running, start again"
                    " when it has ended; otherwise publish again."
                ) from None

    def remove(self, name: str) -> None:
        """Remove an object."""
        with self._telling(name), contextlib.suppress(NotFound):
            self._blob(name).delete(timeout=_TIMEOUT_S, retry=_RETRY)

    def _join(self, name: str, token: str, pieces: Sequence[Piece]) -> None:
        """Join pieces in the store, many of them by joining what was joined of some."""
        names = [piece_name(name, number) for number in range(1, len(pieces) + 1)]
        level = 0
        while len(names) > _JOINED_AT_ONCE:
            level += 1
            groups = [names[start : start + _JOINED_AT_ONCE] for start in range(0, len(names), _JOINED_AT_ONCE)]
            names = [piece_name(f"{name}.joined-{level}", number) for number in range(1, len(groups) + 1)]
            for one, group in zip(names, groups):
                self._compose(one, group)
        self._compose(name, names)

    def abandon(self, names: Collection[str]) -> None:
        """Remove the pieces of objects."""
        with self._telling():
            beginning = f"{FOLDER}/{os.path.commonprefix([*names])}"
            found = [blob.name.removeprefix(self._prefix) for blob in self._blobs(beginning)]
        for name in found:
            if is_of(name.removeprefix(f"{FOLDER}/"), names):
                self.remove(name)

    def _compose(self, name: str, sources: Sequence[str]) -> None:
        with self._telling(name):
            try:
                # repeated, it makes the same object again
                self._blob(name).compose([self._blob(one) for one in sources], timeout=_TIMEOUT_S, retry=_RETRY)
            except NotFound:
                raise StoreError(f"{self.address}: {name}: a piece of it is missing. Start again.") from None

    @_again_from_its_beginning
    def _put(self, name: str, file: IO[bytes], digests: "_Digests") -> Any:
        """Store a file with the digests that the store has to check; return the store's description of the object."""
        blob = self._blob(name)
        blob.chunk_size = _CHUNK_BYTES
        blob.md5_hash, blob.crc32c = (base64.b64encode(one).decode() for one in (digests.md5, digests.crc32c))
        blob.upload_from_file(
            file,
            rewind=True,
            size=digests.size_bytes,
            content_type="application/octet-stream",
            checksum=None,  # those that are set already
            timeout=_TIMEOUT_S,
            retry=_RETRY,
        )
        return blob

    def _receive(self, name: str, generation: int, size_bytes: int, file: Sink) -> None:
        """Append what is missing of an object. As long as each try brings something, there is a next one.

        (The library takes an answer that is cut off before its length is known for a whole one.)
        """
        in_vain = 0
        while (before := file.size_bytes) < size_bytes:
            try:
                self._blob(name, generation).download_to_file(
                    file,
                    start=before or None,
                    raw_download=True,
                    checksum=None,  # the caller compares the SHA-256
                    timeout=_TIMEOUT_S,
                    retry=_RETRY,
                )
            except _BROKEN_OFF:
                if file.size_bytes == before:
                    raise
            in_vain = in_vain + 1 if file.size_bytes == before else 0
            if in_vain == _RECEIVE_TRIES:
                raise StoreError(f"{self.address}: {name} arrives with {before} bytes of {size_bytes}. Start again.")

    def _is_equal(self, blob: Any, digests: "_Digests") -> bool:
        """Return whether a stored object has these digests: the MD5 if the store says it, else the CRC32C, else the
        SHA-256 of what is read back.
        """
        if blob.size != digests.size_bytes:
            return False
        if blob.md5_hash:
            return base64.b64decode(blob.md5_hash) == digests.md5
        if blob.crc32c:
            return base64.b64decode(blob.crc32c) == digests.crc32c
        sink = _Checksum()
        self.receive(blob.name.removeprefix(self._prefix), sink)
        return sink.hexdigest() == digests.sha256

    def _blobs(self, beginning: str) -> Any:
        """Iterate over the objects whose name begins so."""
        return self._client.list_blobs(
            self._bucket, prefix=self._prefix + beginning, fields=_FIELDS, timeout=_TIMEOUT_S, retry=_RETRY
        )

    def _blob(self, name: str, generation: int | None = None) -> Any:
        return self._bucket.blob(self._prefix + name, generation=generation)

    def _telling(self, name: str = "") -> contextlib.AbstractContextManager[None]:
        """Turn an error of Google's libraries into one line."""
        return telling(f"{self.address}: {name}: " if name else f"{self.address}: ", self._endpoint)


class _Digests:
    """What can be said of a file's content, computed in one pass."""

    def __init__(self, file: IO[bytes]) -> None:
        sha256, md5, crc32c = hashlib.sha256(), hashlib.md5(usedforsecurity=False), google_crc32c.Checksum()
        self.size_bytes = 0
        while piece := file.read(_READ_BYTES):
            for digest in (sha256, md5, crc32c):
                digest.update(piece)
            self.size_bytes += len(piece)
        self.sha256, self.md5, self.crc32c = sha256.hexdigest(), md5.digest(), bytes(crc32c.digest())


class _Checksum:
    """Takes content and computes its SHA-256."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Take the next bytes."""
        self._digest.update(data)
        self.size_bytes += len(data)
        return len(data)

    def hexdigest(self) -> str:
        """Return the SHA-256, in hex."""
        return self._digest.hexdigest()


def _tag(blob: Any) -> str:
    """Return an object's MD5 in hex; for joined pieces, which have none, the CRC32C.

    (Not the generation: it also changes if the same pieces are joined twice.)
    """
    if blob.md5_hash:
        return base64.b64decode(blob.md5_hash).hex()
    return _crc32c_tag(base64.b64decode(blob.crc32c)) if blob.crc32c else f"generation-{blob.generation}"


def _crc32c_tag(digest: bytes) -> str:
    return f"crc32c-{digest.hex()}"
