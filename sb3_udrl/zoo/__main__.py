"""``python -m sb3_udrl.zoo COMMAND ...``: the commands of the RL Zoo, options unchanged, with ``--algo udrl``."""

from __future__ import annotations

import argparse
import importlib
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from sb3_udrl.commands import Command
from sb3_udrl.udrl import UDRL
from sb3_udrl.zoo import hub, register
from sb3_udrl.zoo.hyperparams import config_file

# Those with a function run as one; the others are scripts
FUNCTIONS = {
    "train": "rl_zoo3.train",
    "enjoy": "rl_zoo3.enjoy",
    "all_plots": "rl_zoo3.plots",
    "plot_train": "rl_zoo3.plots",
    "plot_from_file": "rl_zoo3.plots",
}
SCRIPTS = {
    name: f"rl_zoo3.{name}" for name in ("record_video", "record_training", "benchmark", "push_to_hub", "load_from_hub")
}
COMMANDS = (*FUNCTIONS, *SCRIPTS)
PLAYING = ("enjoy", "record_video", "record_training")

USAGE = f"""usage: python -m sb3_udrl.zoo {{{",".join(COMMANDS)}}} ...

The commands of the RL Zoo (https://rl-baselines3-zoo.readthedocs.io) with --algo udrl beside the stock algorithms.
Their options are unchanged: add --help to any of them. In addition:
  train --conf-file          also takes the name of a configuration that comes with this package;
                             default for udrl: udrl.yml
  {", ".join(PLAYING)}
                             take --desired-return and --desired-horizon: the command for a UDRL agent
"""


def with_config(arguments: list[str]) -> list[str]:
    """
    :param arguments: of ``train``
    :return: the same, with the path of the configuration where it is one of ours
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--algo", default="ppo")
    parser.add_argument("-conf", "--conf-file")
    known, others = parser.parse_known_args(arguments)
    name = known.conf_file or ("udrl" if known.algo == "udrl" else None)
    if name is None:
        return arguments
    # A path or a Python module is the Zoo's own business
    is_ours = known.conf_file is None or (not Path(name).is_file() and "/" not in name and "." not in Path(name).stem)
    if is_ours:
        try:
            name = str(config_file(name))
        except FileNotFoundError as error:
            is_module = not name.endswith((".py", ".yml", ".yaml")) and importlib.util.find_spec(name) is not None
            if not is_module:
                sys.exit(f"--conf-file: {error}")
    return ["--algo", known.algo, "--conf-file", name, *others]


def check_trial(arguments: list[str]) -> None:
    """
    End with a sentence for a trial that rl_zoo3 2.9.2 silently ignores.

    :param arguments: of ``train``
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--trial-id", type=int)
    parser.add_argument("--study-name")
    parser.add_argument("--storage")
    known, _ = parser.parse_known_args(arguments)
    if known.trial_id == 0:
        sys.exit(
            "--trial-id 0: rl_zoo3 takes trial 0 for none, and would train without its settings. Use another trial."
        )
    if known.trial_id is not None and not (known.storage and known.study_name):
        sys.exit(f"--trial-id {known.trial_id}: trial of what? Say --storage and --study-name, too.")


