"""
How soon an environment is learned with default arguments, on each seed, and on CartPole-v1 how well the result obeys
commands: ``python -m sb3_udrl.benchmark.learning_curve --env CartPole-v1 --out FILE``.

Evaluation uses deterministic actions in environments with seeds that training never sees. One line of JSON is written
for each run when it is finished; runs that are in the file already are not repeated.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_udrl import UDRL
from sb3_udrl.benchmark import json_lines
from sb3_udrl.benchmark.json_lines import significant
from sb3_udrl.benchmark.provenance import provenance
from sb3_udrl.benchmark.seeding import EVALUATION_SEED, random_states_kept
from sb3_udrl.evaluation import calibrate, mean_absolute_error

SOLVED = {"CartPole-v1": 475.0}  # mean return
N_EVAL_EPISODES = 100
COMMANDS = {"CartPole-v1": [(float(desired_return), 500.0) for desired_return in range(50, 451, 50)]}
N_COMMAND_EPISODES = 20


def evaluate(model: PolicyPredictor, env: VecEnv) -> tuple[float, float]:
    """
    :param model: a model, asked for its evaluation command
    :param env: environments to evaluate in
    :return: mean and standard deviation of the returns of the same 100 episodes each time
    """
    with random_states_kept():
        env.seed(EVALUATION_SEED)
        mean, std = evaluate_policy(model, env, N_EVAL_EPISODES, deterministic=True)
    return float(mean), float(std)  # type: ignore[arg-type]


class RandomActions:
    """
    What to improve on: acts at random, as far as :func:`evaluate_policy` can tell from outside.

    :param env: environments to act in
    """

    def __init__(self, env: VecEnv) -> None:
        self.env = env
        env.action_space.seed(EVALUATION_SEED)

    def predict(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, None]:
        """:return: random actions, one for each environment, and no state, whatever SB3 passes"""
        return np.array([self.env.action_space.sample() for _ in range(self.env.num_envs)]), None


class LearningCurve(BaseCallback):
    """
    Evaluates at fixed step counts, and at the end.

    :param env: environments to evaluate in
    :param eval_freq: environment steps between evaluations
    """

    def __init__(self, env: VecEnv, eval_freq: int) -> None:
        super().__init__()
        self.env = env
        self.eval_freq = eval_freq
        self.points: list[tuple[int, float, float]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.eval_freq * (len(self.points) + 1):
            self._evaluate()
        return True

    def _on_training_end(self) -> None:
        if not self.points or self.points[-1][0] < self.num_timesteps:
            self._evaluate()

    def _evaluate(self) -> None:
        assert isinstance(self.model, UDRL)
        mean, std = evaluate(self.model, self.env)
        self.points.append((self.num_timesteps, significant(mean), significant(std)))


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """
    Train once.

    :param settings: ``env``, ``seed``, ``n_envs``, ``timesteps``, ``eval_freq``, and ``arguments`` of UDRL
    :return: the result, as it goes to the file
    """
    origin = provenance()  # now: the checkout may change while it trains
    th.set_num_threads(1)
    env_id, seed = settings["env"], settings["seed"]
    env = make_vec_env(env_id, 20, seed=EVALUATION_SEED)
    curve = LearningCurve(env, settings["eval_freq"])
    train_env = make_vec_env(env_id, settings["n_envs"], seed=seed)
    model = UDRL("MlpPolicy", train_env, seed=seed, device="cpu", **settings["arguments"])
    start = time.perf_counter()
    model.learn(settings["timesteps"], curve, log_interval=None)
    seconds = time.perf_counter() - start
    result = {
        **settings,
        "random": significant(evaluate(RandomActions(env), env)[0]),
        "final": curve.points[-1][1],
        "curve": curve.points,
        "seconds_with_evaluation": round(seconds),
        "defaults": {
            name: str(parameter.default)
            for name, parameter in inspect.signature(UDRL).parameters.items()
            if parameter.default is not inspect.Parameter.empty
        },
        **origin,
    }
    if env_id in SOLVED:
        result["first_solved"] = min((steps for steps, mean, _ in curve.points if mean >= SOLVED[env_id]), default=None)
    if env_id in COMMANDS:
        set_random_seed(EVALUATION_SEED)
        env.seed(EVALUATION_SEED + 1)
        records = calibrate(model, env, COMMANDS[env_id], N_COMMAND_EPISODES)
        result["calibration_error"] = significant(mean_absolute_error(records))
        keys = ("desired_return", "desired_horizon", "mean_return", "std_return")
        result["calibration"] = [{key: significant(record[key]) for key in keys} for record in records]
    return result


def read_results(path: Path) -> list[dict[str, Any]]:
    """
    :param path: a results file
    :return: its results by seed
    """
    return sorted(json_lines.read(path), key=lambda result: result["seed"])


def finished(path: Path, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    :param path: a results file, which may hold runs with other settings, too
    :param wanted: settings of runs
    :return: the results of those that are in it, by seed
    """
    return [result for result in read_results(path) if {key: result[key] for key in wanted[0]} in wanted]


