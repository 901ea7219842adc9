"""Callbacks for training."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import sync_envs_normalization

from sb3_udrl.evaluation import calibrate, checked_commands, mean_absolute_error
from sb3_udrl.udrl import UDRL


class CalibrationCallback(BaseCallback):
    """
    Logs the calibration picture to TensorBoard while training, and its mean error to all logs.

    :param eval_env: environment to evaluate in; not the one that is trained in
    :param commands: pairs of (desired_return, desired_horizon)
    :param eval_freq: environment steps between evaluations
    :param n_eval_episodes: episodes for each command
    :param deterministic: whether to take the most likely actions instead of random ones
    :raises ValueError: when there are no commands, or one that nobody could obey
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
        self._last_evaluation = 0

    def _on_training_start(self) -> None:
        self._last_evaluation = self.num_timesteps

    def _on_step(self) -> bool:
        if self.num_timesteps - self._last_evaluation >= self.eval_freq:
            self._last_evaluation = self.num_timesteps
            self._log_calibration()
        return True

    def _log_calibration(self) -> None:
        from matplotlib.pyplot import close  # matplotlib is optional

        from sb3_udrl.plotting import plot_calibration

        assert isinstance(self.model, UDRL)
        if self.model.get_vec_normalize_env() is not None:
            sync_envs_normalization(self.training_env, self.eval_env)  # type: ignore[arg-type]
        records = calibrate(self.model, self.eval_env, self.commands, self.n_eval_episodes, self.deterministic)
        figure = plot_calibration(records).get_figure(root=True)
        assert figure is not None
        close(figure)  # it can still be drawn, but does not stay open where nothing draws it
        if any(record["desired_return"] != 0 for record in records):
            self.logger.record("calibration/mean_abs_error", mean_absolute_error(records))
        self.logger.record("calibration/figure", Figure(figure, close=True), exclude=("stdout", "log", "json", "csv"))
