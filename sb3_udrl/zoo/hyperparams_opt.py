"""The search space of UDRL for the Zoo's hyper-parameter optimisation."""

from __future__ import annotations

from typing import Any

import optuna
from torch import nn

NET_ARCHS = {"small": [64, 64], "medium": [128, 128], "big": [256, 256]}
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def sample_udrl_params(
    trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """
    Draw one setting.

    :param trial: Optuna's trial
    :param n_actions: number of actions; unused, the Zoo passes it to all samplers
    :param n_envs: number of environments; unused, since ``gradient_steps`` counts per environment step
    :param additional_args: unused
    :return: arguments of UDRL
    """
    trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True)
    trial.suggest_int("batch_size_pow", 6, 10)
    trial.suggest_int("buffer_size_pow", 4, 10)
    trial.suggest_float("gradient_steps", 0.05, 0.99, log=True)
    trial.suggest_categorical("retention", ["best", "recent", "best+recent", "best+spread"])
    trial.suggest_float("trailing", 0.0, 1.0)
    if trial.suggest_categorical("command_sampler", ["best_episode", "mean_std"]) == "best_episode":
        trial.suggest_float("max_factor", 1.0, 3.0)
    else:
        trial.suggest_float("n_stds", 0.5, 10.0, log=True)
    trial.suggest_int("last_few_pow", 0, 6)
    if trial.suggest_categorical("weighting", ["uniform", "exponential"]) == "exponential":
        trial.suggest_float("temperature", 0.2, 5.0, log=True)
    trial.suggest_categorical("command_layer", ["gated", "product", "bilinear"])
    trial.suggest_categorical("net_arch", sorted(NET_ARCHS))
    trial.suggest_categorical("activation_fn", sorted(ACTIVATIONS))
    return convert_udrl_params(trial.params)


def convert_udrl_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: what a trial holds, as :func:`sample_udrl_params` drew it
    :return: arguments of UDRL
    """
    params = dict(sampled_params)
    sampler, weighting = params.pop("command_sampler"), params.pop("weighting")
    ambition = "max_factor" if sampler == "best_episode" else "n_stds"
    return {
        "learning_rate": params["learning_rate"],
        "batch_size": 2 ** params["batch_size_pow"],
        "buffer_size": 2 ** params["buffer_size_pow"],
        "gradient_steps": params["gradient_steps"],
        "retention": params["retention"],
        "segments": params["trailing"],
        "command_sampler": {sampler: {"last_few": 2 ** params["last_few_pow"], ambition: params[ambition]}},
        "weighting": {weighting: {"temperature": params["temperature"]} if weighting == "exponential" else {}},
        "policy_kwargs": {
            "command_layer": params["command_layer"],
            "net_arch": NET_ARCHS[params["net_arch"]],
            "activation_fn": ACTIVATIONS[params["activation_fn"]],
        },
    }
