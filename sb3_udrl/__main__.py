"""``python -m sb3_udrl``: train UDRL, or see how well a model obeys its commands."""

from __future__ import annotations

import argparse
import importlib.util
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, VecVideoRecorder

from sb3_udrl.commands import Command
from sb3_udrl.episodes import observation_dict
from sb3_udrl.evaluation import calibrate, checked_commands, mean_absolute_error
from sb3_udrl.policies import policy_name
from sb3_udrl.udrl import UDRL
from sb3_udrl.wrappers import PROGRESS_KEY, EpisodeProgress

EVALUATION_SEED = 1_000_000  # far away from training seeds


def positive(text: str) -> int:
    """
    :param text: an argument of the command line
    :return: the number
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def number_range(text: str) -> list[float]:
    """
    :param text: ``start:stop:step``, both ends included, or numbers separated by commas
    :return: the numbers
    :raises argparse.ArgumentTypeError: when there are none
    """
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        start, stop, step = (float(part) for part in text.split(":"))
        # A little further, so that rounding does not leave out the end
        numbers: list[float] = np.arange(start, stop + step * 1e-6, step).tolist()
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"write start:stop:step, or numbers with commas, not {text!r}") from None
    if not numbers:
        raise argparse.ArgumentTypeError(f"no number lies in {text!r}: a step must lead from start to stop")
    return numbers


def make_parser() -> argparse.ArgumentParser:
    """:return: the command line"""
    parser = argparse.ArgumentParser(prog="python -m sb3_udrl", description=__doc__)
    commands = parser.add_subparsers(dest="do")
    formatter = argparse.ArgumentDefaultsHelpFormatter

    train = commands.add_parser("train", help="train, evaluate, save (the default)", formatter_class=formatter)
    train.add_argument("--env", default="CartPole-v1", help="Gymnasium environment id")
    train.add_argument("--timesteps", type=positive, default=30_000, help="environment steps to train for")
    train.add_argument("--seed", type=int, default=0, help="seed of training")
    train.add_argument("--n-envs", type=positive, default=8, help="parallel copies of the environment")
    train.add_argument("--n-eval-episodes", type=positive, default=100, help="episodes to evaluate on")
    train.add_argument("--desired-return", type=float, help="return to ask for in evaluation; default: the model's own")
    train.add_argument("--desired-horizon", type=float, help="steps to get it in; default: the model's own")
    train.add_argument("--out", type=Path, default=Path("models"), help="folder for the model and the video")
    train.add_argument("--video", action="store_true", help="record one evaluation episode (needs moviepy)")

    grid = commands.add_parser("calibrate", help="commanded against achieved return", formatter_class=formatter)
    grid.add_argument("model", type=Path, help="a saved model")
    grid.add_argument("--env", required=True, help="Gymnasium environment id")
    grid.add_argument(
        "--returns",
        type=number_range,
        required=True,
        help="returns to ask for, as start:stop:step or 1,2,3; negative ones as --returns=-200:-100:50",
    )
    grid.add_argument(
        "--horizons", type=number_range, help="steps for each, likewise, or one for all; default: the model's own"
    )
    grid.add_argument("--vec-normalize", type=Path, help="file of VecNormalize.save(), for a model trained with it")
    grid.add_argument("--n-envs", type=positive, default=8, help="parallel copies of the environment")
    grid.add_argument("--n-eval-episodes", type=positive, default=20, help="episodes for each command")
    grid.add_argument("--out", type=Path, help="folder for calibration.json and, with matplotlib, calibration.png")
    return parser


def check_env(env_id: str) -> None:
    """
    End with a sentence when there is no such environment.

    :param env_id: Gymnasium environment id
    """
    try:
        gym.spec(env_id)
    except gym.error.Error as error:
        sys.exit(f"{error}. To list those there are: python -c 'import gymnasium; gymnasium.pprint_registry()'")


def check_video(env_id: str) -> None:
    """
    End with a sentence when no video can be recorded.

    :param env_id: Gymnasium environment id
    """
    if importlib.util.find_spec("moviepy") is None:
        sys.exit("--video needs moviepy: pip install moviepy")
    try:
        env = gym.make(env_id, render_mode="rgb_array")
        env.reset()
        frame = env.render()
        env.close()
    except (gym.error.Error, TypeError) as error:  # the latter where it knows no render_mode
        sys.exit(f"--video: {env_id} cannot be drawn. {error}")
    if not isinstance(frame, np.ndarray):
        sys.exit(f"--video: {env_id} draws no pictures (render_mode='rgb_array'). Leave --video out.")


def check_folder(out: Path) -> None:
    """
    Make the folder, or end with a sentence where that cannot be done.

    :param out: folder for what comes out
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"--out {out}: nothing can be saved there ({error}). Name another folder.")


