"""Where the settings of an algorithm come from: the Zoo's tuned ones, ours, or the defaults of its constructor."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import rl_zoo3
import yaml
from gymnasium.envs.registration import parse_env_id
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS, get_wrapper_class

from sb3_udrl.policies import policy_name
from sb3_udrl.wrappers import strip_progress_space
from sb3_udrl.zoo import register
from sb3_udrl.zoo.envs import VARIANT_OF
from sb3_udrl.zoo.hyperparams import config_file

register()

UDRL_DEFAULTS = "udrl_defaults"


@dataclass(frozen=True)
class Algorithm:
    """
    What a name on the command line stands for.

    :param label: what it is called in the report
    :param zoo_name: the Zoo's name of its class
    :param config: file with its settings by environment; None for the defaults of the constructor
    """

    label: str
    zoo_name: str
    config: Path | None


@dataclass(frozen=True)
class Settings:
    """
    Settings as the Zoo's files hold them.

    :param hyperparams: arguments of the algorithm, and the Zoo's own keys (``n_envs``, ``normalize``, ...)
    :param source: where they come from, for the report
    :param n_timesteps: environment steps that they are meant for; None when nobody said
    """

    hyperparams: dict[str, Any]
    source: str
    n_timesteps: int | None


def find_algorithm(text: str) -> Algorithm:
    """
    :param text: ``NAME`` or ``LABEL=NAME``, where the name is one of the Zoo's (``udrl`` among them), a configuration
        of UDRL that comes with this package (``udrl_srivastava2019``), or ``udrl_defaults``
    :return: the algorithm
    :raises ValueError: when there is none of that name
    """
    label, _, name = text.rpartition("=")
    if name == UDRL_DEFAULTS:
        return Algorithm(label or name, "udrl", None)
    if name == "udrl" or name.startswith("udrl_"):
        try:
            return Algorithm(label or name, "udrl", config_file(name))
        except FileNotFoundError as error:
            raise ValueError(f"Unknown algorithm {name!r}: {error}") from None
    if name not in ALGOS:
        close = difflib.get_close_matches(name, ALGOS, n=1)
        hint = f"did you mean {close[0]!r}? There are" if close else "use one of"
        raise ValueError(f"Unknown algorithm {name!r}: {hint} {', '.join(sorted(ALGOS))}, {UDRL_DEFAULTS}.")
    return Algorithm(label or name, name, Path(rl_zoo3.__file__).parent / "hyperparams" / f"{name}.yml")


def tuned_settings(algorithm: Algorithm, env_id: str, env_settings: dict[str, Any]) -> Settings | None:
    """
    :param algorithm: an algorithm
    :param env_id: a registered environment
    :param env_settings: ``env_kwargs`` and ``env_wrapper``, as in the Zoo's files
    :return: its settings, those for another version of the environment where there are none for this one; None where
        its own configuration has none. Algorithms of others that nobody has tuned for this environment run with the
        defaults of their constructor, and so does UDRL with ``udrl_defaults``
    """
    entries = {} if algorithm.config is None else yaml.safe_load(algorithm.config.read_text())
    original = [VARIANT_OF[env_id]] if env_id in VARIANT_OF else []
    atari = ["atari"] if ExperimentManager.is_atari(env_id) else []
    names = [env_id, *original, *atari, *_other_versions(env_id, entries), "default"]
    name = next((name for name in names if name in entries), None)
    if name is None and algorithm.zoo_name == "udrl" and algorithm.config is not None:
        return None
    hyperparams = dict(entries[name]) if name is not None else {}
    n_timesteps = hyperparams.pop("n_timesteps", None)
    if name in (None, "default"):
        hyperparams["policy"] = policy_for(algorithm.zoo_name, env_id, env_settings)
    if name is None:
        source = "defaults of the constructor"
        if algorithm.zoo_name == "udrl":
            hyperparams["n_envs"] = 8
    else:
        assert algorithm.config is not None
        source = f"{'ours' if algorithm.zoo_name == 'udrl' else 'RL Zoo'}, {algorithm.config.name}, {name!r}"
        source += " (nobody tuned it here)" if name == "default" else ""
    return Settings(hyperparams, source, None if n_timesteps is None or name == "default" else math.ceil(n_timesteps))


def _other_versions(env_id: str, entries: Iterable[str]) -> list[str]:
    """:return: the entries for the same environment of any version, newest first: the Zoo tuned Hopper-v4, not -v5"""
    *wanted, _ = parse_env_id(env_id)
    parsed = [(parse_env_id(entry), entry) for entry in entries]
    versions = [(version, entry) for (*name, version), entry in parsed if name == wanted and version is not None]
    return [entry for _, entry in sorted(versions, reverse=True)]


def policy_for(zoo_name: str, env_id: str, env_settings: dict[str, Any]) -> str:
    """
    :param zoo_name: the Zoo's name of an algorithm
    :param env_id: a registered environment
    :param env_settings: ``env_kwargs`` and ``env_wrapper``, as in the Zoo's files
    :return: SB3's name of the algorithm's policy that takes its observations
    :raises ValueError: when the environment cannot be made so
    """
    try:
        with contextlib.closing(gym.make(env_id, **env_settings.get("env_kwargs", {}))) as env:
            wrap = get_wrapper_class(dict(env_settings))
            space = (env if wrap is None else wrap(env)).observation_space
    except Exception as error:  # whatever environments and wrappers raise
        made_with = "".join(f" with {key}={value}" for key, value in env_settings.items())
        raise ValueError(
            f"{env_id} cannot be made{made_with} ({type(error).__name__}: {error}): try gymnasium.make, and check "
            "--env-kwargs and --env-wrapper."
        ) from error
    if zoo_name == "udrl":
        space = strip_progress_space(space)
    name = policy_name(space)
    recurrent = name.replace("Policy", "LstmPolicy")
    return recurrent if recurrent in ALGOS[zoo_name].policy_aliases else name
