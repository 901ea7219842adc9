"""The report says what the records say: known numbers in, the same numbers out."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("rl_zoo3")
pytest.importorskip("matplotlib")

from PIL import Image

from sb3_udrl.benchmark.comparison import common, compare
from sb3_udrl.benchmark.figures import STYLES, learning_curves, styles_of
from sb3_udrl.benchmark.report import number_text, write_report
from sb3_udrl.benchmark.results import Results
from sb3_udrl.benchmark.storage import Store

STEPS = [0, 100, 200, 300]


def record_of(env, algo, seed, returns, **settings):
    """A finished run with these mean returns, a second for each 10 steps."""
    run = {"env": env, "env_id": env, "algo": algo, "zoo_name": algo.split("_")[0], "seed": seed, "timesteps": 300}
    run |= {"hyperparams": {"n_envs": 1}, "source": "a test", "tuned_for": 500, "env_modules": []}
    run |= {"deterministic": True} | settings
    run["key"] = f"{env}{algo}{seed}{sorted(settings.items())}"
    evaluations = [
        {"step": step, "seconds": step / 10, "returns": [value - 1, value + 1], "lengths": [5, 7]}
        for step, value in zip(STEPS, returns, strict=True)
    ]
    return {
        "run": run,
        "evaluations": evaluations,
        "seconds": {"acting": 1.0, "environment": 2.0, "training": 27.0, "evaluation": 4.0},
        "peak_memory_mb": 400.0 + seed,
        "versions": {"numpy": "1"},
        "git_revision": "abc",
        "machine": "a machine",
    }


RECORDS = [
    record_of("CartPole-v1", "udrl", 0, [10, 480, 490, 500]),
    record_of("CartPole-v1", "udrl", 1, [10, 100, 480, 400]),
    record_of("CartPole-v1", "udrl", 2, [10, 100, 120, 140]),
    record_of("CartPole-v1", "ppo", 0, [10, 20, 30, 40]),
    record_of("CartPole-v1", "ppo", 1, [10, 20, 30, 150]),
    record_of("Acrobot-v1", "udrl", 0, [-500, -90, -80, -80]),
    record_of("Acrobot-v1", "ppo", 0, [-500, -500, -500, -300]),
    record_of("Pendulum-v1", "ppo", 0, [-1200, -900, -500, -200], deterministic=False),
]
RECORDS[0]["calibration"] = [
    {"desired_return": 100.0, "desired_horizon": 500.0, "mean_return": 110.0, "std_return": 1.0},
    {"desired_return": 200.0, "desired_horizon": 500.0, "mean_return": 200.0, "std_return": 1.0},
]
RECORDS[1]["calibration"] = [
    {"desired_return": 100.0, "desired_horizon": 500.0, "mean_return": 101.0, "std_return": 1.0},
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of a report about these."""
    folder = tmp_path_factory.mktemp("report")
    store = Store(str(folder))
    for record in RECORDS:
        store.write_json(f"runs/{record['run']['key']}.json", record)
    Results(store).skip({("Pendulum-v1", "dqn"): "cannot act <there>"}, [])
    page = write_report(str(folder), {})
    assert page == f"{folder}/report/report.html"
    return folder / "report"


def environment(name, records=RECORDS, thresholds=None):
    return next(env for env in compare(records, thresholds or {}) if env.name == name)


def test_scores_are_those_of_the_evaluation_after_training():
    udrl, ppo = environment("CartPole-v1").lines
    assert udrl.scores.tolist() == [500, 400, 140]
    assert ppo.scores.tolist() == [40, 150]
    assert udrl.final.value == pytest.approx(np.mean([500, 400, 140]))


def test_steps_and_seconds_to_a_threshold_with_seeds_that_never_reach_it():
    udrl, ppo = environment("CartPole-v1").lines
    assert udrl.reaching(475, "steps") == [100, 200, None]
    assert udrl.reaching(475, "seconds") == [10, 20, None]
    assert ppo.reaching(475, "steps") == [None, None]


def test_thresholds_are_gymnasiums_unless_given():
    assert environment("CartPole-v1").threshold == 475
    assert environment("Pendulum-v1").threshold is None
    assert environment("Pendulum-v1", thresholds={"Pendulum-v1": -200.0}).threshold == -200
    with pytest.raises(ValueError, match="'Mars-v0', but the runs are of Acrobot-v1"):
        compare(RECORDS, {"Mars-v0": 1.0})


def test_scores_are_normalised_by_before_training_and_the_best():
    env = environment("CartPole-v1")
    assert env.before_training == 10
    best = np.mean([500, 400, 140])
    assert env.normalised(env.lines[1]) == pytest.approx((np.array([40, 150]) - 10) / (best - 10))


