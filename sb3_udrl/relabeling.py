"""How much of an example's desired return is what came, and how much what is to be expected."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Relabeling(ABC):
    """After how many steps of a segment its return is taken from what is to be expected, instead of what came."""

    @abstractmethod
    def n_steps(self, horizons: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """
        :param horizons: desired horizons of the examples in steps, shape (B,)
        :param rng: source of randomness
        :return: how many steps count as they came, at least 1, shape (B,); None for all
        """


class HindsightRelabeling(Relabeling):
    """All of them: examples say what was got, to the letter (1912.02877 §2.2.1)."""

    def n_steps(self, horizons: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        return None


class NStepRelabeling(Relabeling):
    """
    The first n steps; for the rest of the horizon what is to be expected from the state after them, as the n-step
    return of temporal-difference learning has it.

    What came after n steps was the doing of later actions, and luck. With an estimate in its place an example tells
    how much *this* action, and the next few, are worth (2205.15967, "You Can't Count on Luck", makes the same case).
    It is learned from whole segments, not from its own estimates, and is their mean, or with less ``luck`` a high
    expectile, what is to be hoped for (:class:`sb3_udrl.torch_layers.AchievableReturn`).

    n is log-uniform up to the horizon, rounded up, so that it is at least 2 where the horizon is. All scales count
    alike: nothing needs to be chosen, and short stretches before an end, from which commands for little are learned,
    are mostly taken as they came.
    """

    def n_steps(self, horizons: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        return np.ceil(horizons ** rng.random(len(horizons))).astype(np.int64)


RELABELINGS: dict[str, type[Relabeling]] = {"hindsight": HindsightRelabeling, "n_step": NStepRelabeling}
