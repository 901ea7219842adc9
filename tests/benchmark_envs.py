"""Environments that the benchmark's tests register: ``--env-module benchmark_envs``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym
from toy_envs import PayoutEnv

SEEDS: list[int] = []  # that environments of this process were reset with


class SeedsEnv(PayoutEnv):
    """Remembers what seeds it was reset with."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if seed is not None:
            SEEDS.append(seed)
        return super().reset(seed=seed, options=options)


class FailingEnv(PayoutEnv):
    """
    Goes wrong in training with one seed, after 100 steps.

    :param bad_seed: which
    :param dies: whether it takes its process with it
    """

    def __init__(self, bad_seed: int = 1, dies: bool = False) -> None:
        super().__init__()
        self.bad_seed = bad_seed
        self.dies = dies
        self.is_bad = False
        self.n_steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        self.is_bad = self.is_bad or seed == self.bad_seed
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.n_steps += 1
        if self.is_bad and self.n_steps > 100:
            if self.dies:
                os._exit(1)
            raise RuntimeError("the motor burned out")
        return super().step(action)


class DiaryEnv(PayoutEnv):
    """
    Writes seed and process when it is reset with a seed, so that a test can count trainings.

    :param diary: the file
    """

    def __init__(self, diary: str) -> None:
        super().__init__()
        self.diary = Path(diary)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if seed is not None:
            with self.diary.open("a") as file:
                file.write(f"{seed} {os.getpid()}\n")
        return super().reset(seed=seed, options=options)


for _class in (PayoutEnv, SeedsEnv, FailingEnv, DiaryEnv):
    gym.register(f"{_class.__name__.removesuffix('Env')}-v0", _class, max_episode_steps=20, reward_threshold=15.0)