def test_only_like_is_averaged_with_like():
    shared, algos = common(compare(RECORDS, {}))
    assert {env.name for env in shared} == {"CartPole-v1", "Acrobot-v1"}
    assert set(algos) == {"udrl", "ppo"}


def test_runs_with_other_settings_are_lines_of_their_own():
    other = record_of("CartPole-v1", "udrl", 0, [1, 2, 3, 4], timesteps=999)
    names = [line.algo for line in environment("CartPole-v1", [*RECORDS, other]).lines]
    assert names == ["udrl (timesteps=300)", "udrl (timesteps=999)", "ppo"]


def test_settings_that_are_named_but_not_changed_are_no_other_line():
    source = "a test, changed: n_envs"
    again = [record_of("CartPole-v1", "udrl", seed, [10, 20, 30, 40], source=source) for seed in (0, 3)]
    (line,) = [line for line in environment("CartPole-v1", [*RECORDS, *again]).lines if line.algo == "udrl"]
    assert line.seeds == [0, 1, 2, 3]
    assert line.scores.tolist() == [500, 400, 140, 40]  # seed 0 counts once


def test_where_nothing_was_learned_there_is_nothing_to_normalise_by():
    stuck = [record_of("MountainCar-v0", algo, seed, [-200] * 4) for algo in ("udrl", "ppo") for seed in (0, 1)]
    lucky = record_of("Acrobot-v1", "ppo", 1, [-79, -500, -500, -500])  # before it learned anything
    shared, _ = common(compare([*RECORDS, *stuck, lucky], {}))
    assert {env.name for env in shared} == {"CartPole-v1", "Acrobot-v1"}


def test_a_report_needs_no_environment_in_which_all_ran(tmp_path):
    store = Store(str(tmp_path))
    for env, algo in (("CartPole-v1", "udrl"), ("CartPole-v1", "dqn"), ("Pendulum-v1", "udrl"), ("Pendulum-v1", "sac")):
        record = record_of(env, algo, 0, [10, 20, 30, 40])
        store.write_json(f"runs/{record['run']['key']}.json", record)
    write_report(str(tmp_path), {})
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert content["overall"]["environments"] == []
    assert content["overall"]["normalised_iqm"] == {}
    assert {(one["algo"], one["over"]) for one in content["probability_of_improvement"]} == {
        *(("udrl", "dqn"), ("dqn", "udrl"), ("udrl", "sac"), ("sac", "udrl")),
    }


def test_a_curve_by_wall_clock_ends_where_the_fastest_seed_does():
    records = [record_of("CartPole-v1", "udrl", seed, [0, 100, 200, 300]) for seed in (0, 1)]
    for evaluation in records[1]["evaluations"]:
        evaluation["seconds"] *= 2
    seconds, curve = environment("CartPole-v1", records).lines[0].curve_by_time
    assert seconds[-1] == 30
    assert curve.value[-1] == pytest.approx((300 + 150) / 2)


def test_the_markdown_has_the_numbers(report):
    text = (report / "report.md").read_text()
    assert "| udrl | 3 | 346.7 [" in text
    assert "140.0 (seed 2)" in text
    assert "| udrl | 200 | 100, 200, – | 20 s |" in text
    assert "| ppo | never | –, – | never |" in text
    assert "| udrl | | 0.83 [" in re.sub(" +", " ", text)  # 5 of 6 pairs: 140 loses to 150
    assert "3.0 %, 5.0 %" in text  # error of commands
    assert "| Pendulum-v1 | | -200.0 |" in re.sub(" +", " ", text)  # in the overview: udrl did not run there
    assert "- dqn on Pendulum-v1: cannot act <there>" in text
    assert "ppo's settings are meant for 500 steps" in text
    assert "ppo is evaluated with sampled actions" in text
    for name in re.findall(r"\]\((.*?)\)", text):
        assert (report / name).stat().st_size > 1000


