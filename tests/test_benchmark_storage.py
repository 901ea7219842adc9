"""Results are whole or not there, wherever they go."""

import errno
import json
from pathlib import Path

import pytest

from sb3_udrl.benchmark.storage import Store, StoreError


def test_what_is_written_is_read_again(tmp_path):
    store = Store(str(tmp_path / "new" / "folder"))
    store.check()
    store.write_json("runs/a.json", {"return": 1.5})
    assert Store(store.url).read_json("runs/a.json") == {"return": 1.5}
    assert store.names("runs") == ["a"]
    assert store.read("runs/b.json") is None
    assert store.names("nothing") == []


def test_commands_that_check_a_store_at_the_same_time_do_not_meet(tmp_path, monkeypatch):
    first, second = Store(str(tmp_path)), Store(str(tmp_path))
    move = first.fs.mv

    def move_after_the_other(*args, **kwargs):
        monkeypatch.setattr(first.fs, "mv", move)
        second.check()
        return move(*args, **kwargs)

    monkeypatch.setattr(first.fs, "mv", move_after_the_other)
    first.check()
    assert list(tmp_path.iterdir()) == []


def test_a_memory_file_system_will_do_as_well():
    store = Store("memory://study")
    store.write_json("runs/a.json", [1])
    assert store.read_json("runs/a.json") == [1]
    store.remove("runs/a.json")
    assert store.names("runs") == []


def test_a_half_written_file_is_no_result(tmp_path):
    store = Store(str(tmp_path))
    store.write_json("runs/a.json", {"returns": list(range(100))})
    path = tmp_path / "runs" / "a.json"
    path.write_bytes(path.read_bytes()[:50])
    assert store.read_json("runs/a.json") is None


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    store.write_json("a.json", 1)

    def full(path, data):
        Path(path).write_bytes(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.fs, "pipe_file", full)
    with pytest.raises(StoreError, match=r"No space is left in .*free some space and run the same command again"):
        store.write_json("a.json", 2)
    assert json.loads((tmp_path / "a.json").read_text()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("url", ["/proc/nothing", "nonsense://bucket/folder"])
def test_a_store_that_takes_nothing_is_refused(url):
    with pytest.raises(StoreError, match="nothing|nonsense"):
        Store(url).check()


def test_a_store_that_cannot_be_reached_says_so_when_it_is_read(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("nobody answers")

    store = Store("memory://far")
    monkeypatch.setattr(store.fs, "ls", unreachable)
    monkeypatch.setattr(store.fs, "cat_file", unreachable)
    for look in (lambda: store.names("runs"), lambda: store.read("runs/a.json")):
        with pytest.raises(StoreError, match=r"cannot be read from memory://far \(ConnectionError: nobody answers"):
            look()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(str(tmp_path / "file")).check()


def test_a_relative_folder_is_the_same_for_workers_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store("results").url == str(tmp_path / "results")
