"""On which batches an update learns, and when it has learned enough."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
from stable_baselines3.common.vec_env import VecNormalize

from sb3_udrl.arguments import positive_int
from sb3_udrl.buffer import CommandBatch, EpisodeBuffer


class TrainingSchedule(ABC):
    """On which batches an update learns, and when it has learned enough."""

    @abstractmethod
    def batches(
        self,
        buffer: EpisodeBuffer,
        batch_size: int,
        rng: np.random.Generator,
        env: VecNormalize | None,
        loss: Callable[[CommandBatch], float],
    ) -> Iterator[CommandBatch]:
        """
        One gradient step is made on each batch before the next is asked for.

        :param buffer: the remembered episodes
        :param batch_size: examples per gradient step
        :param rng: source of randomness
        :param env: normalises the observations, see :meth:`EpisodeBuffer.sample`
        :param loss: what the network, as it is by now, loses on examples that it does not learn from
        :return: the batches
        """

    def logs(self) -> dict[str, float]:
        """:return: what to log of the last update, by key"""
        return {}


class FixedSteps(TrainingSchedule):
    """
    A fixed number of independent batches (1912.02877 §2.3.3).

    :param gradient_steps: how many
    """

    def __init__(self, gradient_steps: int) -> None:
        self.gradient_steps = gradient_steps

    def batches(
        self,
        buffer: EpisodeBuffer,
        batch_size: int,
        rng: np.random.Generator,
        env: VecNormalize | None,
        loss: Callable[[CommandBatch], float],
    ) -> Iterator[CommandBatch]:
        for _ in range(self.gradient_steps):
            yield buffer.sample(batch_size, rng, env)


class Epochs(TrainingSchedule):
    """
    Passes over one example of each episode, until episodes that are held out are predicted no better.

    Of every remembered episode one segment is drawn; a pass makes gradient steps on those of the episodes that are not
    held out, in random order and in batches of at most ``batch_size``, so ``weighting`` plays no part. An update ends
    when ``patience`` passes have brought no smaller loss on the held-out ones. The weights stay as the last pass left
    them, not as they were when that loss was smallest, as in the PyPI package upside-down-rl.

    Whether an episode is held out depends only on how many came before it, so that it stays so for all updates.

    :param max_epochs: the most passes per update
    :param patience: how many passes to go on without a smaller loss on the held-out episodes
    :param validation_fraction: the share of all episodes that is held out
    :param resample: whether each pass draws new segments; otherwise all passes of an update go over the same ones
    :raises ValueError: when one of them is out of range
    """

    def __init__(
        self, max_epochs: int = 100, patience: int = 10, validation_fraction: float = 0.25, resample: bool = True
    ) -> None:
        if not 0 < validation_fraction < 1:
            raise ValueError(f"validation_fraction={validation_fraction} must lie between 0 and 1.")
        self.max_epochs = positive_int("max_epochs", max_epochs, "passes")
        self.patience = positive_int("patience", patience, "passes")
        self.validation_fraction = validation_fraction
        self.resample = resample
        self.n_epochs = 0
        """How many passes the last update made."""
        self.validation_losses: list[float] = []
        """The loss on the held-out episodes after each of them; empty where there were too few to hold one out."""

    def is_held_out(self, numbers: np.ndarray) -> np.ndarray:
        """
        :param numbers: how many episodes came before each, shape (n_episodes,)
        :return: whether they are held out, shape (n_episodes,)
        """
        # Multiples of the golden ratio are spread evenly, and out of step with any number of environments
        return numbers * _GOLDEN_RATIO % 1.0 >= 1.0 - self.validation_fraction

    def batches(
        self,
        buffer: EpisodeBuffer,
        batch_size: int,
        rng: np.random.Generator,
        env: VecNormalize | None,
        loss: Callable[[CommandBatch], float],
    ) -> Iterator[CommandBatch]:
        self.n_epochs, self.validation_losses = 0, []
        held_out = self.is_held_out(buffer.numbers)
        if len(buffer) > 0 and held_out.all():
            return
        examples = buffer.draw(np.flatnonzero(~held_out), rng, env)
        validation = buffer.draw(np.flatnonzero(held_out), rng, env) if held_out.any() else None
        for epoch in range(self.max_epochs):
            if self.resample and epoch > 0:
                examples = buffer.draw(np.flatnonzero(~held_out), rng, env)
            order = rng.permutation(len(examples.actions))
            for start in range(0, len(order), batch_size):
                yield examples.take(order[start : start + batch_size])
            self.n_epochs += 1
            if validation is not None:
                self.validation_losses.append(loss(validation))
                if epoch - np.argmin(self.validation_losses) >= self.patience:
                    return

    def logs(self) -> dict[str, float]:
        return {
            "epochs": self.n_epochs,
            **({"validation_loss": self.validation_losses[-1]} if self.validation_losses else {}),
        }


_GOLDEN_RATIO = (1 + 5**0.5) / 2

TRAINING_SCHEDULES: dict[str, type[TrainingSchedule]] = {"epochs": Epochs}
