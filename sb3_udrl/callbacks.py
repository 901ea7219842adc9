"""Callbacks for training."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from copy import deepcopy

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from sb3_udrl.evaluation import calibrate, checked_commands, mean_absolute_error
from sb3_udrl.udrl import UDRL


class CalibrationCallback(BaseCallback):
    """
    Logs the calibration picture to TensorBoard while training, and its mean error to all logs.

    :param eval_env: environment to evaluate in; not the one that is trained in. With VecNormalize just if that has it;
        its statistics are then those of training, and evaluation does not move them
    :param commands: pairs of (desired_return, desired_horizon)
    :param eval_freq: environment steps between evaluations
    :param n_eval_episodes: episodes for each command
    :param deterministic: whether to take the most likely actions instead of random ones
    :raises ValueError: when there are no commands, or one that nobody could obey; when training starts, if not the same
        observations of the two are normalised
    :raises ImportError: when matplotlib is not installed
    """

    def __init__(
        self,
        eval_env: GymEnv,
        commands: Iterable[tuple[float, float]],
        eval_freq: int = 10_000,
        n_eval_episodes: int = 5,
        deterministic: bool = True,
    ) -> None:
        super().__init__()
        if importlib.util.find_spec("matplotlib") is None:
            raise ImportError('The calibration picture needs matplotlib: pip install "sb3-udrl[plots]".')
        self.eval_env = eval_env
        self.commands = checked_commands(commands)
        self.eval_freq = eval_freq
        self.n_eval_episodes = n_eval_episodes
        self.deterministic = deterministic
        self._last_evaluation: int | None = None

    def _on_training_start(self) -> None:
        self._follow_normalization()
        # A learn() that goes on counting steps goes on waiting, too
        if self._last_evaluation is None or self.num_timesteps < self._last_evaluation:
            self._last_evaluation = self.num_timesteps

    def _on_step(self) -> bool:
        assert self._last_evaluation is not None
        if self.num_timesteps - self._last_evaluation >= self.eval_freq:
            self._last_evaluation = self.num_timesteps
            self._log_calibration()
        return True

    def _follow_normalization(self) -> None:
        """:raises ValueError: when training and ``eval_env`` do not have their observations normalised alike"""
        ours = self.model.get_vec_normalize_env()
        theirs = unwrap_vec_normalize(self.eval_env) if isinstance(self.eval_env, VecEnv) else None
        normalized, others_normalized = _normalized(ours), _normalized(theirs)
        if normalized != others_normalized:
            raise ValueError(
                f"VecNormalize normalises {normalized} of training, but {others_normalized} of eval_env: wrap both "
                "likewise (EpisodeProgress in both or in neither, the same norm_obs_keys)."
            )
        if ours is not None and theirs is not None and ours.norm_obs:
            theirs.training = False
            theirs.obs_rms = deepcopy(ours.obs_rms)

    def _log_calibration(self) -> None:
        from matplotlib.figure import Figure as MplFigure  # matplotlib is optional

        from sb3_udrl.plotting import plot_calibration

        assert isinstance(self.model, UDRL)
        self._follow_normalization()
        records = calibrate(self.model, self.eval_env, self.commands, self.n_eval_episodes, self.deterministic)
        figure = MplFigure(figsize=(4.5, 4.5), layout="constrained")  # which pyplot does not keep open
        plot_calibration(records, figure.subplots())
        if any(record["desired_return"] != 0 for record in records):
            self.logger.record("calibration/mean_abs_error", mean_absolute_error(records))
        self.logger.record("calibration/figure", Figure(figure, close=False), exclude=("stdout", "log", "json", "csv"))


def _normalized(env: VecNormalize | None) -> str:
    """:return: which observations it normalises"""
    if env is None or not env.norm_obs:
        return "nothing"
    return f"the keys {sorted(env.obs_rms)}" if isinstance(env.obs_rms, dict) else "the observations"
