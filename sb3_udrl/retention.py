"""Which episodes are remembered."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from sb3_udrl.episodes import rank_episodes


class Retention(ABC):
    """Decides which episodes are forgotten when the buffer is over its size."""

    @abstractmethod
    def forget(self, returns: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
        """
        :param returns: returns of all episodes, oldest first, shape (n_episodes,)
        :param lengths: their lengths in steps, shape (n_episodes,)
        :param size: how many episodes may stay
        :return: the indices of the episodes to forget
        """


class BestRetention(Retention):
    """Keep the best episodes ever seen (1912.02877 §2.3.1)."""

    def forget(self, returns: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
        return rank_episodes(returns, lengths)[size:]


class RecentRetention(Retention):
    """Keep the most recent episodes (first in, first out)."""

    def forget(self, returns: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
        return np.arange(max(len(returns) - size, 0))


class BestShareRetention(Retention):
    """
    Keep the best episodes in one share of the buffer; subclasses say what the rest is for.

    :param best_fraction: the share of the buffer that the best get, between 0 and 1
    """

    def __init__(self, best_fraction: float = 0.5) -> None:
        if not 0 <= best_fraction <= 1:
            raise ValueError(f"best_fraction={best_fraction} must lie between 0 and 1.")
        self.best_fraction = best_fraction


class BestRecentRetention(BestShareRetention):
    """Keep the most recent episodes, and of the older ones the best."""

    def forget(self, returns: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
        n_best = round(self.best_fraction * size)
        n_older = max(len(returns) - (size - n_best), 0)
        return rank_episodes(returns[:n_older], lengths[:n_older])[n_best:]


class BestSpreadRetention(BestShareRetention):
    """
    Keep the best episodes, and of the others those whose returns lie farthest apart.

    A buffer of only the best forgets how to obey small commands (1912.02877, Figure 6c); so a share of it is for
    examples of every return from the worst to the best.
    """

    def forget(self, returns: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
        ranked = rank_episodes(returns, lengths)
        n_best = round(self.best_fraction * size)
        forgotten = []
        while len(ranked) > size:
            # Of the two others that are closest, the older goes: what is left spreads out
            others = ranked[n_best:]
            closest = np.argmin(-np.diff(returns[others])) if len(others) > 1 else 0
            older = min(others[closest : closest + 2])
            forgotten.append(older)
            ranked = ranked[ranked != older]
        return np.array(forgotten, dtype=np.int64)


RETENTIONS: dict[str, type[Retention]] = {
    "best": BestRetention,
    "recent": RecentRetention,
    "best+recent": BestRecentRetention,
    "best+spread": BestSpreadRetention,
}
