"""The prices of Betfair's classic price ladder."""

import numpy as np
import numpy.typing as npt

#: From, up to and step in hundredths, as https://docs.developer.betfair.com (Additional Information, Price Increments).
_STEPS = (
    (101, 200, 1),
    (200, 300, 2),
    (300, 400, 5),
    (400, 600, 10),
    (600, 1000, 20),
    (1000, 2000, 50),
    (2000, 3000, 100),
    (3000, 5000, 200),
    (5000, 10000, 500),
    (10000, 100001, 1000),
)
HUNDREDTHS = np.concatenate([np.arange(*step) for step in _STEPS])
_MOST = 100_000


def _prices() -> npt.NDArray[np.float64]:
    """Return the ladder price for each number of hundredths up to 1,000, NaN if it is not on the ladder."""
    prices = np.full(_MOST + 2, np.nan)
    prices[HUNDREDTHS] = HUNDREDTHS / 100
    return prices


_PRICES = _prices()


def is_on_ladder(price: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return, for each price, whether it is exactly one of the ladder's 350."""
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity become some number, but are on no ladder
        hundredths = np.rint(price * 100).astype(np.int64)
    on: npt.NDArray[np.bool_] = _PRICES.take(hundredths, mode="clip") == price
    return on
