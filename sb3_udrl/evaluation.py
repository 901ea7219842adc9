"""Does the model do what it is told? Commanded against achieved return."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_udrl.commands import Command
from sb3_udrl.udrl import UDRL
from sb3_udrl.wrappers import VecEpisodeProgress, has_progress, split_progress, strip_progress_space


def evaluate_command(
    model: UDRL,
    env: GymEnv | str,
    command: tuple[float, float] | None = None,
    n_eval_episodes: int = 20,
    deterministic: bool = True,
) -> dict[str, Any]:
    """
    Run episodes under one command, counted down exactly, and see what comes of it.

    With several environments each one runs its share of the episodes, so that short ones are not favoured
    (as in SB3's ``evaluate_policy``).

    :param model: a model
    :param env: environment, vectorised environment, or id; wrapped like the one trained in, with or without
        EpisodeProgress
    :param command: (desired_return, desired_horizon); default: the model's evaluation command
    :param n_eval_episodes: number of episodes, at least 1
    :param deterministic: whether to take the most likely action instead of a random one
    :return: a record: ``desired_return``, ``desired_horizon``, ``mean_return``, ``std_return``, ``mean_length``, and
        the lists ``returns`` and ``lengths`` of all episodes, in the env's reward and steps
    :raises ValueError: when there are no episodes to run, nobody could obey the command, or the env wants other actions
    """
    if n_eval_episodes < 1:
        raise ValueError(f"n_eval_episodes={n_eval_episodes}: run at least one episode.")
    asked = model.command if command is None else Command(*command).checked()
    venv = _with_progress(env)
    if venv.action_space != model.action_space:
        raise ValueError(f"The model's actions are {model.action_space}, this environment wants {venv.action_space}.")
    returns, lengths = _run_episodes(model, venv, asked, n_eval_episodes, deterministic)
    return {
        "desired_return": asked.desired_return,
        "desired_horizon": asked.desired_horizon,
        "mean_return": float(np.mean(returns)),
        "std_return": float(np.std(returns)),
        "mean_length": float(np.mean(lengths)),
        "returns": returns,
        "lengths": lengths,
    }


def calibrate(
    model: UDRL,
    env: GymEnv | str,
    commands: Iterable[tuple[float, float]],
    n_eval_episodes: int = 20,
    deterministic: bool = True,
    progress_bar: bool = False,
) -> list[dict[str, Any]]:
    """
    Commanded against achieved return over many commands (1912.02877, Figure 6).

    ``pandas.DataFrame(calibrate(...))`` makes a table of it, and :func:`sb3_udrl.plotting.plot_calibration` a picture.

    :param model: a model
    :param env: environment, vectorised environment, or id
    :param commands: pairs of (desired_return, desired_horizon)
    :param n_eval_episodes: number of episodes for each
    :param deterministic: whether to take the most likely actions instead of random ones
    :param progress_bar: whether to show a progress bar (needs tqdm)
    :return: a record for each command, see :func:`evaluate_command`
    :raises ValueError: when there are no commands, or one that nobody could obey
    """
    checked = checked_commands(commands)
    if isinstance(env, str):
        env = make_vec_env(env)  # once for all commands
    iterator: Iterable[Command] = checked
    if progress_bar:
        if importlib.util.find_spec("tqdm") is None:
            raise ImportError('The progress bar needs tqdm: pip install "sb3-udrl[extra]", or pass progress_bar=False.')
        from tqdm import tqdm

        iterator = tqdm(checked, desc="Commands", unit="command")
    return [evaluate_command(model, env, command, n_eval_episodes, deterministic) for command in iterator]


def checked_commands(commands: Iterable[tuple[float, float]]) -> list[Command]:
    """
    :param commands: pairs of (desired_return, desired_horizon)
    :return: the same, each as a :class:`~sb3_udrl.commands.Command`
    :raises ValueError: when there are none, or one that nobody could obey
    """
    checked = [Command(*command).checked() for command in commands]
    if not checked:
        raise ValueError("There are no commands to evaluate: pass pairs of (desired_return, desired_horizon).")
    return checked


def mean_absolute_error(records: list[dict[str, Any]]) -> float:
    """
    How far achieved returns are from commanded ones, relative to the command.

    :param records: what :func:`calibrate` returned
    :return: mean over commands, without those of zero, of abs(mean_return - desired_return) / abs(desired_return)
    :raises ValueError: when no command is left
    """
    errors = [
        abs(record["mean_return"] - record["desired_return"]) / abs(record["desired_return"])
        for record in records
        if record["desired_return"] != 0
    ]
    if not errors:
        raise ValueError("A relative error needs a command other than zero.")
    return float(np.mean(errors))


def _with_progress(env: GymEnv | str) -> VecEnv:
    if isinstance(env, str):
        env = make_vec_env(env)
    venv = env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])
    return venv if has_progress(venv.observation_space) else VecEpisodeProgress(venv)


def _run_episodes(
    model: UDRL, env: VecEnv, command: Command, n_eval_episodes: int, deterministic: bool
) -> tuple[list[float], list[int]]:
    """:return: returns and lengths of the episodes, in the order in which they ended"""
    space = strip_progress_space(env.observation_space)
    left = np.array([(n_eval_episodes + i) // env.num_envs for i in range(env.num_envs)])
    returns: list[float] = []
    lengths: list[int] = []
    observations: Any = env.reset()
    while (left > 0).any():
        actions, _ = model.predict(observations, deterministic=deterministic, command=command)
        observations, _, dones, infos = env.step(actions)
        for i in np.flatnonzero(dones & (left > 0)):
            _, progress = split_progress(infos[i]["terminal_observation"], space)
            assert progress is not None
            returns.append(float(progress[0, 0]))
            lengths.append(int(progress[0, 1]))
        left -= dones & (left > 0)
    return returns, lengths