def asked_command(args: argparse.Namespace, own: Command) -> Command:
    """
    End with a sentence when nobody can obey it.

    :param args: the command line
    :param own: for what is not asked
    :return: the command to evaluate under
    """
    desired_return = own.desired_return if args.desired_return is None else args.desired_return
    desired_horizon = own.desired_horizon if args.desired_horizon is None else args.desired_horizon
    try:
        return Command(desired_return, desired_horizon).checked()
    except ValueError as error:
        sys.exit(str(error))


def train(args: argparse.Namespace) -> None:
    """
    Train, evaluate on other seeds, save.

    :param args: the command line
    """
    check_env(args.env)
    # What cannot work is not found out after training
    asked_command(args, own=Command(0.0, 1.0))
    if args.video:
        check_video(args.env)
    check_folder(args.out)
    progress_bar = all(importlib.util.find_spec(name) for name in ("rich", "tqdm"))
    if not progress_bar:
        print('For a progress bar: pip install "sb3-udrl[extra]"')
    print(f"Training UDRL on {args.env} for {args.timesteps:,} steps (seed {args.seed}, {args.n_envs} envs)")
    training_env = make_vec_env(args.env, args.n_envs, seed=args.seed)
    model = UDRL(policy_name(training_env.observation_space), training_env, seed=args.seed)
    model.learn(args.timesteps, progress_bar=progress_bar)
    if model._n_updates == 0:
        print(f"Nothing was learned: that begins after learning_starts={model.learning_starts}. Use more --timesteps.")
    if args.desired_return is not None or args.desired_horizon is not None:
        model.set_command(*asked_command(args, own=model.command))
    if len(model.replay_buffer) == 0 and gym.spec(args.env).max_episode_steps is None:
        print(f"Not evaluated: no episode of {args.env} has ended, and it is registered without a time limit.")
    else:
        evaluate(model, args)
    path = args.out / f"udrl-{args.env.replace('/', '-')}.zip"
    model.save(path)
    print(f'Model: {path}   (use it: UDRL.load("{path}"))')
    if args.video:
        print(f"Video: {record_video(model, args.env, args.out)}")


def evaluate(model: UDRL, args: argparse.Namespace) -> None:
    """
    Say what came of it, on other seeds.

    :param model: a trained model
    :param args: the command line
    """
    set_random_seed(EVALUATION_SEED)
    env = make_vec_env(args.env, args.n_envs, seed=EVALUATION_SEED)
    returns, lengths = evaluate_policy(
        model, env, args.n_eval_episodes, deterministic=True, return_episode_rewards=True
    )
    desired_return, desired_horizon = model.command
    print(
        f"Asked for a return of {desired_return:.1f} within {desired_horizon:.0f} steps, "
        f"in {args.n_eval_episodes} new episodes:\n"
        f"  return {np.mean(returns):.1f} ± {np.std(returns):.1f} (worst {np.min(returns):.1f}, "
        f"best {np.max(returns):.1f}), mean length {np.mean(lengths):.1f}"
    )


def record_video(model: UDRL, env_id: str, folder: Path) -> Path:
    """
    Record one episode under the model's evaluation command.

    :param model: a trained model
    :param env_id: the environment
    :param folder: where the video goes
    :return: the video's path
    """
    env = make_vec_env(env_id, seed=EVALUATION_SEED, env_kwargs={"render_mode": "rgb_array"})
    # Longer than any episode, so that the recorder never stops early
    length = 1 + (gym.spec(env_id).max_episode_steps or 10_000)
    prefix = f"udrl-{env_id.replace('/', '-')}"
    env = VecVideoRecorder(env, str(folder), lambda step: step == 0, video_length=length, name_prefix=prefix)
    observation, state, episode_start = env.reset(), None, np.ones(1, dtype=bool)
    for _ in range(length):
        action, state = model.predict(observation, state, episode_start, deterministic=True)  # type: ignore[arg-type]
        observation, _, episode_start, _ = env.step(action)
        if episode_start[0]:
            break
    path = Path(env.video_path)
    env.close()
    return path


