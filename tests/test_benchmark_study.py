"""A study runs what is missing, loses nothing, and says what went wrong."""

import errno
import io
import json
import re
import shutil

import pytest

pytest.importorskip("rl_zoo3")

from rich.console import Console

from sb3_udrl.benchmark.__main__ import main, make_parser
from sb3_udrl.benchmark.progress import Display
from sb3_udrl.benchmark.results import Results
from sb3_udrl.benchmark.runs import Plan
from sb3_udrl.benchmark.storage import Store
from sb3_udrl.benchmark.study import Engine, problems_text, run_study

PLAN = Plan(
    envs=["Payout-v0"],
    algos=["ppo"],
    seeds=range(3),
    timesteps=120,
    eval_freq=60,
    n_eval_episodes=2,
    n_final_episodes=3,
    hyperparams={"ppo": {"n_steps": 60, "batch_size": 60}},
    env_modules=("benchmark_envs",),
)
HERE = Engine(jobs=1)  # in this process
COMMAND = ["run", "--env-module", "benchmark_envs", "--timesteps", "120", "--eval-freq", "60", "--jobs", "1"]
COMMAND += ["--n-eval-episodes", "2", "--n-final-episodes", "3", "--hyperparams", "ppo:n_steps=60", "ppo:batch_size=60"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that has been run from the command line."""
    folder = tmp_path_factory.mktemp("study")
    envs = ["Payout-v0", "Wide=Seeds-v0"]
    extras = ["--save-models", "--tensorboard"]
    main([*COMMAND, "--envs", *envs, "--algos", "udrl", "ppo", "--seeds", "2", "--out", str(folder), *extras])
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "runs").iterdir()}


def test_no_jobs_at_all_are_refused_before_anything_is_run():
    with pytest.raises(ValueError, match="jobs=0"):
        Engine(jobs=0)


def test_each_run_leaves_one_small_file(finished):
    files = list((finished / "runs").iterdir())
    assert len(files) == 8
    assert all(path.stat().st_size < 20_000 for path in files)
    record = json.loads(files[0].read_text())
    assert record["run"]["timesteps"] == 120
    assert not list((finished / "running").iterdir())
    assert not list(finished.rglob("*.part"))


def test_models_can_be_loaded_and_tensorboard_has_files(finished):
    from sb3_udrl import UDRL

    models = {path.parent.name: path for path in finished.glob("models/*/model.zip")}
    assert set(models) == {path.stem for path in (finished / "runs").iterdir()}
    udrl = next(path for name, path in models.items() if ".udrl." in name)
    assert UDRL.load(udrl).num_timesteps == 120
    logs = {path.parent.name: path for path in finished.glob("tensorboard/*/events.*")}
    assert set(logs) == set(models)
    assert all(b"eval/mean_reward" in path.read_bytes() for path in logs.values())


def test_a_finished_study_runs_nothing_twice(finished, capsys):
    before = contents(finished)
    arguments = ["--algos", "udrl", "ppo", "--seeds", "2", "--out", str(finished), "--no-report"]
    main([*COMMAND, "--envs", "Payout-v0", "Wide=Seeds-v0", *arguments])
    assert "8 runs, 8 of them finished already" in capsys.readouterr().out
    assert contents(finished) == before


def test_what_is_missing_or_half_written_is_run_and_nothing_else(finished, tmp_path):
    shutil.copytree(finished / "runs", tmp_path / "runs")
    before = contents(tmp_path)
    gone, half = sorted(name for name in before if name.startswith("Payout") and "ppo" in name)
    (tmp_path / "runs" / gone).unlink()
    (tmp_path / "runs" / half).write_bytes(before[half][:200])
    (tmp_path / "runs" / f"{half}.part").write_bytes(before[half][:100])
    arguments = ["--algos", "udrl", "ppo", "--seeds", "2", "--out", str(tmp_path), "--no-report"]
    main([*COMMAND, "--envs", "Payout-v0", "Wide=Seeds-v0", *arguments])
    after = contents(tmp_path)
    assert set(after) == set(before)
    for name in before:
        new, old = (json.loads(content[name]) for content in (after, before))
        assert [e["returns"] for e in new["evaluations"]] == [e["returns"] for e in old["evaluations"]]
        assert (new == old) == (name not in (gone, half))  # seconds differ in those that were run again


def test_a_record_under_the_name_of_other_settings_does_not_count(tmp_path):
    runs, _ = PLAN.runs()
    results = Results(Store(str(tmp_path)))
    results.store.write_json(f"runs/{runs[0].name}.json", {"run": {"key": "another"}})
    assert results.finished() == []


def test_one_runs_failure_is_reported_and_loses_nothing_else(tmp_path, capsys):
    arguments = ["--envs", "Failing-v0", "--algos", "ppo", "--seeds", "3", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="^1$"):
        main([*COMMAND, *arguments])
    said = capsys.readouterr()
    assert "seed 1: failed" in said.out
    assert re.search(r"1 runs are not finished:\n  Failing-v0.ppo.1.*the motor burned out", said.err)
    assert {name.split(".")[2] for name in contents(tmp_path)} == {"0", "2"}
    (failure,) = [json.loads(path.read_text()) for path in (tmp_path / "failures").iterdir()]
    assert 'raise RuntimeError("the motor burned out")' in failure["traceback"]
    assert "the motor burned out" in (tmp_path / "report" / "report.md").read_text()
    assert "Traceback" in (tmp_path / "report" / "report.html").read_text()


def test_where_all_runs_fail_the_reason_is_said(tmp_path, capsys):
    arguments = ["--envs", "Failing-v0", "--algos", "ppo", "--seeds", "1", "--first-seed", "1", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="There are no finished runs"):
        main([*COMMAND, *arguments])
    assert "the motor burned out" in capsys.readouterr().err


def test_a_pair_that_was_skipped_once_and_runs_now_is_not_reported_as_skipped(tmp_path):
    results = Results(Store(str(tmp_path)))
    results.skip({("Payout-v0", "ppo"): "no settings yet", ("Payout-v0", "sac"): "cannot act"}, [])
    run_study(PLAN, str(tmp_path), HERE)
    assert [one["algo"] for one in results.skipped()] == ["sac"]


def test_what_a_killed_run_left_for_tensorboard_is_forgotten(tmp_path):
    runs, _ = PLAN.runs()
    results = Results(Store(str(tmp_path)))
    results.store.write(f"tensorboard/{runs[0].name}/events.old", b"old")
    results.forget(runs[0].name)
    assert results.store.names(f"tensorboard/{runs[0].name}", "") == []


def test_a_failure_is_forgotten_once_the_run_has_finished(tmp_path):
    runs, _ = PLAN.runs()
    results = Results(Store(str(tmp_path)))
    results.fail(runs[0], "bad luck", "")
    assert run_study(PLAN, str(tmp_path), HERE) == {}
    assert results.failures() == []


def test_a_disk_that_is_full_is_reported_by_a_sentence_and_finished_runs_stay(tmp_path, monkeypatch):
    write = Store.write
    written = []

    def nearly_full(self, path, data):
        if path.startswith("runs/"):
            written.append(path)
            if len(written) > 1:
                monkeypatch.setattr(self.fs, "pipe_file", full)
        write(self, path, data)

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "write", nearly_full)
    problems = run_study(PLAN, str(tmp_path), HERE)
    assert len(problems) == 2
    assert "No space is left in" in problems_text(problems)
    monkeypatch.undo()
    before = contents(tmp_path)
    assert len(before) == 1
    assert run_study(PLAN, str(tmp_path), HERE) == {}
    after = contents(tmp_path)
    assert len(after) == 3
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--out", "/proc/nowhere"], "cannot be written to /proc/nowhere"),
        (["--algos", "pppo"], "Unknown algorithm 'pppo'"),
        (["--envs", "Payot-v0"], "Unknown environment 'Payot-v0': did you mean 'Payout-v0'"),
        (["--env-module", "no_such_module"], "--env-module no_such_module"),
        (["--hyperparams", "ppo:no_such_thing=1"], "ppo cannot be set up on Payout-v0"),
        (["--timesteps", "0"], "timesteps=0"),
        (["--seeds", "0"], "use at least one"),
        (["--threshold", "Payot-v0=3"], "--threshold is for 'Payot-v0', which is none of the environments: Payout-v0"),
        (["--env-kwargs", "nonsense:0"], "Payout-v0 cannot be made with env_kwargs={'nonsense': 0}"),
        (["--env-wrapper", "no_such.Wrapper"], r"Payout-v0 cannot be made with env_wrapper=\['no_such.Wrapper'\]"),
    ],
)
def test_bad_input_ends_with_a_sentence_before_anything_is_trained_or_written(change, message, tmp_path, monkeypatch):
    monkeypatch.setattr("sb3_udrl.benchmark.study.train", None)
    out = tmp_path / "out"
    arguments = [*COMMAND, "--envs", "Payout-v0", "--algos", "ppo", "--out", str(out), *change]
    with pytest.raises(SystemExit, match=message):
        main(arguments)
    assert not out.exists()


def test_a_report_of_nothing_says_what_to_do(tmp_path):
    with pytest.raises(SystemExit, match="There are no finished runs in .* run"):
        main(["report", str(tmp_path)])


def test_hyper_parameters_come_in_the_zoos_manner_or_as_json():
    texts = ["udrl:retention='best'", "udrl:retention=best", "ppo:learning_rate:1e-3", "a:policy_kwargs=dict(x=[1])"]
    args = make_parser().parse_args(
        [
            "run",
            "--envs",
            "E",
            "--out",
            "x",
            "--hyperparams",
            *texts,
            'udrl:{"segments": {"deadline": {"max_horizon": 9}}}',
        ]
    )
    assert args.hyperparams == [
        ("udrl", {"retention": "best"}),
        ("udrl", {"retention": "best"}),
        ("ppo", {"learning_rate": 1e-3}),
        ("a", {"policy_kwargs": "dict(x=[1])"}),
        ("udrl", {"segments": {"deadline": {"max_horizon": 9}}}),
    ]


def test_the_display_shows_where_every_run_stands(tmp_path):
    runs, _ = PLAN.runs()
    results = Results(Store(str(tmp_path)))
    results.beat(runs[0], 60, 1.0)
    results.fail(runs[1], "bad luck", "")
    console = Console(width=200, record=True, file=io.StringIO())
    display = Display(runs, {}, results, console)
    display.look()
    console.print(display.table())
    text = console.export_text()
    assert "60 of 120 steps" in text
    assert "0 finished, 1 running, 1 waiting, 1 failed" in text


def test_a_store_that_hiccups_at_the_last_look_does_not_spoil_a_finished_study(tmp_path, monkeypatch):
    runs, _ = PLAN.runs()
    results = Results(Store(str(tmp_path)))
    with Display(runs, {}, results, Console(file=io.StringIO(), force_terminal=True)) as display:
        monkeypatch.setattr(results, "store", None)
    assert not display._live.is_started
