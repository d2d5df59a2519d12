"""tar.gz, tar.zst and zip: the same bytes for the same content on every machine, compressed on all cores, and read back
without unpacking to disk.
"""

import collections
import concurrent.futures
import contextlib
import hashlib
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, cast

from backports import zstd
from zlib_ng import gzip_ng, zlib_ng

from tasks.market_files import formats
from tasks.ticks.prefetch import prefetched

KINDS = ("tar.gz", "zip", "tar.zst")

#: The level whose result is about a tenth larger than gzip's, at several times its speed per core.
_DEFLATE_LEVEL = 4
_ZSTD_LEVEL = 3
#: The size of a piece that one core compresses. It affects the bytes, because compression is cut there.
_PIECE_BYTES = 1 << 19
#: How much is read and copied at a time: little enough to stay in the processor's cache.
_READ_BYTES = 1 << 18
#: How far back a piece may refer to earlier ones: deflate's window.
_WINDOW_BYTES = 1 << 15
#: Time and mode of every member, independent of clock and umask. The time is the earliest that zip supports.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_TIME_S = 315_532_800
_MODE = 0o644
_NOTE = "comment"
_UNIX = 3
#: The errors that the libraries raise for a damaged archive.
DAMAGED: tuple[Any, ...] = (
    OSError,
    ValueError,
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zstd.ZstdError,
    zlib_ng.error,
)

Progress = Callable[[int], None]


class Sink(Protocol):
    """The file that an archive is written to; it need not support tell()."""

    def write(self, data: Any) -> int:
        """Append bytes."""

    def flush(self) -> None:
        """Write buffered data."""


class ParallelDeflate:
    """A raw deflate stream like that of zlib.compressobj. Its pieces are compressed in parallel, each with the window
    before it.

    zlib_ng's own gzip_ng_threaded is not used: it keeps one compressor per thread, whose result can depend on earlier
    pieces, and so on the number of threads (in 11 of 300 archives with incompressible pieces). And after an interrupt
    it can wait forever.
    """

    def __init__(self, pool: concurrent.futures.Executor, ahead: int) -> None:
        self._pool = pool
        self._ahead = ahead
        self._window = b""
        self._waiting: collections.deque[concurrent.futures.Future[bytes]] = collections.deque()

    def compress(self, data: bytes | memoryview) -> bytes:
        """Add a piece; return the compressed data that is ready."""
        piece = bytes(data)  # a copy, because the caller refills its buffer
        self._waiting.append(self._pool.submit(_deflated, piece, self._window))
        self._window = piece[-_WINDOW_BYTES:]
        return self._finished(self._ahead)

    def flush(self) -> bytes:
        """End the stream; return the rest."""
        return self._finished(0) + zlib_ng.compress(b"", wbits=-15)

    def _finished(self, waiting: int) -> bytes:
        parts = []
        while len(self._waiting) > waiting:
            parts.append(self._waiting.popleft().result())
        return b"".join(parts)


def _deflated(data: bytes, window: bytes) -> bytes:
    settings = (_DEFLATE_LEVEL, zlib_ng.DEFLATED, -15, 9, zlib_ng.Z_DEFAULT_STRATEGY)
    compressor = zlib_ng.compressobj(*settings, window) if window else zlib_ng.compressobj(*settings)
    return compressor.compress(data) + compressor.flush(zlib_ng.Z_SYNC_FLUSH)


class _Counted:
    """A file that reports how much of it was read."""

    def __init__(self, file: IO[bytes], progress: Progress) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data = self._file.read(size)
        self._progress(len(data))
        return data


class _Placed:
    """A file that knows how much was written to it. For files that do not, tarfile has mode w|, which copies every byte
    twice more.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size_bytes = 0

    def write(self, data: bytes) -> int:
        """Append bytes."""
        self._size_bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Return where the next byte goes."""
        return self._size_bytes


def write(
    kind: str,
    sink: Sink,
    members: Sequence[tuple[str, Path]],
    note: str,
    progress: Progress,
    workers: int | None = None,
) -> None:
    """Write an archive of members (name in the archive, file) with a note: a line that no tool unpacks, where git
    archive has the commit.

    progress is called with the bytes as they are read; workers: how many cores to use (all if None), which does not
    change the result. Raises OSError if a file is shorter than its size.
    """
    cores = workers or len(os.sched_getaffinity(0))
    if kind == "zip":
        _write_zip(sink, members, note, progress, cores)
        return
    with _compressing(kind, sink, cores) as stream:
        with tarfile.open(
            fileobj=cast(IO[bytes], _Placed(stream)),
            mode="w",
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
            pax_headers={_NOTE: note},
        ) as tar:
            tar.copybufsize = _READ_BYTES  # type: ignore[attr-defined]
            for name, path in members:
                info = tarfile.TarInfo(name)
                info.mtime, info.mode = _TIME_S, _MODE
                with open(path, "rb", buffering=0) as file:
                    info.size = os.fstat(file.fileno()).st_size
                    tar.addfile(info, cast(IO[bytes], _Counted(file, progress)))


