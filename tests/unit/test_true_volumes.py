"""True volumes come out of the sums as the platform keeps them."""

import numpy as np
import pytest

from tasks.ticks.snapshots import Slots
from tasks.ticks.tick_arrays import TRADED, Ticks
from tasks.ticks.true_volume import TrueVolume, falls


def sums_as_the_platform_keeps_them(random, messages):
    """Yield (image, true volumes, stored sums) of messages: the platform adds each figure to what it has."""
    true, sums = {}, {}
    for number in range(messages):
        is_image = number > 5 and random.random() < 0.04
        if is_image:
            sums = {}
        told = [*true] if is_image else [price for price in true if random.random() < 0.1]
        for price in told:
            drift = random.choice([-0.01, 0.01]) if random.random() < 0.2 else 0
            grown = round(random.uniform(1, 300), 2) if random.random() < 0.5 else 0
            true[price] = round(max(true[price] + grown + drift, 0.5), 2)
            sums[price] = sums.get(price, 0.0) + true[price]
        if random.random() < 0.3:
            price = round(1 + random.integers(1, 60) / 100, 2)
            if price not in true:
                true[price] = sums[price] = round(random.uniform(2, 500), 2)
        if true and random.random() < 0.02:
            gone = random.choice([*true])
            del true[gone], sums[gone]
        yield is_image, dict(true), {price: round(size, 2) for price, size in sums.items()}


@pytest.mark.parametrize("seed", range(6))
def test_true_volumes_come_out_of_the_sums(seed):
    random = np.random.default_rng(seed)
    truth = [message for message in sums_as_the_platform_keeps_them(random, 400) if message[2]]
    rows = [(number, price, size) for number, (_, _, sums) in enumerate(truth) for price, size in sorted(sums.items())]
    count = len(rows)
    ticks = Ticks(
        np.zeros(count, np.int64),
        np.array([row[0] for row in rows]),
        np.zeros(count, np.int64),
        np.full(count, 7),
        np.full(count, TRADED, np.int8),
        np.zeros(count, np.int16),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
    )
    slots = Slots()
    volumes = TrueVolume(slots)
    found, number = {}, 0
    for chunk in slots.layout(ticks[start : start + 700] for start in range(0, count, 700)):
        changes = volumes.changes(chunk)
        for local in range(len(chunk)):
            for place in np.flatnonzero(changes.message == local):
                found[slots.traded_price[changes.slot[place]]] = changes.volume[place]
            now = {price: size for price, size in found.items() if size}
            assert now == pytest.approx(truth[number][1], abs=0.006), (number, truth[number][0])
            number += 1
        assert not (falls(changes) & (changes.volume > changes.before)).any()
    assert number == len(truth)
