"""Studies on a real Ray cluster, in a real S3 store, on a real full disk, and after a real kill -9."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rl_zoo3")

from sb3_udrl.benchmark.storage import Store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    "OMP_NUM_THREADS": "1",
    "RAY_DISABLE_DASHBOARD": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
SMALL = ["--timesteps", "120", "--eval-freq", "60", "--n-eval-episodes", "2", "--n-final-episodes", "3"]
SMALL += ["--hyperparams", "ppo:n_steps=60", "ppo:batch_size=60"]


def command(*arguments):
    return [sys.executable, "-m", "sb3_udrl.benchmark", "run", "--env-module", "benchmark_envs", *map(str, arguments)]


def study(*arguments, env=None, check=True):
    """Run a study in a process of its own; return what it printed."""
    done = subprocess.run(
        command(*arguments), env=env or ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300
    )
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, output
    return output


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


@pytest.fixture
def s3(tmp_path):
    """An S3 server with a bucket; what a client needs to know about it."""
    pytest.importorskip("s3fs")
    rclone = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if rclone is None:
        pytest.skip("rclone is not installed")
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    port = free_port()
    address = f"127.0.0.1:{port}"
    server = subprocess.Popen(
        [rclone, "serve", "s3", "--auth-key", "KEY,SECRET", "--addr", address, tmp_path / "s3"],
        env={**os.environ, "RCLONE_CONFIG": str(tmp_path / "none")},
        stderr=subprocess.DEVNULL,
    )

    def answers():
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers)
    yield {
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.kill()
    server.wait()


@pytest.fixture
def ray_cluster(tmp_path):
    """Two Ray nodes, of one CPU each; the address of the first."""
    ray = Path(sys.executable).parent / "ray"
    if not ray.exists():
        pytest.skip("Ray is not installed")
    address = f"127.0.0.1:{free_port()}"
    shared = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
    head = [
        "--head",
        f"--port={address.rpartition(':')[2]}",
        "--node-ip-address=127.0.0.1",
        "--include-dashboard=false",
    ]
    nodes = []
    try:
        for arguments in (head, [f"--address={address}"]):
            start = [ray, "start", *arguments, *shared]
            path = tmp_path / f"ray{len(nodes)}.log"
            with path.open("w") as log:
                nodes.append(subprocess.Popen(start, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True))
            wait_until(lambda log=path: "Ray runtime started" in log.read_text(), 120)
        yield address
    finally:
        for node in nodes:
            os.killpg(node.pid, signal.SIGTERM)
        for node in nodes:
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)
                node.wait()


def test_results_go_to_an_s3_store_and_come_back_from_it(s3):
    env = {**ENVIRONMENT, **s3}
    arguments = ["--envs", "Payout-v0", "--algos", "udrl", "ppo", "--seeds", 2, *SMALL, "--out", "s3://bucket/study"]
    output = study(*arguments, "--save-models", "--tensorboard", "--jobs", 1, env=env)
    assert "4/4" in output
    assert "Report: s3://bucket/study/report/report.html" in output
    code = (
        "import json; from sb3_udrl.benchmark.results import Results; from sb3_udrl.benchmark.storage import Store; "
        "results = Results(Store('s3://bucket/study')); "
        "names = results.finished(); "
        "print(json.dumps([len(names), [results.store.names(f'models/{name}', '.zip') for name in names], "
        "[len(results.store.names(f'tensorboard/{name}', '')) for name in names]]))"
    )
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert json.loads(found) == [4, [["model"]] * 4, [1] * 4]
    assert "4 runs, 4 of them finished already" in study(*arguments, "--no-report", env=env)


def test_a_store_that_cannot_be_reached_is_refused_before_training(s3):
    arguments = ["--envs", "Payout-v0", "--algos", "ppo", "--seeds", 1, *SMALL, "--out", "s3://bucket/study"]
    nobody = {**ENVIRONMENT, **s3, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    stranger = {**ENVIRONMENT, **s3, "AWS_SECRET_ACCESS_KEY": "WRONG"}
    for env in (nobody, stranger):
        start = time.monotonic()
        output = study(*arguments, env=env, check=False)
        assert time.monotonic() - start < 90
        assert "cannot be written to s3://bucket/study" in output
        assert "runs; results go to" not in output
        assert "Traceback" not in output


def test_a_study_on_a_ray_cluster_uses_both_of_its_nodes(ray_cluster, tmp_path):
    pytest.importorskip("ray")
    arguments = ["--envs", "Payout-v0", "--algos", "ppo", "--seeds", 4, *SMALL, "--out", tmp_path / "out"]
    # So long that one node alone would not have finished before the other one began
    arguments += ["--timesteps", 3000, "--backend", "ray"]
    env = {**ENVIRONMENT, "RAY_ADDRESS": ray_cluster}
    diary = ["--envs", "Diary-v0", "--env-kwargs", f"diary:{tmp_path / 'diary'}"]
    output = study(*arguments, *diary, env=env)
    assert "4/4" in output
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 4
    processes = {
        line.split()[1] for line in (tmp_path / "diary").read_text().splitlines() if int(line.split()[0]) < 100
    }
    assert len(processes) == 2  # a worker for each CPU, and each node has one


def test_a_study_on_dask(tmp_path):
    pytest.importorskip("distributed")
    arguments = ["--envs", "Payout-v0", "--algos", "ppo", "--seeds", 2, *SMALL, "--out", tmp_path]
    assert "2/2" in study(*arguments, "--backend", "dask", "--no-report")


def test_after_kill_9_nothing_is_run_twice_and_nothing_is_lost(tmp_path):
    out, diary = tmp_path / "out", tmp_path / "diary"
    arguments = ["--envs", "Diary-v0", "--env-kwargs", f"diary:{diary}", "--algos", "ppo", "--seeds", 5, *SMALL]
    arguments += ["--timesteps", 3000, "--out", out, "--jobs", 2, "--no-report"]
    killed = subprocess.Popen(command(*arguments), env=ENVIRONMENT, start_new_session=True)

    def finished():
        return {path.name: path.read_bytes() for path in (out / "runs").glob("*.json")}

    try:
        wait_until(lambda: len(finished()) >= 2, 120)
    finally:
        os.kill(killed.pid, signal.SIGKILL)  # only itself: its workers find out
        killed.wait()
    wait_until(lambda: not alive(killed.pid), 30)
    before = finished()
    assert 2 <= len(before) < 5
    trained_before = trainings(diary)
    output = study(*arguments)
    assert f"5 runs, {len(before)} of them finished already" in output
    after = finished()
    assert len(after) == 5
    assert before.items() <= after.items()
    again = {seed: count - trained_before.get(seed, 0) for seed, count in trainings(diary).items()}
    done = {int(name.split(".")[2]) for name in before}
    assert {seed: again.get(seed, 0) for seed in range(5)} == {seed: int(seed not in done) for seed in range(5)}


def trainings(diary):
    """How often an environment was reset with each training seed."""
    counts = {}
    for line in diary.read_text().splitlines():
        seed = int(line.split()[0])
        if seed < 100:  # evaluation has others
            counts[seed] = counts.get(seed, 0) + 1
    return counts


def alive(session):
    """Whether processes of a session are left."""
    return bool(subprocess.run(["pgrep", "-s", str(session)], capture_output=True, check=False).stdout)


def test_a_process_that_dies_loses_its_own_run_only(tmp_path):
    arguments = ["--envs", "Failing-v0", "--env-kwargs", "dies=True", "--algos", "ppo", "--seeds", 4, *SMALL]
    output = study(*arguments, "--out", tmp_path, "--jobs", 2, "--no-report", check=False)
    assert "1 runs are not finished:\n  Failing-v0.ppo.1" in output
    assert "was killed" in output
    assert {path.name.split(".")[2] for path in (tmp_path / "runs").iterdir()} == {"0", "2", "3"}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_refused_before_training_and_freeing_space_is_enough(small_disk):
    arguments = ["--envs", "Payout-v0", "--algos", "ppo", "--seeds", 2, *SMALL, "--out", small_disk, "--jobs", 1]
    Store(str(small_disk)).write("ballast", b"x" * 1_000_000)
    output = study(*arguments, "--no-report", check=False)
    assert "No space is left in" in output
    assert "Traceback" not in output
    (small_disk / "ballast").unlink()
    assert "2/2" in study(*arguments, "--no-report")
