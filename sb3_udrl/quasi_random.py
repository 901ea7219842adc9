"""Deterministic actions that are as frequent as the policy wants them to be."""

from __future__ import annotations

import numpy as np
import torch as th
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    Distribution,
    MultiCategoricalDistribution,
)


def quasi_random_actions(distribution: Distribution, steps: np.ndarray, temperature: float) -> th.Tensor:
    """
    Sample with quasi-random numbers, which depend on the step alone, in place of random ones.

    A policy that fires its engine in four steps of ten is not the one that never does, and the latter has never been
    practised. These actions are spread as evenly over time as they can be: the policy that was practised, without its
    chance. The first action of an episode is the most likely one. Continuous actions are the most likely ones always:
    their mean needs no taking turns.

    :param distribution: the distributions over actions of B environments
    :param steps: steps that their episodes have lasted, shape (B,)
    :param temperature: actions are as frequent as p ** (1 / temperature) says: 1 for as frequent as they are likely,
        0 for the most likely ones only
    :return: the actions, shape (B, *action_shape)
    """
    if temperature == 0:
        return distribution.mode()
    if isinstance(distribution, CategoricalDistribution):
        return _choose([distribution.distribution.probs], steps, temperature).squeeze(1)
    if isinstance(distribution, MultiCategoricalDistribution):
        return _choose([part.probs for part in distribution.distribution], steps, temperature)
    if isinstance(distribution, BernoulliDistribution):
        ones = distribution.distribution.probs
        return _choose(list(th.stack([1 - ones, ones], dim=2).unbind(dim=1)), steps, temperature)
    return distribution.mode()


def _choose(probs: list[th.Tensor], steps: np.ndarray, temperature: float) -> th.Tensor:
    """
    :param probs: of each dimension D of the actions the probabilities of its n choices, shape (B, n)
    :param steps: shape (B,)
    :param temperature: above 0
    :return: the choices, shape (B, D)
    """
    choices = [
        _invert(_sharpen(p, temperature), number) for p, number in zip(probs, _numbers(steps, len(probs)), strict=True)
    ]
    return th.stack(choices, dim=1)


def _sharpen(probs: th.Tensor, temperature: float) -> th.Tensor:
    """:return: probabilities in proportion to p ** (1 / temperature), shape (B, n)"""
    powers = (probs / probs.max(dim=1, keepdim=True).values) ** (1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def _invert(probs: th.Tensor, numbers: th.Tensor) -> th.Tensor:
    """
    :param probs: probabilities of n choices, shape (B, n)
    :param numbers: from 0 to 1, shape (B,)
    :return: the choices at which the sum of probabilities, the most likely ones first, exceeds the numbers, shape (B,)
    """
    probs, choices = probs.sort(dim=1, descending=True, stable=True)
    index = (probs.cumsum(dim=1) <= numbers.to(probs.device).unsqueeze(1)).sum(dim=1)
    return choices.gather(1, index.clamp(max=probs.shape[1] - 1).unsqueeze(1)).squeeze(1)


def _numbers(steps: np.ndarray, n_dims: int) -> list[th.Tensor]:
    """
    The fractional parts of multiples of the golden ratio, of which each falls into one of the widest gaps that those
    before it have left; for more dimensions of the powers of its generalisation.

    :param steps: shape (B,)
    :param n_dims: how many numbers each step needs
    :return: numbers from 0 to 1 for each dimension, float32, 0 at the first step, each of shape (B,)
    """
    ratio = 1.0
    for _ in range(64):  # the root of x ** (n_dims + 1) = x + 1
        ratio = (1 + ratio) ** (1 / (n_dims + 1))
    steps = steps.astype(np.float64)  # of a million steps float32 leaves no fractions
    return [th.as_tensor((steps * ratio**-i % 1).astype(np.float32)) for i in range(1, n_dims + 1)]
