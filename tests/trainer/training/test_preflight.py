"""The preflight of a run: on which nodes and when, what stops it, and what it says."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from trainer.config import from_argv
from trainer.devices import cpu, trial
from trainer.devices.trial import Trial
from trainer.errors import InputError, JobFailedError, RemoteError
from trainer.layout import POD_NODE
from trainer.runs import known_nodes, node_checks
from trainer.runs.checks import Outcome, Row
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.world import World
from trainer.storage import LocalStorage
from trainer.training.preflight import Preflight, check_workers, clock_rows, in_words, node_rows


@pytest.fixture
def tried(monkeypatch):
    """A processor that counts as an accelerator; the trials of it."""
    trials = []

    def run(*place):
        trials.append(place)
        return Trial("one card", "torch", 1.0)

    monkeypatch.setattr(cpu, "is_accelerator", True)
    monkeypatch.setattr(trial, "run", run)
    return trials


def on(node, monkeypatch):
    monkeypatch.setenv(POD_NODE, node)


def test_run_is_checked_at_its_first_start_and_on_a_new_node_only(classify, tried, monkeypatch, tmp_path, capfd):
    """A restart costs what it cost before."""
    on("gpu-1", monkeypatch)
    classify("r", "--max-steps", "1")
    said = capfd.readouterr().err
    assert "preflight of node `gpu-1` in " in said
    assert ": device, disk: OK" in said
    assert tried == [("cpu", 0, 1)]
    classify("r", "--max-steps", "2")
    assert "preflight" not in capfd.readouterr().err
    assert len(tried) == 1
    on("gpu-2", monkeypatch)
    classify("r", "--max-steps", "3")
    assert "preflight of node `gpu-2`" in capfd.readouterr().err
    assert len(tried) == 2
    assert json.loads((tmp_path / "r/nodes.json").read_text()) == {"nodes": ["gpu-1", "gpu-2"]}


def test_run_of_an_earlier_version_is_checked_once_and_off_leaves_it_out(classify, tried, tmp_path, capfd):
    classify("r", "--max-steps", "1", "--preflight", "off")
    assert "preflight" not in capfd.readouterr().err
    assert tried == []
    assert not (tmp_path / "r/nodes.json").exists()
    classify("r", "--max-steps", "2")
    assert "preflight of node" in capfd.readouterr().err
    assert len(tried) == 1


def test_device_that_fails_its_trial_stops_the_run_before_it_is_opened(classify, monkeypatch, tmp_path):
    on("gpu-1", monkeypatch)
    monkeypatch.setattr(cpu, "is_accelerator", True)
    monkeypatch.setattr(cpu, "open", lambda *_: pytest.fail("it was opened"))

    def fails(*_):
        raise JobFailedError("the trial of cpu did not end within 90 s", hint="keep jobs off the node")

    monkeypatch.setattr(trial, "run", fails)
    with pytest.raises(JobFailedError) as failed:
        classify("r", "--max-steps", "1")
    assert "preflight failed on node `gpu-1`: device: the trial of cpu did not end within 90 s" in str(failed.value)
    assert failed.value.hint == "keep jobs off the node; --preflight off starts without these checks"
    assert not (tmp_path / "r").exists()


def test_software_that_does_not_fit_is_no_defect_of_the_node(classify, monkeypatch):
    """Another node would not help: exit code 2, with the image to take."""
    monkeypatch.setattr(cpu, "is_accelerator", True)

    def refuses(*_):
        raise InputError("cannot train on Tesla P100", hint="another image")

    monkeypatch.setattr(trial, "run", refuses)
    with pytest.raises(InputError, match="cannot train on Tesla P100"):
        classify("r", "--max-steps", "1")


def test_disk_without_room_stops_the_run_before_images_are_decoded(classify, monkeypatch, tmp_path):
    on("cpu-1", monkeypatch)
    monkeypatch.setattr(node_checks.shutil, "disk_usage", lambda _: SimpleNamespace(total=1 << 40, free=100))
    with pytest.raises(
        JobFailedError, match=r"preflight failed on node `cpu-1`: disk: `.*` has 100 bytes free; the run"
    ):
        classify("r", "--max-steps", "1", "--cache-dir", str(tmp_path / "cache"))
    assert not (tmp_path / "r").exists()


class Ranks(WorkerGroup):
    """The group as this rank sees it; the others answer what is given."""

    def __init__(self, world, others):
        super().__init__(world, None)
        self._others = others

    def all_gather(self, payload):
        return [payload, *([self._others] * (self.world.size - 1))]

    def all_or_raise(self, act):
        return act()


@pytest.fixture
def two_nodes(monkeypatch):
    """Rank 0 of two nodes whose group checks give a row; the other node is new if it sends its name."""
    rows = [Row("all-reduce", Outcome("OK", "26.6 MiB in 31.0 ms (0.90 GB/s)"))]
    monkeypatch.setattr("trainer.training.preflight.check_group", lambda *_, **__: list(rows))
    return lambda others: Ranks(World(size=2, local_size=1), others)


@pytest.mark.parametrize(
    ("is_new", "others", "nodes"),
    [(False, b"", []), (True, b"", ["a"]), (False, b"b", ["b"]), (True, b"b", ["a", "b"]), (True, b"a", ["a"])],
)
def test_all_workers_are_compared_where_any_node_is_new(two_nodes, is_new, others, nodes):
    """A node that has passed before is compared with the new one, but not checked again."""
    checks = Preflight("a", is_new=is_new)
    check_workers(checks, two_nodes(others), cpu, torch.device("cpu"), lambda _: None)
    assert checks.nodes == nodes
    assert [row.check for row in checks.group_rows] == (["all-reduce"] if nodes else [])


def ok(*checks):
    return [("a", Row(check, Outcome("OK", f"{check} is fine"))) for check in checks]


def test_all_is_well_in_one_line():
    checks = Preflight("a", is_new=True, nodes=["a", "b"], seconds=1.34)
    checks.group_rows = [Row("workers", Outcome("OK", "x")), Row("all-reduce", Outcome("OK", "26.6 MiB in 31.0 ms"))]
    [line] = in_words(checks, ok("device", "disk"))
    assert line == "preflight of 2 nodes in 1.3 s: device, disk, workers, all-reduce (26.6 MiB in 31.0 ms): OK"


def test_warning_gives_a_table_with_the_node_of_each_row():
    checks = Preflight("a", is_new=True, nodes=["a", "b"])
    checks.group_rows = [Row("workers", Outcome("WARN", "slower: rank 3 on `b`", "look there"))]
    warned = Row("huge pages", Outcome("WARN", "none are free", "preallocate them"))
    first, *table = in_words(checks, [*ok("disk"), ("b", warned), ("b", warned)])
    assert first == "preflight of 2 nodes in 0.0 s, with warnings:"
    assert [line.split() for line in table] == [
        ["OK", "disk", "on", "a", "disk", "is", "fine"],
        ["WARN", "huge", "pages", "on", "b", "none", "are", "free"],
        ["fix:", "preallocate", "them"],
        ["WARN", "workers", "slower:", "rank", "3", "on", "`b`"],
        ["fix:", "look", "there"],
    ]


def test_shared_memory_counts_between_cards_of_a_node_only(monkeypatch):
    """A worker alone, and processors, do without it."""
    monkeypatch.setattr(node_checks, "shared_memory", lambda: Outcome("FAIL", "64 MiB", "more"))
    assert list(node_rows(cpu, World(size=2, local_size=2))) == []
    monkeypatch.setattr(cpu, "is_accelerator", True)
    assert list(node_rows(cpu, World(size=2, local_size=1))) == []
    [row] = node_rows(cpu, World(size=2, local_size=2))
    assert (row.check, row.outcome.status) == ("shared memory", "FAIL")


@pytest.mark.parametrize(("status", "shown"), [("OK", "OK"), ("WARN", "WARN"), ("FAIL", "WARN")])
def test_clock_against_the_s3_server_only_warns(monkeypatch, status, shown):
    """The run's own requests fail where it is too wrong, and a check of a bucket that is down is left to them."""
    config = from_argv(
        ["--data", "/d", "--output", "s3://b/p", "--name", "r", "--cache-dir", "/c", "--preset", "smoke"]
    )
    monkeypatch.setattr("trainer.runs.preflight.clock", lambda _: Outcome(status, "61 s ahead", "NTP"))
    [row] = clock_rows(config)
    assert (row.check, row.outcome.status) == ("clock", shown)

    def down(_):
        raise RemoteError("no response")

    monkeypatch.setattr("trainer.runs.preflight.clock", down)
    assert list(clock_rows(config)) == []
    assert list(clock_rows(replace(config, output="/o"))) == []


def test_missing_huge_pages_only_warn(monkeypatch):
    monkeypatch.setattr(cpu, "host_shortage", lambda: "no huge pages are free")
    [row] = node_rows(cpu, World())
    assert (row.check, row.outcome.status, row.outcome.found) == ("huge pages", "WARN", "no huge pages are free")


def test_damaged_list_of_nodes_means_a_check_and_is_replaced(tmp_path):
    storage = LocalStorage(str(tmp_path))
    storage.write("nodes.json", b"{")
    assert known_nodes.read(storage) == []
    known_nodes.note(storage, ["a", "b", "a"])
    known_nodes.note(storage, ["b", "c"])
    assert known_nodes.read(storage) == ["a", "b", "c"]


def test_list_of_nodes_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr(known_nodes, "MOST", 2)
    storage = LocalStorage(str(tmp_path))
    known_nodes.note(storage, ["a", "b", "c"])
    assert known_nodes.read(storage) == ["b", "c"]
