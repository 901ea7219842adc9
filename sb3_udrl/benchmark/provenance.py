"""Where a result comes from: versions, git revision, machine, memory."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import sb3_udrl

PACKAGES = ("sb3-udrl", "stable-baselines3", "sb3-contrib", "rl-zoo3", "gymnasium", "torch", "numpy")


def provenance() -> dict[str, Any]:
    """:return: versions, git revision, and what machine this is"""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "versions": {**versions, "python": platform.python_version()},
        "git_revision": git_revision(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


@functools.cache
def git_revision() -> str | None:
    """
    Asked once a process: what is checked out later is not what was imported.

    :return: the commit that this package is of, with ``+`` when files differ from it; None outside a checkout
    """
    folder = Path(sb3_udrl.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout

    try:
        # An installed package may lie in somebody else's repository
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD").strip() + ("+" if git("status", "--porcelain", "--", ".").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def reset_peak_memory() -> None:
    """Count the peak from now on, where the system can (Linux): workers make one run after the other."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """:return: the most memory that this process has had, in MB (of 10^6 bytes)"""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
