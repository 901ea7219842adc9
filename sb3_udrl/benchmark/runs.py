"""What a run is, and which runs a study is made of."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from sb3_udrl.benchmark.seeding import EVALUATION_SEED
from sb3_udrl.benchmark.settings import Algorithm, find_algorithm, tuned_settings

N_EVALUATIONS = 20  # unless --eval-freq says otherwise
DEFAULT_TIMESTEPS = 100_000  # where no settings say otherwise
CALIBRATED = ("CartPole-v1",)  # without being asked, since there it is cheap and known


@dataclass(frozen=True)
class Run:
    """
    All that decides what comes out of one training. Equal settings have equal names.

    :param env: what the environment is called in the report
    :param env_id: Gymnasium's id
    :param algo: what the algorithm is called in the report
    :param zoo_name: the Zoo's name of its class
    :param seed: seed of training
    :param timesteps: environment steps
    :param eval_freq: environment steps between evaluations
    :param n_eval_episodes: episodes of each of them
    :param n_final_episodes: episodes of the last one, after training
    :param hyperparams: as in the Zoo's files
    :param source: where the hyper-parameters come from
    :param tuned_for: environment steps that they are meant for, if they say so
    :param env_modules: modules that register environments
    :param calibrate: whether to compare commanded and achieved returns at the end (UDRL only)
    :param deterministic: whether evaluation takes the most likely actions instead of random ones
    """

    env: str
    env_id: str
    algo: str
    zoo_name: str
    seed: int
    timesteps: int
    eval_freq: int
    n_eval_episodes: int
    n_final_episodes: int
    hyperparams: dict[str, Any]
    source: str
    tuned_for: int | None
    env_modules: tuple[str, ...] = ()
    calibrate: bool = False
    deterministic: bool = True

    @property
    def key(self) -> str:
        """:return: a hash of all settings"""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """:return: what its files are called"""
        return f"{file_name(self.env)}.{file_name(self.algo)}.{self.seed}.{self.key}"


@dataclass(frozen=True)
class Plan:
    """
    What the command line asks for.

    :param envs: ``ID`` or ``LABEL=ID``
    :param algos: ``NAME`` or ``LABEL=NAME``, see :func:`sb3_udrl.benchmark.settings.find_algorithm`
    :param seeds: seeds of training
    :param timesteps: environment steps of each run; None for those of our settings for the environment
    :param eval_freq: environment steps between evaluations; None for 20 of them in all
    :param n_eval_episodes: episodes of each evaluation
    :param n_final_episodes: episodes of the one after training
    :param hyperparams: what to change, by label of the algorithm
    :param env_kwargs: arguments of the environments
    :param env_wrapper: wrappers around them, as in the Zoo's files
    :param env_modules: modules that register environments
    :param calibrate: whether to compare UDRL's commanded and achieved returns wherever it runs
    :param deterministic: whether evaluation takes the most likely actions instead of random ones
    """

    envs: list[str]
    algos: list[str]
    seeds: range
    timesteps: int | None = None
    eval_freq: int | None = None
    n_eval_episodes: int = 20
    n_final_episodes: int = 100
    hyperparams: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    env_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    env_wrapper: list[Any] = dataclasses.field(default_factory=list)
    env_modules: tuple[str, ...] = ()
    calibrate: bool = False
    deterministic: bool = True

    @property
    def env_names(self) -> list[str]:
        """:return: what the environments are called in the report"""
        return [text.rpartition("=")[0] or text for text in self.envs]

    def runs(self) -> tuple[list[Run], dict[tuple[str, str], str]]:
        """
        :return: the runs, and why some pairs of (environment, algorithm) have none
        :raises ValueError: when an environment, an algorithm or a module does not exist, or a number cannot be
        """
        self._check_numbers()
        import_modules(self.env_modules)
        algorithms = [find_algorithm(text) for text in self.algos]
        self._check_labels(algorithms)
        runs: list[Run] = []
        skipped = {}
        for text in self.envs:
            label, _, env_id = text.rpartition("=")
            check_env(env_id)
            timesteps = self.timesteps or self._timesteps_of(env_id)
            for algorithm in algorithms:
                pair = self._runs_of(label or env_id, env_id, algorithm, timesteps)
                runs += pair
                if not pair:
                    skipped[label or env_id, algorithm.label] = f"{algorithm.label} has no settings for {env_id}"
        return runs, skipped

    def _timesteps_of(self, env_id: str) -> int:
        """:return: our own budget for the environment, the same for all algorithms"""
        settings = tuned_settings(find_algorithm("udrl"), env_id, self._env_settings())
        assert settings is not None
        return settings.n_timesteps or DEFAULT_TIMESTEPS

    def _env_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"env_kwargs": self.env_kwargs, "env_wrapper": self.env_wrapper}
        return {key: value for key, value in settings.items() if value}

    def _runs_of(self, env: str, env_id: str, algorithm: Algorithm, timesteps: int) -> list[Run]:
        """:return: a run for each seed; none where the algorithm has no settings for the environment"""
        settings = tuned_settings(algorithm, env_id, self._env_settings())
        if settings is None:
            return []
        changes = self.hyperparams.get(algorithm.label, {})
        hyperparams = {**settings.hyperparams, **changes}
        if self.env_kwargs:
            hyperparams["env_kwargs"] = {**hyperparams.get("env_kwargs", {}), **self.env_kwargs}
        if self.env_wrapper:
            tuned = hyperparams.get("env_wrapper") or []
            hyperparams["env_wrapper"] = [*(tuned if isinstance(tuned, list) else [tuned]), *self.env_wrapper]
        source = settings.source + (", changed: " + ", ".join(sorted(changes)) if changes else "")
        source += "" if self.deterministic else "; evaluated with sampled actions"
        return [
            Run(
                env=env,
                env_id=env_id,
                algo=algorithm.label,
                zoo_name=algorithm.zoo_name,
                seed=seed,
                timesteps=timesteps,
                eval_freq=self.eval_freq or max(timesteps // N_EVALUATIONS, 1),
                n_eval_episodes=self.n_eval_episodes,
                n_final_episodes=self.n_final_episodes,
                hyperparams=hyperparams,
                source=source,
                tuned_for=settings.n_timesteps,
                env_modules=self.env_modules,
                calibrate=algorithm.zoo_name == "udrl" and (self.calibrate or env_id in CALIBRATED),
                deterministic=self.deterministic,
            )
            for seed in self.seeds
        ]

    def _check_numbers(self) -> None:
        for name in ("timesteps", "eval_freq", "n_eval_episodes", "n_final_episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: use at least 1.")
        if len(self.seeds) == 0 or self.seeds[0] < 0 or self.seeds[-1] >= EVALUATION_SEED - 1000:
            raise ValueError(
                f"Seeds {self.seeds.start} to {self.seeds.stop - 1}: use at least one, from 0 to "
                f"{EVALUATION_SEED - 1001}. Evaluation uses those from {EVALUATION_SEED} on."
            )

    def _check_labels(self, algorithms: list[Algorithm]) -> None:
        labels = [algorithm.label for algorithm in algorithms]
        for what, names in (
            ("algorithm", labels),
            ("environment", self.env_names),
        ):
            double = sorted({name for name in names if names.count(name) > 1})
            if double:
                raise ValueError(f"The {what} {double[0]!r} is named twice: tell them apart, as in mine={double[0]}.")
        unknown = sorted(set(self.hyperparams) - set(labels))
        if unknown:
            raise ValueError(
                f"--hyperparams are for {unknown[0]!r}, which is none of the algorithms: {', '.join(labels)}."
            )
        if any("n_timesteps" in changes for changes in self.hyperparams.values()):
            raise ValueError("--hyperparams cannot change n_timesteps, which is the same for all: use --timesteps.")


def import_modules(names: Iterable[str]) -> None:
    """
    :param names: modules that register environments
    :raises ValueError: when one cannot be imported
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(
                f"--env-module {name}: {error}. It must be importable, as by: python -c 'import {name}'"
            ) from error


def check_env(env_id: str) -> None:
    """
    :param env_id: Gymnasium's id
    :raises ValueError: when there is no such environment
    """
    if env_id in gym.registry:
        return
    close = difflib.get_close_matches(env_id, gym.registry, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"Unknown environment {env_id!r}: {hint}--env-module imports a module that registers your own; "
        "python -c 'import gymnasium; gymnasium.pprint_registry()' lists those there are."
    )


def file_name(text: str) -> str:
    """
    :param text: any name
    :return: the same, with what file systems may not like replaced
    """
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)
