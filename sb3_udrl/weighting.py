"""How often each episode is imitated."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Weighting(ABC):
    """How often each episode is imitated."""

    @abstractmethod
    def weights(self, returns: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """
        :param returns: returns of the remembered episodes, shape (n_episodes,)
        :param lengths: their lengths in steps, shape (n_episodes,)
        :return: non-negative weights, shape (n_episodes,)
        """


class UniformWeighting(Weighting):
    """Every episode counts the same (1912.02877 §2.3.3)."""

    def weights(self, returns: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return np.ones(len(returns))


class LengthWeighting(Weighting):
    """Every step counts the same, so that many short episodes do not outvote few long ones (2202.05607 §3)."""

    def weights(self, returns: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return lengths.astype(np.float64)


class ExponentialWeighting(Weighting):
    """
    exp(standardised episode return / temperature), after reward-conditioned policies (1912.13465 §4).

    :param temperature: the smaller, the more the best episodes count
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature={temperature} must be positive.")
        self.temperature = temperature

    def weights(self, returns: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        spread = returns.std()
        standardised = (returns - returns.max()) / spread if spread > 0 else np.zeros(len(returns))
        return np.exp(standardised / self.temperature)


WEIGHTINGS: dict[str, type[Weighting]] = {
    "uniform": UniformWeighting,
    "length": LengthWeighting,
    "exponential": ExponentialWeighting,
}