def prepare_storage(arguments: list[str]) -> None:
    """
    Create the tables of a search in a database, so that several workers may be started at once: left to themselves, all
    of them try, and Optuna ends those that come second.

    :param arguments: of ``train``
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--storage")
    storage = parser.parse_known_args(arguments)[0].storage
    if storage is None or "://" not in storage:
        return
    from optuna.storages import RDBStorage  # optional
    from sqlalchemy.exc import SQLAlchemyError

    for seconds in (1, 2, None):
        try:
            RDBStorage(storage)
            return
        except ImportError as error:
            sys.exit(f"--storage needs the module {getattr(error.__cause__, 'name', error)}, which is not installed.")
        except SQLAlchemyError as error:
            if seconds is None:
                sys.exit(f"--storage: the database cannot be used. {error}")
            time.sleep(seconds)


def split_command(arguments: list[str]) -> tuple[list[str], list[str]]:
    """
    End with a sentence when an agent is commanded that takes no commands, or what nobody could obey.

    :param arguments: of a command that plays a trained agent
    :return: those that the Zoo knows, and those that are a UDRL command
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--desired-return", type=float)
    parser.add_argument("--desired-horizon", type=float)
    wanted, others = parser.parse_known_args(arguments)
    desired_horizon = 1.0 if wanted.desired_horizon is None else wanted.desired_horizon
    try:
        Command(wanted.desired_return or 0.0, desired_horizon).checked()
    except ValueError as error:
        sys.exit(str(error))
    ours = [f"--{key.replace('_', '-')}={value}" for key, value in vars(wanted).items() if value is not None]
    parser.add_argument("--algo", default="ppo")
    algo = parser.parse_known_args(arguments)[0].algo
    if ours and algo != "udrl":
        sys.exit(f"{ours[0]} is a command for UDRL, but the agent is one of --algo {algo}. Leave it out.")
    return others, ours


def commanded(options: list[str]) -> type[UDRL]:
    """
    :param options: as :func:`split_command` found them
    :return: a UDRL that obeys them once it is loaded
    """
    if not options:
        return UDRL
    wanted = {key.strip("-").replace("-", "_"): float(value) for key, value in (o.split("=") for o in options)}

    class CommandedUDRL(UDRL):
        """UDRL that is loaded with another evaluation command."""

        @classmethod
        def load(cls, *args: Any, **kwargs: Any) -> UDRL:  # type: ignore[override]
            model = UDRL.load(*args, **kwargs)
            model.set_command(*model.command._replace(**wanted))
            return model

    return CommandedUDRL


def redirected(command: list[str], options: list[str]) -> list[str]:
    """
    What the Zoo runs as a stock command in another process, where UDRL is unknown, goes through this module instead.

    :param command: a command line of the Zoo
    :param options: further options for commands of the Zoo
    :return: the command line to run
    """
    name, rest = "", []
    if command[:2] == ["python", "-m"]:
        name, rest = command[2].removeprefix("rl_zoo3."), command[3:]
    elif command[:1] == ["python"]:
        name, rest = command[1].removesuffix(".py"), command[2:]
    return [sys.executable, "-m", "sb3_udrl.zoo", name, *rest, *options] if name in COMMANDS else command


def check_tools(name: str) -> None:
    """
    End with a sentence where a program is missing that the Zoo does not look for.

    :param name: the command
    """
    if name == "record_training" and shutil.which("ffmpeg") is None:
        sys.exit("record_training joins its videos with the program ffmpeg, which is not installed. Install ffmpeg.")


def run(name: str, arguments: list[str]) -> None:
    """
    Run a command of the Zoo in this process.

    :param name: which
    :param arguments: its command line
    """
    options: list[str] = []
    if name == "train":
        check_trial(arguments)
        prepare_storage(arguments)
        arguments = with_config(arguments)
    if name in PLAYING:
        arguments, options = split_command(arguments)
    check_tools(name)
    hub.mend()
    register(commanded(options))
    sys.argv = [f"sb3_udrl.zoo {name}", *arguments]
    call = subprocess.call
    with mock.patch("subprocess.call", lambda command, **kwargs: call(redirected(command, options), **kwargs)):
        if name in FUNCTIONS:
            getattr(importlib.import_module(FUNCTIONS[name]), name)()
        else:
            runpy.run_module(SCRIPTS[name], run_name="__main__", alter_sys=True)


def main() -> None:
    """Run the command line."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help"):
        print(USAGE)
        return
    if name not in COMMANDS:
        sys.exit(f"{name!r} is not a command of the Zoo.\n\n{USAGE}")
    try:
        run(name, arguments)
    except ModuleNotFoundError as error:
        sys.exit(
            f"{name} needs the module {error.name}, which is not installed. If it is the RL Zoo's, it comes with: "
            'pip install "sb3-udrl[zoo]"; otherwise install it, or look for a slip of the pen in --gym-packages or '
            "--conf-file."
        )


if __name__ == "__main__":
    main()