@contextlib.contextmanager
def _compressing(kind: str, sink: Sink, cores: int) -> Iterator[IO[bytes]]:
    if kind == "tar.gz":
        with concurrent.futures.ThreadPoolExecutor(cores, "deflate") as pool:
            file = gzip_ng.GzipNGFile("", "wb", _DEFLATE_LEVEL, sink, mtime=0)
            file.compress = ParallelDeflate(pool, 2 * cores)  # type: ignore[assignment]  # as in _write_zip
            with file, io.BufferedWriter(file, _PIECE_BYTES) as stream:
                yield stream
        return
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: _ZSTD_LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
        zstd.CompressionParameter.nb_workers: cores,
    }
    with zstd.open(cast(IO[bytes], sink), "wb", options=options) as stream:
        yield cast(IO[bytes], stream)


def _write_zip(sink: Sink, members: Sequence[tuple[str, Path]], note: str, progress: Progress, cores: int) -> None:
    with (
        concurrent.futures.ThreadPoolExecutor(cores, "deflate") as pool,
        zipfile.ZipFile(cast(IO[bytes], sink), "w") as archive,
    ):
        archive.comment = note.encode()
        for name, path in members:
            info = zipfile.ZipInfo(name, _ZIP_TIME)
            info.create_system, info.external_attr = _UNIX, (0o100000 | _MODE) << 16
            stored = formats.is_compressed(name)
            info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            with open(path, "rb") as file:
                info.file_size = os.fstat(file.fileno()).st_size
                with archive.open(info, "w") as member:
                    # zipfile has no public way to bring a compressor; without this line it uses zlib on one core
                    if not stored:
                        member._compressor = ParallelDeflate(pool, 2 * cores)  # type: ignore[attr-defined]
                    shutil.copyfileobj(_Counted(file, progress), member, _PIECE_BYTES)


def note_of(kind: str, path: Path) -> str | None:
    """Return the note of an archive, None if there is no archive or it cannot be read. Reads a few bytes only."""
    try:
        if kind == "zip":
            with zipfile.ZipFile(path) as archive:
                return archive.comment.decode()
        with _decompressing(kind, path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            return tar.pax_headers.get(_NOTE)
    except DAMAGED:
        return None


def checksums(kind: str, path: Path, progress: Progress) -> Iterator[tuple[str, str]]:
    """Yield name and SHA-256 of each member of an archive, in order. progress is called with the bytes as they are
    read.

    Raises one of DAMAGED if it is damaged.
    """
    return _zip_checksums(path, progress) if kind == "zip" else _tar_checksums(kind, path, progress)


def _decompressing(kind: str, path: Path) -> IO[bytes]:
    if kind == "tar.zst":
        return cast(IO[bytes], zstd.open(path, "rb"))
    return cast(IO[bytes], gzip_ng.open(path, "rb"))


def _tar_checksums(kind: str, path: Path, progress: Progress) -> Iterator[tuple[str, str]]:
    with _decompressing(kind, path) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        for info in tar:
            content = tar.extractfile(info)
            if content is None:
                raise tarfile.ReadError(f"{info.name} is not a file")
            yield info.name, _checksum(content, progress)
        while stream.read(_PIECE_BYTES):  # the end of the compressed file has its checksum
            pass


def _zip_checksums(path: Path, progress: Progress) -> Iterator[tuple[str, str]]:
    def checksum(info: zipfile.ZipInfo) -> tuple[str, str]:
        with archive.open(info) as content:
            return info.filename, _checksum(content, progress)

    with (
        zipfile.ZipFile(path) as archive,
        concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)), "inflate") as pool,
    ):
        yield from pool.map(checksum, archive.infolist())


def _checksum(content: IO[bytes], progress: Progress) -> str:
    digest = hashlib.sha256()
    for data in prefetched(iter(lambda: content.read(_PIECE_BYTES), b"")):
        digest.update(data)
        progress(len(data))
    return digest.hexdigest()
