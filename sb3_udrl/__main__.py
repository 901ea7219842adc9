"""``python -m sb3_udrl``: train UDRL on an environment, evaluate it, save it, and say how well it does."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecVideoRecorder

from sb3_udrl.udrl import UDRL

EVALUATION_SEED = 1_000_000  # far away from training seeds


def make_parser() -> argparse.ArgumentParser:
    """:return: the command line"""
    parser = argparse.ArgumentParser(
        prog="python -m sb3_udrl",
        description="Train UDRL with its default settings, evaluate it on other seeds, and save the model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--env", default="CartPole-v1", help="Gymnasium environment id")
    parser.add_argument("--timesteps", type=int, default=30_000, help="environment steps to train for")
    parser.add_argument("--seed", type=int, default=0, help="seed of training")
    parser.add_argument("--n-envs", type=int, default=8, help="parallel copies of the environment")
    parser.add_argument("--n-eval-episodes", type=int, default=100, help="episodes to evaluate on")
    parser.add_argument(
        "--desired-return", type=float, help="return to ask for in evaluation; default: the model's own"
    )
    parser.add_argument("--desired-horizon", type=float, help="steps to get it in; default: the model's own")
    parser.add_argument("--out", type=Path, default=Path("models"), help="folder for the model and the video")
    parser.add_argument("--video", action="store_true", help="record one evaluation episode (needs moviepy)")
    return parser


def record_video(model: UDRL, env_id: str, folder: Path) -> Path:
    """
    Record one episode under the model's evaluation command.

    :param model: a trained model
    :param env_id: the environment
    :param folder: where the video goes
    :return: the video's path
    """
    env = make_vec_env(env_id, seed=EVALUATION_SEED, env_kwargs={"render_mode": "rgb_array"})
    # One more than the last step, so that the recorder never stops early
    length = 1 + (env.envs[0].spec.max_episode_steps or 10_000)  # type: ignore[attr-defined]
    env = VecVideoRecorder(env, str(folder), lambda step: step == 0, video_length=length, name_prefix=f"udrl-{env_id}")
    observation, state, episode_start = env.reset(), None, np.ones(1, dtype=bool)
    while True:
        action, state = model.predict(observation, state, episode_start, deterministic=True)  # type: ignore[arg-type]
        observation, _, episode_start, _ = env.step(action)
        if episode_start[0]:
            break
    path = Path(env.video_path)
    env.close()
    return path


def main(arguments: list[str] | None = None) -> None:
    """
    Train, evaluate, save.

    :param arguments: the command line; default: the process's own
    """
    args = make_parser().parse_args(arguments)
    if args.env not in gym.registry:
        sys.exit(
            f"Gymnasium has no environment '{args.env}'. `python -c 'import gymnasium; gymnasium.pprint_registry()'`"
            " lists those that it has."
        )
    for name in ("timesteps", "n_envs", "n_eval_episodes"):
        if getattr(args, name) < 1:
            sys.exit(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}.")
    # Networks this small run fastest on one thread
    th.set_num_threads(1)
    progress_bar = all(importlib.util.find_spec(name) for name in ("rich", "tqdm"))
    if not progress_bar:
        print('For a progress bar: pip install "sb3-udrl[extra]"')

    print(f"Training UDRL on {args.env} for {args.timesteps:,} steps (seed {args.seed}, {args.n_envs} envs)")
    model = UDRL("MlpPolicy", make_vec_env(args.env, args.n_envs, seed=args.seed), seed=args.seed)
    model.learn(args.timesteps, progress_bar=progress_bar)

    own = model.command
    if args.desired_return is not None or args.desired_horizon is not None:
        model.set_command(
            own.desired_return if args.desired_return is None else args.desired_return,
            own.desired_horizon if args.desired_horizon is None else args.desired_horizon,
        )
    set_random_seed(EVALUATION_SEED)
    env = make_vec_env(args.env, args.n_envs, seed=EVALUATION_SEED)
    returns, lengths = evaluate_policy(
        model, env, args.n_eval_episodes, deterministic=True, return_episode_rewards=True
    )
    desired_return, desired_horizon = model.command
    print(
        f"Asked for a return of {desired_return:.1f} within {desired_horizon:.0f} steps, "
        f"in {args.n_eval_episodes} new episodes:"
    )
    print(
        f"  return {np.mean(returns):.1f} ± {np.std(returns):.1f} (worst {np.min(returns):.1f}, "
        f"best {np.max(returns):.1f}), mean length {np.mean(lengths):.1f}"
    )

    path = args.out / f"udrl-{args.env.replace('/', '-')}.zip"
    model.save(path)
    print(f'Model: {path}   (use it: UDRL.load("{path}"))')
    if args.video:
        print(f"Video: {record_video(model, args.env, args.out)}")


if __name__ == "__main__":
    main()