def report(results: list[dict[str, Any]]) -> None:
    """
    Print what came of them.

    :param results: what :func:`run` returned, with the same settings but for the seed
    """
    print("| seed | steps to solve | first evaluation | best | at the end | error of commands |\n" + "|---" * 6 + "|")
    for result in results:
        returns = [mean for _, mean, _ in result["curve"]]
        error = f"{100 * result['calibration_error']:.1f} %" if "calibration_error" in result else "-"
        print(
            f"| {result['seed']} | {result.get('first_solved', '-')} | {returns[0]:.1f} | {max(returns):.1f} | "
            f"{returns[-1]:.1f} | {error} |"
        )
    finals = [result["final"] for result in results]
    random = f"; acting at random {results[0]['random']:.1f}" if "random" in results[0] else ""
    print(f"\nReturn at the end: mean {np.mean(finals):.1f}, worst {min(finals):.1f}{random}")
    solved = [result["first_solved"] for result in results if result.get("first_solved") is not None]
    if solved:
        print(
            f"{len(solved)} of {len(results)} seeds solved it, after {np.mean(solved):.0f} steps on average, "
            f"{max(solved)} at worst"
        )
    errors = [result["calibration_error"] for result in results if "calibration_error" in result]
    if errors:
        print(f"Error of commands: median {100 * np.median(errors):.1f} %, worst {100 * max(errors):.1f} %")


def draw(results: list[dict[str, Any]], figure_path: Path) -> None:
    """
    Draw learning curves and calibration, one line for each seed.

    :param results: what :func:`run` returned, with the same settings but for the seed
    :param figure_path: where the picture goes
    """
    from matplotlib import pyplot as plt  # optional

    from sb3_udrl.plotting import plot_calibration

    calibration = [record for result in results for record in result.get("calibration", [])]
    figure, axes = plt.subplots(1, 2 if calibration else 1, figsize=(9, 4.2), layout="constrained", squeeze=False)
    left = axes[0, 0]
    curves = np.array([[mean for _, mean, _ in result["curve"]] for result in results])
    steps = [point[0] for point in results[0]["curve"]]
    left.plot(steps, curves.T, color="0.7", linewidth=1)
    left.plot(steps, curves.mean(axis=0), color="tab:blue", linewidth=2, label=f"mean of {len(results)} seeds")
    solved = SOLVED.get(results[0]["env"])
    if solved is not None:
        left.axhline(solved, color="0.3", linestyle=":", label=f"solved ({solved:.0f})")
    left.set(xlabel="environment steps", ylabel=f"return of {N_EVAL_EPISODES} evaluation episodes")
    left.legend(frameon=False, loc="lower right")
    if calibration:
        plot_calibration(calibration, ax=axes[0, 1])
        axes[0, 1].set_title(f"within {calibration[0]['desired_horizon']:.0f} steps", fontsize="medium")
    figure.savefig(figure_path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="CartPole-v1", help="Gymnasium environment id (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)), help="default: 0 to 9")
    parser.add_argument("--n-envs", type=int, default=8, help="parallel environments (default: %(default)s)")
    parser.add_argument("--timesteps", type=int, default=30_000, help="environment steps (default: %(default)s)")
    parser.add_argument("--eval-freq", type=int, default=2_500, help="steps between evaluations (default: %(default)s)")
    parser.add_argument("--arguments", type=json.loads, default={}, help="other arguments of UDRL, as JSON")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="results file, one JSON object per line")
    parser.add_argument("--figure", type=Path, help="draw the results here as well (needs matplotlib)")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    keys = ("env", "n_envs", "timesteps", "eval_freq", "arguments")
    wanted = [{"seed": seed, **{key: getattr(args, key) for key in keys}} for seed in args.seeds]
    args.out.touch()
    done = [result["seed"] for result in finished(args.out, wanted)]
    todo = [settings for settings in wanted if settings["seed"] not in done]
    failed = 0
    with ProcessPoolExecutor(args.jobs) as pool:
        jobs = {pool.submit(run, settings): settings["seed"] for settings in todo}
        for number, job in enumerate(as_completed(jobs), 1):
            try:
                json_lines.append(args.out, job.result())
            except Exception as error:  # one run's failure is no other's
                print(f"Seed {jobs[job]} failed: {type(error).__name__}: {error}", file=sys.stderr)
                failed += 1
            print(f"{number} of {len(todo)} runs finished", flush=True)
    results = finished(args.out, wanted)
    if results:
        report(results)
        if args.figure is not None:
            draw(results, args.figure)
    if failed:
        sys.exit(f"{failed} runs are not finished: the same command runs them again.")


if __name__ == "__main__":
    main()
