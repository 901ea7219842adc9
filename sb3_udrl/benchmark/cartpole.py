"""
How soon CartPole-v1 is solved with default arguments, and how well the result obeys commands, on each seed:
``python -m sb3_udrl.benchmark.cartpole``.

Evaluation uses deterministic actions in environments with seeds that training never sees. One line of JSON is written
for each run when it is finished; runs that are in the file already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

import sb3_udrl
from sb3_udrl import UDRL
from sb3_udrl.evaluation import calibrate, mean_absolute_error

SOLVED = 475.0  # mean return, out of 500
EVALUATION_SEED = 1_000_000
N_EVAL_EPISODES = 100
EVAL_FREQ = 2_500  # environment steps
COMMANDS = tuple(range(50, 451, 50))  # asked of the trained model, as (return, horizon)
N_COMMAND_EPISODES = 20


def evaluate(model: UDRL, env: VecEnv) -> tuple[float, float]:
    """
    :param model: a model, asked for its evaluation command
    :param env: environments to evaluate in
    :return: mean and standard deviation of the returns of the same 100 episodes each time
    """
    random_state = th.get_rng_state(), np.random.get_state()
    env.seed(EVALUATION_SEED)
    mean, std = evaluate_policy(model, env, N_EVAL_EPISODES, deterministic=True)
    # Looking must not change what is looked at
    th.set_rng_state(random_state[0])
    np.random.set_state(random_state[1])
    return float(mean), float(std)  # type: ignore[arg-type]


class LearningCurve(BaseCallback):
    """
    Evaluates every ``EVAL_FREQ`` environment steps.

    :param env: environments to evaluate in
    """

    def __init__(self, env: VecEnv) -> None:
        super().__init__()
        self.env = env
        self.points: list[tuple[int, float, float]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps >= EVAL_FREQ * (len(self.points) + 1):
            assert isinstance(self.model, UDRL)
            mean, std = evaluate(self.model, self.env)
            self.points.append((self.num_timesteps, round(mean, 2), round(std, 2)))
        return True


def run(seed: int, n_envs: int, timesteps: int) -> dict[str, Any]:
    """
    Train once with default arguments.

    :param seed: seed of training
    :param n_envs: parallel environments
    :param timesteps: environment steps
    :return: the result, as it goes to the file
    """
    th.set_num_threads(1)
    env = make_vec_env("CartPole-v1", 20, seed=EVALUATION_SEED)
    curve = LearningCurve(env)
    model = UDRL("MlpPolicy", make_vec_env("CartPole-v1", n_envs, seed=seed), seed=seed, device="cpu")
    start = time.perf_counter()
    # One evaluation may fall a step or so behind the budget
    model.learn(timesteps, curve, log_interval=None)
    seconds = time.perf_counter() - start
    solved = [steps for steps, mean, _ in curve.points if mean >= SOLVED]
    set_random_seed(EVALUATION_SEED)
    env.seed(EVALUATION_SEED + 1)
    records = calibrate(model, env, [(command, command) for command in COMMANDS], N_COMMAND_EPISODES)
    return {
        "seed": seed,
        "n_envs": n_envs,
        "timesteps": timesteps,
        "first_solved": min(solved, default=None),
        "final": curve.points[-1][1],
        "curve": curve.points,
        "calibration_error": round(mean_absolute_error(records), 4),
        "calibration": [
            {key: round(record[key], 2) for key in ("desired_return", "desired_horizon", "mean_return", "std_return")}
            for record in records
        ],
        "seconds_with_evaluation": round(seconds),
        "versions": {
            "sb3_udrl": sb3_udrl.__version__,
            "stable_baselines3": stable_baselines3.__version__,
            "gymnasium": gymnasium.__version__,
            "torch": th.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def report(path: Path) -> None:
    """
    Print what a results file says.

    :param path: the file
    """
    results = sorted((json.loads(line) for line in path.read_text().splitlines()), key=lambda result: result["seed"])
    asked = [record["desired_return"] for record in results[0]["calibration"]]
    print(
        "| seed | steps to 475 | return at the end | error of commands | "
        + " | ".join(f"{a:.0f}" for a in asked)
        + " |"
    )
    print("|---" * (4 + len(asked)) + "|")
    for result in results:
        achieved = " | ".join(f"{record['mean_return']:.0f}" for record in result["calibration"])
        error = f"{100 * result['calibration_error']:.1f} %"
        print(f"| {result['seed']} | {result['first_solved']} | {result['final']:.1f} | {error} | {achieved} |")
    solved = [result["first_solved"] for result in results if result["first_solved"] is not None]
    print(
        f"\n{len(solved)} of {len(results)} seeds reached {SOLVED:.0f}; mean {np.mean(solved):.0f} steps, "
        f"worst {max(solved)}; worst final return {min(result['final'] for result in results):.1f}"
    )


def draw(path: Path, figure_path: Path) -> None:
    """
    Draw learning curves and calibration, one line for each seed.

    :param path: a results file
    :param figure_path: where the picture goes
    """
    from matplotlib import pyplot as plt  # optional

    from sb3_udrl.plotting import plot_calibration

    results = [json.loads(line) for line in path.read_text().splitlines()]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    curves = np.array([[mean for _, mean, _ in result["curve"]] for result in results])
    steps = [point[0] for point in results[0]["curve"]]
    left.plot(steps, curves.T, color="0.7", linewidth=1)
    left.plot(steps, curves.mean(axis=0), color="tab:blue", linewidth=2, label=f"mean of {len(results)} seeds")
    left.axhline(SOLVED, color="0.3", linestyle=":", label=f"solved ({SOLVED:.0f})")
    left.set(xlabel="environment steps", ylabel="return of 100 evaluation episodes", ylim=(0, 510))
    left.legend(frameon=False, loc="lower right")
    plot_calibration([record for result in results for record in result["calibration"]], ax=right)
    right.set_title("desired return = desired horizon", fontsize="medium")
    figure.savefig(figure_path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to this - 1 (default: %(default)s)")
    parser.add_argument("--n-envs", type=int, default=8, help="parallel environments (default: %(default)s)")
    parser.add_argument("--timesteps", type=int, default=30_000, help="environment steps (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="results file, one JSON object per line")
    parser.add_argument("--figure", type=Path, help="draw the results here as well (needs matplotlib)")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    done = {(row["seed"], row["n_envs"], row["timesteps"]) for row in map(json.loads, lines)}
    todo = [seed for seed in range(args.seeds) if (seed, args.n_envs, args.timesteps) not in done]
    with ProcessPoolExecutor(args.jobs) as pool, args.out.open("a") as file:
        jobs = [pool.submit(run, seed, args.n_envs, args.timesteps) for seed in todo]
        for number, job in enumerate(jobs, 1):
            file.write(json.dumps(job.result()) + "\n")
            file.flush()
            print(f"{number} of {len(todo)} runs finished", flush=True)
    report(args.out)
    if args.figure is not None:
        draw(args.out, args.figure)


if __name__ == "__main__":
    main()
