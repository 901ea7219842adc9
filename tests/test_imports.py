"""The structure holds: imports run downwards, and nothing optional is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sb3_udrl"
# From the bottom up; a file may import those before it
ORDER = [
    *(
        "arguments",
        "variants",
        "saving",
        "episodes",
        "commands",
        "wrappers",
        "frames",
        "resets",
        "exploration",
        "retention",
        "segments",
        "weighting",
        "relabeling",
        "buffer",
        "schedules",
    ),
    *("torch_layers", "action_bins", "policies", "udrl"),
    *("evaluation", "plotting", "callbacks", "__main__"),
]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sb3_udrl."):
            yield node.module.removeprefix("sb3_udrl.")


def test_every_file_has_its_place():
    assert sorted(ORDER) == sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", ORDER)
def test_imports_run_downwards_only(name):
    below = ORDER[: ORDER.index(name)]
    assert set(imported_modules(PACKAGE / f"{name}.py")) <= set(below)


def test_importing_the_package_imports_nothing_optional():
    code = (
        "import sys, sb3_udrl; "
        "print([m for m in ('matplotlib', 'rl_zoo3', 'pandas', 'tensorboard', 'rich', 'tqdm') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    # SB3 itself imports some of these where they are installed
    reference = code.replace("sb3_udrl", "stable_baselines3")
    expected = subprocess.run([sys.executable, "-c", reference], capture_output=True, text=True, check=True).stdout
    assert output == expected
