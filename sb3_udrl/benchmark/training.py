"""One run: train, evaluate at fixed step counts, and say what came of it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization

from sb3_udrl import UDRL
from sb3_udrl.benchmark.json_lines import significant
from sb3_udrl.benchmark.provenance import peak_memory, provenance, reset_peak_memory
from sb3_udrl.benchmark.runs import Run, import_modules
from sb3_udrl.benchmark.seeding import EVALUATION_SEED, random_states_kept
from sb3_udrl.benchmark.stopwatch import Stopwatch
from sb3_udrl.evaluation import calibrate

N_EVAL_ENVS = 20  # at most
N_COMMANDS = 9
N_COMMAND_EPISODES = 20
CARTPOLE_COMMANDS = [(float(desired_return), 500.0) for desired_return in range(50, 451, 50)]

Beat = Callable[[int, float], None]


class Unsuitable(Exception):
    """The algorithm cannot act in the environment."""


class Setup(ExperimentManager):
    """
    The Zoo's way from settings to a model, without its folders.

    :param run: what to set up
    :param folder: for temporary files
    :param device: where the networks run
    :param tensorboard: whether to log for TensorBoard, in the folder ``tensorboard``
    """

    def __init__(self, run: Run, folder: Path, device: str, tensorboard: bool = False) -> None:
        config = folder / "settings.yml"
        config.write_text(yaml.safe_dump({run.env_id: {**run.hyperparams, "n_timesteps": run.timesteps}}))
        super().__init__(
            argparse.Namespace(),
            run.zoo_name,
            run.env_id,
            str(folder / "zoo"),
            str(folder / "tensorboard") if tensorboard else "",
            n_timesteps=run.timesteps,
            env_kwargs=run.hyperparams.get("env_kwargs"),  # without this, evaluation would not have them
            eval_freq=-1,
            seed=run.seed,
            verbose=0,
            device=device,
            config=str(config),
        )

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """As the Zoo's, which would write a file for each training env."""
        return super().create_envs(n_envs, eval_env, no_log=True)

    def model(self) -> BaseAlgorithm:
        """
        :return: the model, with its training envs
        :raises Unsuitable: when the algorithm cannot act in the environment
        """
        set_random_seed(self.seed)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the Zoo prints what it reads
                experiment = self.setup_experiment()
        except AssertionError as error:
            # SB3 and the Zoo have no other word for it
            if "action space" not in str(error):
                raise
            raise Unsuitable(" ".join(str(error).split())) from error
        assert experiment is not None
        return experiment[0]


class Evaluation(BaseCallback):
    """
    Evaluates at fixed step counts without changing what is evaluated, and ends training when the budget is used up.

    SB3's on-policy algorithms round up to whole rollouts. Here no algorithm learns from a step beyond the budget.

    :param run: the run
    :param env: environments that training never sees
    :param stopwatch: times the phases
    :param beat: told how far training is
    """

    def __init__(self, run: Run, env: VecEnv, stopwatch: Stopwatch, beat: Beat) -> None:
        super().__init__()
        self.run = run
        self.env = env
        self.stopwatch = stopwatch
        self.beat = beat
        self.evaluations: list[dict[str, Any]] = []

    def evaluate(self, n_episodes: int) -> None:
        """
        Run episodes in the same environments, with the same seeds, each time.

        :param n_episodes: how many
        """
        # Looking must not change what is looked at
        seconds = self.stopwatch.learning_seconds()
        with self.stopwatch.during("evaluation"), random_states_kept():
            if self.model.get_vec_normalize_env() is not None:
                assert self.model.env is not None
                sync_envs_normalization(self.model.env, self.env)
            set_random_seed(EVALUATION_SEED)
            self.env.seed(EVALUATION_SEED)
            returns, lengths = evaluate_policy(
                self.model, self.env, n_episodes, deterministic=self.run.deterministic, return_episode_rewards=True
            )
            assert isinstance(returns, list)
            assert isinstance(lengths, list)
            self._log(returns, lengths)
        self.evaluations.append(
            {
                "step": self.model.num_timesteps,
                "seconds": round(seconds, 3),
                "returns": [significant(episode_return) for episode_return in returns],
                "lengths": lengths,
            }
        )
        self.beat(self.model.num_timesteps, float(np.mean(returns)))

    def _log(self, returns: list[float], lengths: list[int]) -> None:
        """For TensorBoard, under the names that SB3's EvalCallback uses."""
        self.logger.record("eval/mean_reward", float(np.mean(returns)))
        self.logger.record("eval/mean_ep_length", float(np.mean(lengths)))
        self.logger.dump(self.model.num_timesteps)

    def _on_training_start(self) -> None:
        self.evaluate(self.run.n_eval_episodes)
        self.stopwatch.switch("training")

    def _on_rollout_start(self) -> None:
        self.stopwatch.switch("acting")

    def _on_rollout_end(self) -> None:
        self.stopwatch.switch("training")

    def _on_step(self) -> bool:
        due = self.run.eval_freq * len(self.evaluations)
        if due <= self.num_timesteps < self.run.timesteps:
            self.evaluate(self.run.n_eval_episodes)
        return self.num_timesteps <= self.run.timesteps


