"""Objects that are sent in pieces: how large the pieces are, and what is compared when they are joined."""

import hashlib

import pytest

from tasks.cluster.published_days import together
from tasks.errors import StoreError
from tasks.market_files.time_span import Span
from tasks.publishing.folder_place import FolderPlace
from tasks.publishing.place import Source


def test_small_parts_are_put_together():
    spans = [Span(number, number + 1) for number in range(6)]

    def lengths(sizes, least):
        return [span.upper_us - span.lower_us for span in together(spans[: len(sizes)], sizes, least)]

    assert lengths([5, 5, 5], 5) == [1, 1, 1] and lengths([5, 5, 1], 5) == [1, 1, 1]
    assert lengths([1, 5, 5], 5) == [2, 1] and lengths([5, 4, 4, 9], 5) == [1, 2, 1]
    assert lengths([1, 1, 1], 5) == [3] and lengths([0, 0, 1, 0, 0], 0) == [3 + 2]
    assert lengths([7, 0, 0, 7, 0], 5) == [1, 3 + 1] and lengths([5, 0, 0], 5) == [3]


def test_an_object_of_pieces_is_compared_with_each_of_them(tmp_path):
    place = FolderPlace("file:///there", tmp_path)
    contents = [b"first" * 300_000, b"", b"second", b"third"]
    pieces = []
    token = place.begin("one")
    for number, content in enumerate(contents, 1):
        path = tmp_path / "sent"
        path.write_bytes(content)
        source = Source(path, len(content), hashlib.sha256(content).hexdigest())
        for _ in range(2):  # as a repeated task does
            piece = place.add("one", token, number, source)
        pieces.append(piece)
    for _ in range(2):
        stored, checksum = place.join("one", token, pieces)
        whole = (tmp_path / "one").read_bytes()
        assert whole == b"".join(contents) and checksum == hashlib.sha256(whole).hexdigest()
        assert stored == place.list()["one"] and stored.size_bytes == len(whole)
    for wrong in (pieces[:3], [*pieces[:3], pieces[2]], [pieces[0], *pieces[2:], pieces[1]]):
        with pytest.raises(StoreError, match="one read back is not what was sent"):
            place.join("one", token, wrong if len(wrong) == 4 else [*wrong, pieces[0]])
        assert not (tmp_path / "one").exists()
    place.abandon(["on"])
    assert place.begin("another") == "" and (tmp_path / ".pieces").exists()
    place.abandon(["one"])
    assert not (tmp_path / ".pieces").exists()
