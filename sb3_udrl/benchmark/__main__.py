"""Compare algorithms: ``python -m sb3_udrl.benchmark run --envs CartPole-v1 --algos udrl dqn ppo --out DIR``."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from typing import Any


def value(text: str) -> Any:
    """
    :param text: a Python literal, or anything else
    :return: the literal, or the text as it is
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def key_and_value(text: str) -> tuple[str, Any]:
    """
    :param text: ``KEY:VALUE`` as the Zoo has it, or ``KEY=VALUE``
    :return: both
    """
    separators = [separator for separator in ":=" if separator in text]
    if not separators:
        raise argparse.ArgumentTypeError(f"write KEY:VALUE, not {text!r}")
    key, _, rest = text.partition(min(separators, key=text.index))
    return key, value(rest)


def hyperparams(text: str) -> tuple[str, dict[str, Any]]:
    """
    :param text: ``ALGO:KEY=VALUE``, or ``ALGO:{...}`` with JSON
    :return: the algorithm, and what to change
    """
    algo, colon, rest = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"write ALGO:KEY=VALUE, or ALGO:{{JSON}}, not {text!r}")
    if not rest.startswith("{"):
        return algo, dict([key_and_value(rest)])
    try:
        return algo, json.loads(rest)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{rest!r} is not JSON: {error}") from None


def threshold(text: str) -> tuple[str, float]:
    """
    :param text: ``ENV=RETURN``
    :return: both
    """
    env, _, number = text.rpartition("=")
    try:
        return env, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"write ENV=RETURN, not {text!r}") from None


def make_parser() -> argparse.ArgumentParser:
    """:return: the command line"""
    parser = argparse.ArgumentParser(prog="python -m sb3_udrl.benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="do", required=True)
    run = commands.add_parser("run", help="train what is not trained yet, then report")
    what = run.add_argument_group("what is compared")
    what.add_argument("--envs", nargs="+", required=True, help="Gymnasium's ids, or LABEL=ID")
    what.add_argument(
        "--algos",
        nargs="+",
        default=["udrl", "dqn", "ppo"],
        help="the RL Zoo's names, udrl, udrl_defaults (no tuned settings), a configuration such as "
        "udrl_srivastava2019, or LABEL=NAME (default: udrl dqn ppo)",
    )
    what.add_argument("--seeds", type=int, default=10, help="how many (default: %(default)s)")
    what.add_argument("--first-seed", type=int, default=0, help="the first of them (default: %(default)s)")
    what.add_argument("--timesteps", type=int, help="environment steps of each run (default: as in our settings)")
    what.add_argument("--eval-freq", type=int, help="steps between evaluations (default: a 20th of all)")
    what.add_argument("--n-eval-episodes", type=int, default=20, help="episodes of each (default: %(default)s)")
    what.add_argument("--n-final-episodes", type=int, default=100, help="after training (default: %(default)s)")
    what.add_argument(
        "--hyperparams",
        nargs="+",
        type=hyperparams,
        default=[],
        metavar="ALGO:KEY=VALUE",
        help='what to change, such as ppo:learning_rate=1e-4 or udrl:\'{"retention": "best"}\'',
    )
    what.add_argument("--stochastic", action="store_true", help="evaluate with sampled actions")
    what.add_argument("--calibrate", action="store_true", help="see how UDRL obeys (CartPole-v1: always)")
    envs = run.add_argument_group("environments of your own")
    envs.add_argument("--env-module", nargs="+", default=[], help="modules that register them")
    envs.add_argument("--env-kwargs", nargs="+", type=key_and_value, default=[], metavar="KEY:VALUE")
    envs.add_argument(
        "--env-wrapper",
        nargs="+",
        type=value,
        default=[],
        help="such as rl_zoo3.wrappers.HistoryWrapper, or "
        "\"{'rl_zoo3.wrappers.DelayedRewardWrapper': {'delay': 1001}}\"",
    )
    how = run.add_argument_group("how it is run")
    how.add_argument("--out", required=True, metavar="DIR", help="a folder, or s3://bucket/folder")
    how.add_argument("--jobs", type=int, default=-1, help="runs at a time (default: one for each CPU)")
    how.add_argument("--backend", choices=["loky", "ray", "dask"], default="loky", help="joblib's (default: processes)")
    how.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    how.add_argument("--save-models", action="store_true", help="keep the models, in DIR/models")
    how.add_argument("--tensorboard", action="store_true", help="log for TensorBoard, to DIR/tensorboard")
    how.add_argument("--no-report", action="store_true", help="only run")

    report = commands.add_parser("report", help="tables and figures of what is finished, in DIR/report")
    report.add_argument("out", metavar="DIR", help="a folder, or s3://bucket/folder")
    for command in (what, report):
        command.add_argument(
            "--threshold",
            nargs="+",
            type=threshold,
            default=[],
            metavar="ENV=RETURN",
            help="return that counts as solved (default: Gymnasium's)",
        )
    return parser


def run(args: argparse.Namespace) -> None:
    """
    :param args: the command line
    """
    # Only here, so that the command line can say what to install
    from sb3_udrl.benchmark.runs import Plan
    from sb3_udrl.benchmark.study import Engine, problems_text, run_study

    changes: dict[str, dict[str, Any]] = {}
    for algo, change in args.hyperparams:
        changes.setdefault(algo, {}).update(change)
    plan = Plan(
        envs=args.envs,
        algos=args.algos,
        seeds=range(args.first_seed, args.first_seed + args.seeds),
        timesteps=args.timesteps,
        eval_freq=args.eval_freq,
        n_eval_episodes=args.n_eval_episodes,
        n_final_episodes=args.n_final_episodes,
        hyperparams=changes,
        env_kwargs=dict(args.env_kwargs),
        env_wrapper=args.env_wrapper,
        env_modules=tuple(args.env_module),
        calibrate=args.calibrate,
        deterministic=not args.stochastic,
    )
    for env, _ in args.threshold:
        if env not in plan.env_names:
            raise ValueError(
                f"--threshold is for {env!r}, which is none of the environments: {', '.join(plan.env_names)}. For "
                "those of earlier commands: python -m sb3_udrl.benchmark report DIR --threshold ENV=RETURN"
            )
    engine = Engine(args.backend, args.jobs, args.device, args.save_models, args.tensorboard)
    problems = run_study(plan, args.out, engine)
    if problems:
        print(problems_text(problems), file=sys.stderr)
    if not args.no_report:
        report(args)
    if problems:
        sys.exit(1)


def report(args: argparse.Namespace) -> None:
    """
    :param args: the command line
    """
    from sb3_udrl.benchmark.report import write_report

    print(f"Report: {write_report(args.out, dict(args.threshold))}")


def main(arguments: list[str] | None = None) -> None:
    """
    :param arguments: the command line; default: the process's own
    """
    args = make_parser().parse_args(arguments)
    try:
        {"run": run, "report": report}[args.do](args)
    except ModuleNotFoundError as error:
        extra = "cluster" if getattr(args, "backend", "loky") != "loky" else "benchmark"
        sys.exit(f'The benchmark needs the module {error.name}: pip install "sb3-udrl[{extra}]"')
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped. Finished runs are stored: the same command goes on from there.")


if __name__ == "__main__":
    main()