def check(run: Run) -> None:
    """
    Build all that training needs, and throw it away.

    :param run: a run
    :raises Unsuitable: when the algorithm cannot act in the environment
    :raises ValueError: when its settings do not work
    """
    with tempfile.TemporaryDirectory() as folder, random_states_kept():
        try:
            setup = Setup(run, Path(folder), "cpu")
            model = setup.model()
            setup.create_envs(1, eval_env=True).close()
        except Unsuitable:
            raise
        except Exception as error:  # whatever algorithms and environments raise
            raise ValueError(f"{run.algo} cannot be set up on {run.env} ({type(error).__name__}: {error})") from error
        assert model.env is not None
        model.env.close()


def train(
    run: Run,
    beat: Beat,
    device: str = "cpu",
    save_model: bool = False,
    tensorboard: Callable[[Path], None] | None = None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """
    :param run: what to do
    :param beat: called with the step and the mean return of each evaluation
    :param device: where the networks run
    :param save_model: whether to return the model
    :param tensorboard: called with the folder of TensorBoard's files after each evaluation; None not to write any
    :return: what came of it, as JSON can hold it, and the files of the model by name
    """
    import_modules(run.env_modules)
    origin = provenance()  # now: the checkout may change while it trains
    reset_peak_memory()
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        setup = Setup(run, folder, device, tensorboard is not None)
        model = setup.model()
        eval_env = setup.create_envs(min(run.n_eval_episodes, N_EVAL_ENVS), eval_env=True)
        assert model.env is not None
        stack.callback(model.env.close)
        stack.callback(eval_env.close)
        # Not a wrapper, because algorithms look at what an environment is wrapped in
        model.env.step = stopwatch.timed("environment", model.env.step)  # type: ignore[method-assign]

        def beat_and_log(step: int, mean_return: float) -> None:
            beat(step, mean_return)
            if tensorboard is not None:
                tensorboard(folder / "tensorboard")

        evaluation = Evaluation(run, eval_env, stopwatch, beat_and_log)
        model.learn(run.timesteps, evaluation)
        stopwatch.switch(None)
        del model.env.step  # no longer timed, so that VecNormalize can be saved
        evaluation.evaluate(run.n_final_episodes)
        record = {
            "run": {**dataclasses.asdict(run), "key": run.key},
            "evaluations": evaluation.evaluations,
            "seconds": {phase: round(seconds, 3) for phase, seconds in stopwatch.seconds.items()},
            "peak_memory_mb": round(peak_memory(), 1),
            "arguments": constructor_arguments(model),
            **origin,
        }
        if run.calibrate:
            assert isinstance(model, UDRL)
            record["calibration"] = calibration(run, model, eval_env)
        return record, model_files(model, folder) if save_model else {}


def calibration(run: Run, model: UDRL, env: VecEnv) -> list[dict[str, float]]:
    """
    :param run: the run
    :param model: its model
    :param env: environments to evaluate in
    :return: commanded and achieved returns; none where nothing was seen to ask for, since no episode has ended
    """
    if len(model.replay_buffer) == 0:
        return []
    commands = CARTPOLE_COMMANDS
    if run.env_id != "CartPole-v1":
        returns = model.replay_buffer.returns
        horizon = model.command.desired_horizon
        commands = [(float(asked), horizon) for asked in np.linspace(returns.min(), returns.max(), N_COMMANDS)]
    with random_states_kept():
        set_random_seed(EVALUATION_SEED)
        env.seed(EVALUATION_SEED + N_EVAL_ENVS)
        records = calibrate(model, env, commands, N_COMMAND_EPISODES, run.deterministic)
    keys = ("desired_return", "desired_horizon", "mean_return", "std_return")
    return [{key: significant(record[key]) for key in keys} for record in records]


def constructor_arguments(model: BaseAlgorithm) -> dict[str, str]:
    """
    :param model: a model
    :return: what its constructor's arguments became, the defaults among them
    """
    names = set(inspect.signature(type(model)).parameters) - {"env", "policy", "tensorboard_log", "_init_setup_model"}
    return {name: str(getattr(model, name)) for name in sorted(names) if hasattr(model, name)}


def model_files(model: BaseAlgorithm, folder: Path) -> dict[str, bytes]:
    """
    :param model: a model
    :param folder: for temporary files
    :return: the model, and the statistics of VecNormalize if there are any
    """
    model.save(folder / "model.zip")
    files = {"model.zip": (folder / "model.zip").read_bytes()}
    vec_normalize = model.get_vec_normalize_env()
    if vec_normalize is not None:
        vec_normalize.save(str(folder / "vecnormalize.pkl"))
        files["vecnormalize.pkl"] = (folder / "vecnormalize.pkl").read_bytes()
    return files
