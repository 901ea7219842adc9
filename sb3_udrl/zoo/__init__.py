"""UDRL in the RL Baselines3 Zoo: ``python -m sb3_udrl.zoo train --algo udrl --env CartPole-v1``."""

from __future__ import annotations

from sb3_udrl.udrl import UDRL
from sb3_udrl.zoo.envs import register_envs

__all__ = ["register"]


def register(udrl_class: type[UDRL] = UDRL) -> None:
    """
    Make ``--algo udrl`` known to the RL Zoo of this process, and the environments of the papers.

    The Zoo has no plug-in mechanism, but all its modules share these three dictionaries.

    :param udrl_class: the class behind the name
    :raises ModuleNotFoundError: when the Zoo is not installed
    """
    # Only here, so that the command line can say what to install
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
    from rl_zoo3.utils import ALGOS

    from sb3_udrl.zoo.hyperparams_opt import convert_udrl_params, sample_udrl_params

    ALGOS["udrl"] = udrl_class
    HYPERPARAMS_SAMPLER["udrl"] = sample_udrl_params
    HYPERPARAMS_CONVERTER["udrl"] = convert_udrl_params
    register_envs()
