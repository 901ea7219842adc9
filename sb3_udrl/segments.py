"""Which stretches of episodes become examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from sb3_udrl.arguments import positive_int


class SegmentBatch(NamedTuple):
    """Stretches t1..t2 of B episodes of T steps each, with 0 <= t1 < t2 <= T."""

    t1: np.ndarray
    """The first step. Shape: (B,)"""

    t2: np.ndarray
    """The step after the last one. Shape: (B,)"""

    horizons: np.ndarray
    """The desired horizons in steps. Shape: (B,)"""


class Segments(ABC):
    """Which stretches t1..t2 of episodes become examples, and with which horizon."""

    @abstractmethod
    def sample(self, lengths: np.ndarray, terminated: np.ndarray, rng: np.random.Generator) -> SegmentBatch:
        """
        :param lengths: lengths T of the chosen episodes in steps, shape (B,)
        :param terminated: whether they ended by themselves, not by a time limit, shape (B,)
        :param rng: source of randomness
        :return: a stretch of each
        """


def _any_step(lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """:return: a uniformly random step of each episode, shape (B,)"""
    return (rng.random(len(lengths)) * lengths).astype(np.int64)


class TrailingSegments(Segments):
    """
    The papers' segments, whose horizon is their length t2 - t1: "exactly so much in exactly so many steps".

    t1 is uniform over the episode's steps. t2 is the end of the episode with probability ``trailing``
    (1 in 1912.02877 §2.3.3, .75 in the PyPI package upside-down-rl), otherwise uniform over the later steps.

    :param trailing: probability that a segment lasts until the episode's end
    :raises ValueError: when it is not a probability
    """

    def __init__(self, trailing: float = 1.0) -> None:
        if not 0 <= trailing <= 1:
            raise ValueError(f"segments={trailing} is a probability of trailing segments: it must lie between 0 and 1.")
        self.trailing = trailing

    def sample(self, lengths: np.ndarray, terminated: np.ndarray, rng: np.random.Generator) -> SegmentBatch:
        t1 = _any_step(lengths, rng)
        if self.trailing == 1:
            return SegmentBatch(t1, lengths, lengths - t1)
        t2 = t1 + 1 + (rng.random(len(lengths)) * (lengths - t1)).astype(np.int64)
        t2 = np.where(rng.random(len(lengths)) < self.trailing, lengths, t2)
        return SegmentBatch(t1, t2, t2 - t1)


class UniformSegments(TrailingSegments):
    """Any segments t1 < t2 (1912.02875, A2), t1 uniform, then t2 uniform over the later steps."""

    def __init__(self) -> None:
        super().__init__(0.0)


class DeadlineSegments(Segments):
    """
    The horizon is a deadline, "so much *within* so many steps", which an episode that terminates may beat.

    After its last step nothing more comes. So an episode that terminated after T steps is an example for every
    horizon beyond T as well, and from it the network learns which actions end an episode too early: with horizons
    that are the segments' lengths, in an environment that pays 1 per step, all commands read "r in r steps", whatever
    was done. An episode that was cut off by a time limit would have gone on, so there the horizon stays within it.

    t1 is uniform over the episode's steps. Half of the horizons are the longest one, the others uniform up to it.

    :param max_horizon: the longest horizon, in environment steps: how far ahead commands look (what discounting is to
        other algorithms). Later rewards do not count. Where a time limit cuts episodes of a batch off, it is at most
        half of the longest, so that half of the steps can be examples for it. None for twice the longest episode of a
        batch, so that everything counts.
    :raises ValueError: when ``max_horizon`` is not a whole number of at least one step
    """

    def __init__(self, max_horizon: int | None = 150) -> None:
        self.max_horizon = (
            None if max_horizon is None else positive_int("max_horizon", max_horizon, "environment steps")
        )

    def sample(self, lengths: np.ndarray, terminated: np.ndarray, rng: np.random.Generator) -> SegmentBatch:
        t1 = _any_step(lengths, rng)
        longest = self._longest(lengths, terminated)
        horizon = 1 + (rng.random(len(lengths)) * longest).astype(np.int64)
        horizon = np.where(rng.random(len(lengths)) < 0.5, longest, horizon)
        horizon = np.where(terminated, horizon, np.minimum(horizon, lengths - t1))
        return SegmentBatch(t1, np.minimum(t1 + horizon, lengths), horizon)

    def _longest(self, lengths: np.ndarray, terminated: np.ndarray) -> int:
        """:return: the longest horizon of a batch"""
        if self.max_horizon is None:
            return 2 * int(lengths.max())
        # What is asked for at every step is the longest horizon. If only the first steps before a time limit were
        # examples for it, all later ones would be asked for what was never seen from there
        return self.max_horizon if terminated.all() else max(1, min(self.max_horizon, int(lengths.max()) // 2))


SEGMENTS: dict[str, type[Segments]] = {
    "deadline": DeadlineSegments,
    "trailing": TrailingSegments,
    "uniform": UniformSegments,
}
