"""A picture of a market as one line of text: the best back price of its favourite over time."""

import numpy as np
import numpy.typing as npt

from tasks.ticks.sort_keys import Ints

#: The number of points in the picture, and the most samples that it is made from: they limit memory.
POINTS = 32
_MOST = 1024
#: From the lowest to the highest price; a blank is no price.
SHADES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Sampler:
    """Keeps every n-th message; n grows with the number of messages."""

    def __init__(self) -> None:
        self._stride, self._seen, self._kept = 1, 0, 0
        self._samples: list[tuple[Ints, npt.NDArray[np.float32], Ints]] = []

    def add(self, times: Ints, best: npt.NDArray[np.float64], selections: Ints) -> None:
        """Add messages: their times, and the best back price (NaN: none) of each selection."""
        first = -self._seen % self._stride
        with np.errstate(over="ignore"):
            prices = best[first :: self._stride].astype(np.float32)
        prices[~((prices > 0) & (prices < np.inf))] = np.nan  # no odds
        self._samples.append((times[first :: self._stride], prices, selections))
        self._kept += len(self._samples[-1][0])
        self._seen += len(times)
        while self._kept > _MOST:
            self._stride *= 2
            self._samples = self._thinned()
            self._kept = sum(len(times) for times, _, _ in self._samples)

    def _thinned(self) -> list[tuple[Ints, npt.NDArray[np.float32], Ints]]:
        position, thinned = 0, []
        for times, best, selections in self._samples:
            first = position % 2
            position += len(times)
            thinned.append((times[first::2], best[first::2], selections))
        return thinned

    def drawn(self) -> str:
        """Return the picture, with a logarithmic scale from the favourite's lowest to its highest price."""
        if not self._kept:
            return ""
        selections = self._samples[-1][2]
        times = np.concatenate([times for times, _, _ in self._samples])
        best = np.full((len(times), len(selections)), np.nan, np.float32)
        row = 0
        for some, prices, known in self._samples:
            best[row : row + len(some), selections.searchsorted(known)] = prices
            row += len(some)
        known = np.count_nonzero(np.isfinite(best), axis=0)
        if not known.any():
            return ""
        ordered = np.sort(best, axis=0)  # NaN last
        usual = ordered[np.maximum(known - 1, 0) // 2, np.arange(len(selections))]
        return _line(times, best[:, int(np.nanargmin(usual))])


def _line(times: Ints, price: npt.NDArray[np.float32]) -> str:
    known = np.isfinite(price)
    times, value = times[known], np.log(price[known])
    at = np.linspace(times[0], times[-1], POINTS)
    point = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 1)
    low, high = float(value.min()), float(value.max())
    share = (value[point] - low) / (high - low) if high > low else np.full(POINTS, 0.5)
    return "".join(SHADES[int(shade)] for shade in np.rint(share * (len(SHADES) - 1)))
