"""
The tables and figures of docs/comparison.md: ``python docs/comparison.py``, after new results.

``results/published.json`` holds what others published, or what was measured with their code; ours are read from the
results beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt

from sb3_udrl.benchmark.comparison import compare
from sb3_udrl.benchmark.results import Results
from sb3_udrl.benchmark.storage import Store

DOCS = Path(__file__).parent
PAGE = DOCS / "comparison.md"
LEARNING_CURVES = {"CartPole-v1": "cartpole-8-envs.jsonl"}
"""Our learning curves by environment, as sb3_udrl.benchmark.learning_curve writes them."""
STUDIES = {
    "LunarLander": [("lunarlander-1m", "LunarLander-v3"), ("historic-lunarlander", "LunarLander-v3")],
    "LunarLanderSparse": [
        ("lunarlander-sparse-1m", "LunarLanderSparse-v3"),
        ("study", "LunarLanderSparse-v3"),
        ("historic-lunarlander", "LunarLanderSparse"),
    ],
}
"""Our studies by environment: the folder of sb3_udrl.benchmark, and what the environment is called there."""
LINE_STYLES = ["-", "--", ":", "-."]
NEAR = 0.02  # evaluations no further apart count as at the same step


class Curve(NamedTuple):
    """Mean returns of one system."""

    name: str
    ours: bool
    steps: np.ndarray
    returns: np.ndarray

    def at(self, step: int) -> str:
        """:return: the return at a step count, or nothing where it was not evaluated there"""
        near = np.flatnonzero(np.abs(self.steps - step) <= NEAR * step)
        return f"{self.returns[near[0]]:.1f}" if len(near) else ""


def published(env: str) -> list[Curve]:
    """:return: what others reach"""
    entries = json.loads((DOCS / "results/published.json").read_text())
    return [Curve(e["name"], False, *np.array(e["curve"], float).T) for e in entries if e["env"] == env]


def ours(env: str) -> list[Curve]:
    """:return: what we reach"""
    curves = []
    if env in LEARNING_CURVES:
        runs = [json.loads(line)["curve"] for line in (DOCS / "results" / LEARNING_CURVES[env]).open()]
        steps, returns, _ = np.array(runs).mean(axis=0).T
        curves.append(Curve(f"here: udrl, {len(runs)} seeds", True, steps, returns))
    for folder, env_name in STUDIES.get(env, []):
        study = compare(Results(Store(str(DOCS / "results" / folder))).records(), {})
        for line in next(environment for environment in study if environment.name == env_name).lines:
            if len(line.seeds) < 2:
                continue  # not finished
            steps, returns = line.steps[1:], line.returns.mean(axis=0)[1:]  # the first evaluation is before training
            name = f"here: {line.algo}, {len(line.seeds)} seeds, {line.run['timesteps']:,} steps"
            curves.append(Curve(name, True, steps, returns))
    return curves


def table(curves: list[Curve]) -> str:
    """:return: returns at the step counts for which others have numbers, and where ours end, in Markdown"""
    steps = {int(step) for curve in curves if not curve.ours for step in curve.steps}
    for curve in curves:
        last = int(curve.steps[-1])
        if curve.ours and all(abs(step - last) > NEAR * last for step in steps):
            steps.add(last)
    names = ["environment steps", *(curve.name for curve in curves)]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    lines += [f"| {step:,} | " + " | ".join(curve.at(step) for curve in curves) + " |" for step in sorted(steps)]
    return "\n".join(lines)


def draw(env: str, curves: list[Curve]) -> None:
    """Draw the curves by steps; ours thick, so that they stand out without colour."""
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    for i, curve in enumerate(curves):
        style = {"linewidth": 3} if curve.ours else {"linewidth": 1.2, "marker": "os^vDP"[i % 6], "markersize": 4}
        ax.plot(curve.steps, curve.returns, LINE_STYLES[i % 4], label=curve.name, **style)
    ax.set(xlabel="environment steps", ylabel="mean return", title=env, xscale="log")
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    figure.savefig(DOCS / f"results/comparison-{env}.png", dpi=100)
    plt.close(figure)


def main() -> None:
    """Put the tables where the page has their marks, and draw the figures."""
    page = PAGE.read_text()
    for env in ("CartPole-v1", "LunarLander", "LunarLanderSparse"):
        curves = ours(env) + published(env)
        draw(env, curves)
        before, _, rest = page.partition(f"<!-- table: {env} -->")
        page = f"{before}<!-- table: {env} -->\n{table(curves)}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
