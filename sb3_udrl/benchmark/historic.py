"""
The historic systems, trained through the RL Zoo with the configuration files that come with this package:
``python -m sb3_udrl.benchmark.historic --conf-file udrl_notebook --env CartPole-v0 --command 200 200 --out FILE``.

One line of JSON is written for each seed when it is finished; what is in the file already is not repeated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from stable_baselines3.common.env_util import make_vec_env

from sb3_udrl import UDRL, Command
from sb3_udrl.benchmark import json_lines
from sb3_udrl.benchmark.json_lines import significant
from sb3_udrl.benchmark.provenance import git_revision, provenance
from sb3_udrl.benchmark.seeding import EVALUATION_SEED
from sb3_udrl.evaluation import evaluate_command
from sb3_udrl.zoo.hyperparams import config_file

N_EVAL_EPISODES = 100


def check(configuration: str, env_id: str) -> None:
    """
    :param configuration: name or path of a configuration file
    :param env_id: an environment
    :raises ValueError: when its runs could not be cut into iterations afterwards
    """
    path = Path(configuration) if Path(configuration).is_file() else config_file(configuration)
    entries = yaml.safe_load(path.read_text())
    settings = entries.get(env_id, entries.get("default"))
    if settings is None:
        raise ValueError(f"{path} has no entry for {env_id}, only for {', '.join(entries)}.")
    n_envs = settings.get("n_envs", 1)
    if n_envs != 1:
        raise ValueError(f"{path} has n_envs={n_envs} for {env_id}: iterations are told apart with n_envs=1 only.")
    for name in ("learning_starts", "train_freq"):
        value = settings.get(name, [1, "episode"])
        if not (isinstance(value, list) and value[-1] == "episode"):
            raise ValueError(f"{path} has {name}={value} for {env_id}: use [number, 'episode'].")


def train(configuration: str, env_id: str, seed: int, timesteps: int | None, folder: Path) -> Path:
    """
    :param configuration: name or path of a configuration file
    :param env_id: an environment that it has an entry for
    :param seed: seed of the run
    :param timesteps: environment steps; None for those of the configuration
    :param folder: where to run the Zoo
    :return: the folder of the run
    """
    options = [] if timesteps is None else ["-n", str(timesteps)]
    subprocess.run(
        [
            *(sys.executable, "-m", "sb3_udrl.zoo", "train", "--algo", "udrl", "--conf-file", configuration),
            *("--env", env_id, "--seed", str(seed), "--eval-freq", "-1", "--verbose", "0", *options),
        ],
        cwd=folder,
        check=True,
    )
    return folder / "logs" / "udrl" / f"{env_id}_1"


def iterations(model: UDRL, returns: np.ndarray, lengths: np.ndarray) -> list[tuple[int, float]]:
    """
    What was reached while training, from one update to the next.

    :param model: a model with one environment whose ``learning_starts`` and ``train_freq`` count episodes
    :param returns: of all its training episodes, in order, shape (n_episodes,)
    :param lengths: their lengths in steps, shape (n_episodes,)
    :return: for the warm-up and for each whole iteration: environment steps at its end, mean return
    """
    (warm_up, _), (per_iteration, _) = model.learning_starts, model.train_freq  # type: ignore[misc]
    steps = np.cumsum(lengths)
    ends = [0, *range(warm_up, len(returns) + 1, per_iteration)]
    return [(int(steps[end - 1]), significant(returns[start:end].mean())) for start, end in pairwise(ends)]


def run(configuration: str, env_id: str, seed: int, timesteps: int | None, command: list[float]) -> dict[str, Any]:
    """
    Train and evaluate once; for the other parameters see :func:`train`.

    :param command: (desired_return, desired_horizon) to evaluate under, beside the model's own
    :return: the result, as it goes to the file
    """
    git_revision.cache_clear()  # each seed is trained by a process of its own
    origin = provenance()  # now: the checkout may change while it trains
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = train(configuration, env_id, seed, timesteps, Path(folder))
        model = UDRL.load(path / f"{env_id}.zip", device="cpu")
        monitor = np.genfromtxt(path / "0.monitor.csv", delimiter=",", skip_header=1, names=True)
    seconds = time.perf_counter() - start
    training = iterations(model, monitor["r"], monitor["l"])
    if len(training) < 2:
        sys.exit(f"{model.num_timesteps} steps are too few for the warm-up and one iteration: train for longer (-n).")
    env = make_vec_env(env_id, 20, seed=EVALUATION_SEED)
    evaluations = []
    for asked in (model.command, command):
        for deterministic in (True, False):
            env.seed(EVALUATION_SEED)
            record = evaluate_command(model, env, (asked[0], asked[1]), N_EVAL_EPISODES, deterministic)
            keys = ("desired_return", "desired_horizon", "mean_return", "std_return")
            evaluations.append({"deterministic": deterministic, **{key: significant(record[key]) for key in keys}})
    return {
        "configuration": configuration,
        "env": env_id,
        "seed": seed,
        "asked_timesteps": timesteps,
        "timesteps": model.num_timesteps,
        "episodes": len(monitor),
        "n_updates": model._n_updates,
        "evaluations": evaluations,
        "training": training,
        "seconds": round(seconds),
        **origin,
    }


def asked_command(result: dict[str, Any]) -> list[float]:
    """
    :param result: what :func:`run` returned
    :return: the command that was asked for beside the model's own
    """
    return [result["evaluations"][2][key] for key in ("desired_return", "desired_horizon")]


def report(results: list[dict[str, Any]]) -> None:
    """
    :param results: what :func:`run` returned
    """
    print("| seed | steps | training return: warm-up, first, last, best iteration | own command | asked |")
    print("|---" * 5 + "|")
    for result in results:
        returns = [mean for _, mean in result["training"]]
        trained = f"{returns[0]:.1f}, {returns[1]:.1f}, {returns[-1]:.1f}, {max(returns):.1f}"
        own, asked = (
            f"[{first['desired_return']:.0f}, {first['desired_horizon']:.0f}]: {first['mean_return']:.1f}"
            f" ± {first['std_return']:.1f} (sampled {second['mean_return']:.1f} ± {second['std_return']:.1f})"
            for first, second in (result["evaluations"][:2], result["evaluations"][2:])
        )
        print(f"| {result['seed']} | {result['timesteps']} | {trained} | {own} | {asked} |")


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf-file", required=True, help="a configuration that comes with this package, or a path")
    parser.add_argument("--env", required=True, help="an environment that it has an entry for")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 to 2")
    parser.add_argument("-n", "--timesteps", type=int, help="environment steps (default: the configuration's)")
    parser.add_argument("--command", type=float, nargs=2, required=True, help="return and horizon to ask for")
    parser.add_argument("--out", type=Path, required=True, help="results file, one JSON object per line")
    args = parser.parse_args()
    if Path(args.conf_file).is_file():
        args.conf_file = str(Path(args.conf_file).resolve())  # it is read in another folder
    try:
        check(args.conf_file, args.env)
        Command(*args.command).checked()
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.touch()
    keys = ("configuration", "env", "asked_timesteps")
    asked = [significant(number) for number in args.command]  # as results have it
    results = {
        result["seed"]: result
        for result in json_lines.read(args.out)
        if (*map(result.get, keys), asked_command(result)) == (args.conf_file, args.env, args.timesteps, asked)
    }
    for seed in args.seeds:
        if seed not in results:
            results[seed] = run(args.conf_file, args.env, seed, args.timesteps, args.command)
            json_lines.append(args.out, results[seed])
    report([results[seed] for seed in args.seeds])


if __name__ == "__main__":
    main()
