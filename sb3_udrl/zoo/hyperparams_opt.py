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
    :param n_actions: first dimension of Box actions, 0 for others, as the Zoo passes it
    :param n_envs: number of environments; unused, since updates count per environment step or per episode
    :param additional_args: unused
    :return: arguments of UDRL
    """
    trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True)
    trial.suggest_int("batch_size_pow", 6, 10)
    _suggest_episodes(trial)
    _suggest_commands(trial)
    _suggest_exploration(trial)
    _suggest_updates(trial)
    trial.suggest_categorical("command_layer", ["gated", "product", "bilinear"])
    trial.suggest_categorical("net_arch", sorted(NET_ARCHS))
    trial.suggest_categorical("activation_fn", sorted(ACTIVATIONS))
    trial.suggest_categorical("normalize_features", [True, False])
    trial.suggest_float("dropout_rate", 0.0, 0.5)
    if n_actions > 0:
        trial.suggest_categorical("n_action_bins", [None, 3, 5, 11])
    return convert_udrl_params(trial.params)


def _suggest_episodes(trial: optuna.Trial) -> None:
    """Draw which episodes are remembered, and what is learned from them."""
    trial.suggest_int("buffer_size_pow", 4, 10)
    retention = trial.suggest_categorical("retention", ["best", "recent", "best+recent", "best+spread"])
    if retention.startswith("best+"):
        trial.suggest_float("best_fraction", 0.1, 0.9)
    if trial.suggest_categorical("segments", ["deadline", "trailing", "uniform"]) == "deadline":
        trial.suggest_int("max_horizon", 10, 1000, log=True)
    if trial.suggest_categorical("weighting", ["uniform", "length", "exponential"]) == "exponential":
        trial.suggest_float("temperature", 0.2, 5.0, log=True)


def _suggest_commands(trial: optuna.Trial) -> None:
    """Draw what is asked for."""
    sampler = trial.suggest_categorical("command_sampler", ["more", "best_episode", "mean_std"])
    if sampler != "more":
        trial.suggest_int("last_few_pow", 0, 6)
        if sampler == "best_episode":
            trial.suggest_float("max_factor", 1.0, 3.0)
        else:
            trial.suggest_float("n_stds", 0.5, 10.0, log=True)
    # "More than ever" can be had from no state: it has to be clipped to what can
    if sampler == "more" or trial.suggest_categorical("clip_to_achievable", [True, False]):
        trial.suggest_float("above_expectile", 0.003, 0.3, log=True)
        relabeling = trial.suggest_categorical("relabeling", ["n_step", "hindsight"])
        if relabeling == "n_step" and trial.suggest_categorical("less_luck", [False, True]):
            trial.suggest_float("luck", 0.03, 0.5, log=True)
            if trial.suggest_categorical("hope_fades", [False, True]):
                trial.suggest_float("hope_fraction", 0.1, 1.0)
        if trial.suggest_categorical("weight_by_advantage", [True, False]):
            trial.suggest_float("advantage_temperature", 0.3, 3.0, log=True)


def _suggest_exploration(trial: optuna.Trial) -> None:
    """Draw how often training acts at random, and for how many steps at a time."""
    trial.suggest_int("warm_up_duration", 1, 100, log=True)
    if trial.suggest_categorical("random_actions", [False, True]):
        trial.suggest_float("exploration_eps", 1e-4, 0.1, log=True)
        trial.suggest_int("exploration_duration", 1, 100, log=True)
        trial.suggest_float("exploration_fraction", 0.1, 1.0)


def _suggest_updates(trial: optuna.Trial) -> None:
    """Draw how much is learned, by environment steps or by episodes."""
    if trial.suggest_categorical("updates_per", ["step", "episode"]) == "step":
        trial.suggest_float("updates_per_step", 0.05, 0.99, log=True)
    else:
        trial.suggest_int("updates_per_episode", 1, 20, log=True)
        trial.suggest_int("episodes_per_iteration", 1, 50, log=True)


def convert_udrl_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: what a trial holds, as :func:`sample_udrl_params` drew it
    :return: arguments of UDRL
    """
    params = dict(sampled_params)
    sampler = _variant(params, "command_sampler", "max_factor", "n_stds")
    if "last_few_pow" in params:
        sampler[params["command_sampler"]]["last_few"] = 2 ** params["last_few_pow"]
    per_step = params["updates_per"] == "step"
    episodes = 1 if per_step else params["episodes_per_iteration"]
    return {
        "learning_rate": params["learning_rate"],
        "batch_size": 2 ** params["batch_size_pow"],
        "buffer_size": 2 ** params["buffer_size_pow"],
        "train_freq": (episodes, "episode"),
        "gradient_steps": params["updates_per_step"] if per_step else episodes * params["updates_per_episode"],
        "retention": _variant(params, "retention", "best_fraction"),
        "segments": _variant(params, "segments", "max_horizon"),
        "command_sampler": sampler,
        "weighting": _variant(params, "weighting", "temperature"),
        "relabeling": params.get("relabeling", "hindsight"),
        "advantage_temperature": params.get("advantage_temperature"),
        "hope_fraction": params.get("hope_fraction"),
        "warm_up_duration": params["warm_up_duration"],
        "exploration_eps": params.get("exploration_eps", 0.0),
        "exploration_duration": params.get("exploration_duration", 1),
        "exploration_fraction": params.get("exploration_fraction", 1.0),
        "policy_kwargs": {
            "achievable_expectile": 1 - params["above_expectile"] if "above_expectile" in params else None,
            "luck": params.get("luck", 1.0),
            "command_layer": params["command_layer"],
            "net_arch": NET_ARCHS[params["net_arch"]],
            "activation_fn": ACTIVATIONS[params["activation_fn"]],
            "normalize_features": params["normalize_features"],
            "dropout_rate": params["dropout_rate"],
            "n_action_bins": params.get("n_action_bins"),
        },
    }


def _variant(params: dict[str, Any], argument: str, *names: str) -> dict[str, dict[str, Any]]:
    """:return: the variant that was drawn for an argument, with those of its own arguments that were drawn"""
    return {params[argument]: {name: params[name] for name in names if name in params}}
