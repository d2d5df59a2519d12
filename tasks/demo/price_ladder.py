"""The prices that Betfair accepts.

Source: Betfair Exchange API documentation, "Betfair Price Increments", odds markets,
https://docs.developer.betfair.com/display/1smk3cen4v3lu3yomq5qye0ni/placeOrders#placeOrders-BetfairPriceIncrements
"""

import numpy as np

from tasks.demo.arrays import Floats

#: From this price (in hundredths) on, up to the next one, prices rise by this step (in hundredths).
_STEPS = (
    (100, 1),
    (200, 2),
    (300, 5),
    (400, 10),
    (600, 20),
    (1000, 50),
    (2000, 100),
    (3000, 200),
    (5000, 500),
    (10000, 1000),
)
_LARGEST = 100000


def _price_ladder() -> Floats:
    ends = [start for start, _ in _STEPS[1:]] + [_LARGEST]
    hundredths = [np.arange(start + step, end + step, step) for (start, step), end in zip(_STEPS, ends)]
    ladder: Floats = np.concatenate(hundredths) / 100
    return ladder


#: The 350 prices from 1.01 to 1000, ascending.
PRICES = _price_ladder()