def run_calibration(args: argparse.Namespace) -> None:
    """
    Ask a model for many returns, and say what came.

    :param args: the command line
    """
    check_env(args.env)
    try:
        model = UDRL.load(args.model)
    except (ValueError, OSError) as error:
        sys.exit(f"{args.model} cannot be loaded: {error}")
    horizons = args.horizons or [model.command.desired_horizon]
    if len(horizons) == 1:
        horizons = horizons * len(args.returns)
    if len(horizons) != len(args.returns):
        sys.exit(f"Got {len(args.returns)} returns, but {len(horizons)} horizons: give one for each, or one for all.")
    set_random_seed(EVALUATION_SEED)
    env = env_as_in_training(model, args)
    progress_bar = importlib.util.find_spec("tqdm") is not None
    try:
        commands = checked_commands(zip(args.returns, horizons, strict=True))
    except ValueError as error:
        sys.exit(str(error))
    if args.out is not None:
        check_folder(args.out)
    try:
        records = calibrate(model, env, commands, args.n_eval_episodes, progress_bar=progress_bar)
    except ValueError as error:
        sys.exit(f"{args.model} cannot play {args.env}: {error}")
    print("desired return | horizon | achieved return | length")
    for record in records:
        print(
            f"{record['desired_return']:14.1f} | {record['desired_horizon']:7.0f} | "
            f"{record['mean_return']:7.1f} ± {record['std_return']:5.1f} | {record['mean_length']:6.1f}"
        )
    if any(args.returns):
        print(f"Mean error relative to the command: {100 * mean_absolute_error(records):.1f} %")
    if args.out is not None:
        write_calibration(records, args.out)


def env_as_in_training(model: UDRL, args: argparse.Namespace) -> VecEnv:
    """
    End with a sentence when the statistics that the model needs are not there.

    :param model: the model
    :param args: the command line
    :return: environments to evaluate in, normalised as those of training were
    """
    if args.vec_normalize is None:
        if _saw_normalized_observations(model):
            sys.exit(
                f"{args.model} was trained on observations that VecNormalize normalised: name the file that "
                "VecNormalize.save() wrote with --vec-normalize."
            )
        return make_vec_env(args.env, args.n_envs, seed=EVALUATION_SEED)
    try:
        normalized = pickle.loads(args.vec_normalize.read_bytes())
        space = normalized.observation_space
    except Exception as error:  # a damaged pickle can raise anything
        sys.exit(f"--vec-normalize {args.vec_normalize} cannot be loaded: {error}")
    has_progress = isinstance(space, gym.spaces.Dict) and PROGRESS_KEY in space.spaces
    wrapper = EpisodeProgress if has_progress else None
    env = make_vec_env(args.env, args.n_envs, seed=EVALUATION_SEED, wrapper_class=wrapper)
    try:
        normalized.set_venv(env)
    except (AssertionError, ValueError) as error:  # what SB3 raises
        sys.exit(f"--vec-normalize {args.vec_normalize} does not fit {args.env}: {error}")
    normalized.training = normalized.norm_reward = False
    assert isinstance(normalized, VecNormalize)
    return normalized


def _saw_normalized_observations(model: UDRL) -> bool:
    """:return: whether what a loaded model saw last is not what the env gave, as far as the model knows that"""
    if model._last_original_obs is None or model._last_obs is None:
        return False
    assert not isinstance(model._last_obs, tuple)
    seen, given = observation_dict(model._last_obs), observation_dict(model._last_original_obs)
    return any(not np.array_equal(seen[key], given[key]) for key in given)


def write_calibration(records: list[dict[str, Any]], out: Path) -> None:
    """
    :param records: what :func:`sb3_udrl.evaluation.calibrate` returned
    :param out: folder for calibration.json and, with matplotlib, calibration.png
    """
    (out / "calibration.json").write_text(json.dumps(records, indent=1))
    if importlib.util.find_spec("matplotlib"):
        from sb3_udrl.plotting import plot_calibration

        figure = plot_calibration(records).get_figure(root=True)
        assert figure is not None
        figure.savefig(out / "calibration.png", dpi=150)
    print(f"Written to {out}")


def main(arguments: list[str] | None = None) -> None:
    """
    :param arguments: the command line; default: the process's own
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in ("train", "calibrate", "-h", "--help"):
        arguments = ["train", *arguments]
    args = make_parser().parse_args(arguments)
    th.set_num_threads(1)  # networks this small run fastest on one
    {"train": train, "calibrate": run_calibration}[args.do](args)


if __name__ == "__main__":
    main()