def test_the_json_has_every_number_and_is_json(report):
    content = json.loads((report / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    cartpole = next(env for env in content["environments"] if env["env"] == "CartPole-v1")
    udrl = next(algo for algo in cartpole["algos"] if algo["algo"] == "udrl")
    assert udrl["scores"] == [500, 400, 140]
    assert udrl["worst_seed"] == {"seed": 2, "score": 140}
    assert udrl["steps_to_threshold"] == {"seeds": [100, 200, None], "median": 200}
    assert udrl["std"] == pytest.approx(np.std([500, 400, 140], ddof=1), abs=1e-3)
    assert udrl["mean_length"] == 6
    improvements = content["probability_of_improvement"]
    assert {(one["algo"], one["over"]) for one in improvements} == {("udrl", "ppo"), ("ppo", "udrl")}
    assert udrl["iqm"]["low"] < udrl["iqm"]["value"] < udrl["iqm"]["high"]
    assert content["skipped"] == [{"env": "Pendulum-v1", "algo": "dqn", "reason": "cannot act <there>"}]


def report_of(records, folder):
    for record in records:
        Store(str(folder)).write_json(f"runs/{record['run']['key']}.json", record)
    write_report(str(folder), {})
    return (folder / "report" / "report.md").read_text()


def test_algorithms_that_ran_in_one_environment_each_are_not_averaged(tmp_path):
    pairs = (("CartPole-v1", "udrl"), ("Acrobot-v1", "ppo"), ("Pendulum-v1", "sac"))
    text = report_of([record_of(env, algo, 0, [10, 20, 30, 40]) for env, algo in pairs], tmp_path)
    assert "interquartile mean of normalised scores" not in text
    assert all(f"## {env}" in text for env, _ in pairs)


def test_commands_of_0_have_no_relative_error(tmp_path):
    record = record_of("FrozenLake-v1", "udrl", 0, [0, 0, 0, 0])
    record["calibration"] = [{"desired_return": 0.0, "desired_horizon": 9.0, "mean_return": 0.0, "std_return": 0.0}]
    assert "| udrl |" in report_of([record], tmp_path)


def test_environments_whose_names_differ_in_a_sign_have_pictures_of_their_own(tmp_path):
    records = [record_of(env, "udrl", 0, [10, 20, 30, 40], env_id="CartPole-v1") for env in ("Wind+", "Wind-")]
    pictures = re.findall(r"\]\((.*?)\)", report_of(records, tmp_path))
    assert len(set(pictures)) == len(pictures) >= 4
    assert all((tmp_path / "report" / picture).exists() for picture in pictures)


class Addresses(HTMLParser):
    """Whatever a page would load."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for key, value in attrs if key == "src" or (key == "href" and tag == "link")]


def test_the_page_needs_nothing_beside_it(report):
    page = (report / "report.html").read_text()
    parser = Addresses()
    parser.feed(page)
    assert len(parser.found) == 8  # overview, 3 environments, all together
    for address in parser.found:
        kind, _, data = address.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
    assert "cannot act &lt;there&gt;" in page
    assert "<script" not in page


def test_figures_come_as_png_and_svg_and_are_the_same_each_time(report):
    pictures = {path.name: path.read_bytes() for path in report.iterdir() if path.suffix in (".png", ".svg")}
    assert {path.rpartition(".")[0] for path in pictures} == {
        *(f"{kind}-{env}" for kind in ("curves", "scores") for env in ("CartPole-v1", "Acrobot-v1", "Pendulum-v1")),
        *("overview", "overall"),
    }
    assert Image.open(io.BytesIO(pictures["overall.png"])).size[0] > 1000
    write_report(str(report.parent), {})
    assert all((report / name).read_bytes() == data for name, data in pictures.items())


@pytest.mark.parametrize(("dip", "bottom"), [(-3000, -425.0), (-400, -430.0)])
def test_a_dip_far_below_where_curves_start_and_end_leaves_room_for_the_rest(dip, bottom):
    records = [
        record_of("Pendulum-v1", "udrl", 0, [-300, -100, 100, 200]),
        record_of("Pendulum-v1", "a2c", 0, [-200, dip, -100, 0]),
    ]
    [env] = compare(records, {})
    left, *_ = learning_curves(env, styles_of([env])).axes
    assert left.get_ylim()[0] == pytest.approx(bottom, abs=1)


def test_curves_leave_out_the_evaluation_after_training_where_it_plays_other_episodes():
    record = record_of("Pendulum-v1", "udrl", 0, [-900, -500, -200, -200])
    [line] = compare([record], {})[0].lines
    assert line.curve[0].tolist() == STEPS
    record["evaluations"][-1] |= {"returns": [-400, -300, -200, -100, 0], "lengths": [6] * 5}
    [line] = compare([record], {})[0].lines
    assert (line.curve[0].tolist(), line.curve[1].value.tolist()) == (STEPS[:-1], [-900, -500, -200])
    assert line.curve_by_time[0][-1] == STEPS[-2] / 10
    assert line.scores.tolist() == [-200]


def test_styles_differ_without_colours_however_many_algorithms_there_are():
    records = [record_of("CartPole-v1", f"udrl_{i}", 0, [1, 2, 3, 4]) for i in range(3 * len(STYLES))]
    styles = styles_of(compare(records, {}))
    assert len({(str(line), marker) for _, line, marker in styles.values()}) == len(records)
    assert len({(str(line), marker) for _, line, marker in STYLES}) == len(STYLES)
    assert len({str(line) for _, line, _ in STYLES}) == len(STYLES)


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (475.04, "475.0"), (0.0, "0"), (0.1234, "0.123"), (-80.0, "-80.0")]
)
def test_numbers_have_sensible_digits(value, text):
    assert number_text(value) == text
