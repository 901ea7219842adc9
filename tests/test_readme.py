"""What the README shows runs."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_each_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The same code, on shorter runs
    exec(compile(block.replace("30_000", "3_000").replace("100_000", "26_000"), str(README), "exec"), {})


def test_the_first_python_is_near_the_top():
    line = README.read_text()[: README.read_text().index("```python")].count("\n") + 1
    assert line <= 25
