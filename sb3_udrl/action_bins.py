"""Box actions as choices between a few values."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch as th
from gymnasium import spaces

Numbers = TypeVar("Numbers", np.ndarray, th.Tensor)


class ActionBins:
    """
    Each dimension of a Box action is one of a few values, equally spaced between its bounds (1901.10500).

    To the networks they are choices: a categorical distribution has no hump between two actions that were done, and
    what an action is worth may be a step function of it. To the env and the buffer they are what they stand for
    (rounded, for an env that wants integers).

    :param n_bins: how many values
    :param action_space: the env's
    :raises ValueError: when they are not at least two
    """

    def __init__(self, n_bins: int, action_space: spaces.Box) -> None:
        if not (isinstance(n_bins, (int, float, np.number)) and n_bins >= 2 and float(n_bins).is_integer()):
            raise ValueError(
                f"n_action_bins={n_bins}: use a whole number, at least 2, or None for a normal distribution."
            )
        self.n_bins = int(n_bins)
        self.space = spaces.MultiDiscrete([self.n_bins] * int(np.prod(action_space.shape)))
        """What the networks see instead of the env's action space"""

    def values(self, bins: Numbers) -> Numbers:
        """
        :param bins: from 0 to ``n_bins - 1``, any shape
        :return: what they stand for, from -1 to 1, same shape
        """
        return bins * (2.0 / (self.n_bins - 1)) - 1.0

    def nearest(self, values: th.Tensor) -> th.Tensor:
        """
        :param values: any shape; what is beyond -1 and 1 is clipped, as on the way to the env
        :return: the bins that stand for what is nearest to them, same shape
        """
        return ((values.clamp(-1.0, 1.0) + 1.0) / 2.0 * (self.n_bins - 1)).round()

    def snap(self, values: np.ndarray) -> np.ndarray:
        """
        :param values: from -1 to 1, any shape
        :return: values of bins instead, same shape; of uniformly random ones every bin gets the same share
        """
        return self.values(np.floor((values + 1.0) / 2.0 * self.n_bins).clip(0, self.n_bins - 1))
