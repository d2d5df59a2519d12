"""What is remembered of metadata files: what was learned, whatever the order, and in little memory."""

import tracemalloc

import pytest

from tasks.export_directory.metadata_states import Described
from tasks.postgres.market_metadata import MarketMetadata
from tasks.storage.file_identity import FileStat

STAT = FileStat(1, 2, 3, 4)


def row(market_id, name="A v B"):
    return MarketMetadata(market_id, "30", name, "MATCH_ODDS", 0, "OPEN", True, [1], ["One"])


@pytest.fixture
def path(tmp_path):
    described = Described(tmp_path / "metadata.states", b"{}")
    for market_id in ("1.30", "1.1234567", "1.4"):
        described.learn(row(market_id), STAT)
    assert described.is_current(row("1.30"), STAT) and not described.is_current(row("1.5"), STAT)
    described.save()
    return tmp_path / "metadata.states"


def test_what_was_learned_is_known_again_and_nothing_else(path):
    described = Described(path, b"{}")
    assert all(described.is_current(row(market_id), STAT) for market_id in ("1.4", "1.30", "1.1234567"))
    assert not any(
        described.is_current(row(market_id), STAT)
        for market_id in ("1.3", "1.300", "1.5", "0.1", "9.9", "1.12345678901234")
    )
    assert not described.is_current(row("1.4", "B v A"), STAT)
    assert not described.is_current(row("1.4"), STAT._replace(st_ino=5))
    assert not Described(path, b"{} ").is_current(row("1.4"), STAT)


def test_what_is_learned_anew_takes_the_place_of_the_old(path):
    described = Described(path, b"{}")
    described.learn(row("1.4", "B v A"), STAT)
    described.learn(row("1.12345678901234"), STAT)
    described.save()
    for known in (described, Described(path, b"{}")):
        assert known.is_current(row("1.4", "B v A"), STAT) and not known.is_current(row("1.4"), STAT)
        assert known.is_current(row("1.30"), STAT) and known.is_current(row("1.12345678901234"), STAT)
    content = path.read_bytes()
    assert [content[start : start + 16].rstrip(b"\0") for start in range(1, len(content), 32)] == [
        b"1.1234567",
        b"1.12345678901234",
        b"1.30",
        b"1.4",
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"junk",
        lambda content: content[:-40],
        lambda content: content[1:],
        lambda content: bytes(97) + content[:1],
        lambda content: bytes(255 - byte for byte in content),
    ],
)
def test_a_damaged_memory_is_made_anew(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    described = Described(path, b"{}")
    assert not described.is_current(row("1.4"), STAT)
    described.learn(row("1.4"), STAT)
    described.save()
    assert Described(path, b"{}").is_current(row("1.4"), STAT)


def test_very_many_take_little_memory(tmp_path):
    described = Described(tmp_path / "metadata.states", b"{}")
    for number in range(20_000):
        described.learn(row(f"1.{250_000_000 + number}"), STAT)
    described.save()
    del described
    tracemalloc.start()
    try:
        described = Described(tmp_path / "metadata.states", b"{}")
        assert described.is_current(row("1.250019999"), STAT)
        assert tracemalloc.get_traced_memory()[0] < 20_000 * 40
    finally:
        tracemalloc.stop()
