"""Whole runs whose prefix holds, or loses, more than a run expects."""

import os
import shutil

import pytest

from trainer.config import from_argv
from trainer.data.synthetic import write_phantoms
from trainer.errors import InputError, KnownError
from trainer.runs.manifest import committed
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.world import World
from trainer.storage import LocalStorage, open_storage
from trainer.training import loop as training
from trainer.training.loop import train

RECIPE = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32 --epochs 2 --batch-size 8 --device cpu"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Phantoms, and a cache in which they are decoded once."""
    root = tmp_path_factory.mktemp("place")
    write_phantoms(root / "data", images=60, side=48)
    return root


@pytest.fixture
def run(place, tmp_path):
    """Start or go on with the run `r`: further flags to what it said."""

    def start(*flags, output=tmp_path):
        said = []
        where = f"--data {place}/data --cache-dir {place}/cache --output {output} --name r --no-report"
        log = RankLog(0)
        try:
            train(from_argv([*RECIPE.split(), *where.split(), *flags]), World(), Reporter(0, on_line=said.append), log)
        finally:
            log.close()
        return said

    return start


@pytest.fixture
def at_step(monkeypatch):
    """Do something before a step is trained."""

    def arrange(step, deed):
        real = training.train_step

        def stepped(run, state, batch, epoch):
            if state.step == step:
                deed()
            return real(run, state, batch, epoch)

        monkeypatch.setattr(training, "train_step", stepped)

    return arrange


FOREIGN = [
    "checkpoints/epoch=3-step=100.ckpt",
    "checkpoints/old/best.pt",
    "checkpoints/step-00000004.bak/state.pt",
    "checkpoints/step-4/state.pt",
    "tensorboard/events.out.tfevents.1790000000.host",
    "notes.txt",
    ".hidden",
    "checkpoints/.state.pt-0.partial",
    "empty/",
]


def plant(root):
    for name in FOREIGN:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text(name)
        os.utime(path, (0, 0))


def assert_all_there(root):
    for name in FOREIGN:
        path = root / name
        assert path.is_dir() if name.endswith("/") else path.read_text() == name


@pytest.mark.parametrize("when", ["before", "between"])
def test_foreign_files_survive_starts_and_pruning(when, run, tmp_path):
    """They were deleted with the checkpoints that are no longer needed, without a word."""
    root = tmp_path / "r"
    if when == "between":
        run("--max-steps", "4", "--checkpoint-every-steps", "1", "--keep-last", "1")
    plant(root)
    said = run("--checkpoint-every-steps", "1", "--keep-last", "1")
    assert_all_there(root)
    assert len(committed(LocalStorage(str(root)))) <= 2
    assert len([line for line in said if "not touched" in line]) == 1
    assert any("epoch=3-step=100.ckpt" in line for line in said)


def test_linked_checkpoints_are_refused_and_nothing_is_written(run, tmp_path):
    """Pruning went through the link, and removed what lay there."""
    elsewhere = tmp_path / "elsewhere"
    plant(elsewhere)
    (tmp_path / "r").mkdir()
    (tmp_path / "r/checkpoints").symlink_to(elsewhere / "checkpoints")
    with pytest.raises(InputError, match="r/checkpoints` is a link"):
        run()
    assert_all_there(elsewhere)
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["checkpoints"]


def test_linked_lock_is_refused_and_its_target_keeps_its_content(run, tmp_path):
    """It was emptied."""
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "r").mkdir()
    (tmp_path / "r/.lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(InputError, match=r"r/\.lock` is a link"):
        run()
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.parametrize("name", ["run.json", "report/index.html", "checkpoints/step-00000004/state.pt"])
def test_prefix_with_foreign_files_of_our_names_is_refused_and_unchanged(name, run, tmp_path):
    """A run would replace it."""
    path = tmp_path / "r" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "theirs"}')
    with pytest.raises(InputError, match=r"run\.json"):
        run()
    assert [each for each in (tmp_path / "r").rglob("*") if each.is_file()] == [path]
    assert path.read_text() == '{"name": "theirs"}'


def test_run_whose_folder_is_removed_stops_and_leaves_no_half_of_it(run, tmp_path, at_step):
    """It went on to exit code 0, with a folder that had no record."""
    at_step(3, lambda: shutil.rmtree(tmp_path / "r"))
    with pytest.raises(InputError, match=r"cannot continue the run at .*: its folder was removed or replaced") as end:
        run()
    assert end.value.exit_code == 2
    assert not (tmp_path / "r").exists()


def test_run_whose_folder_is_removed_with_its_output_stops(run, tmp_path, at_step):
    """The whole output may go."""
    at_step(3, lambda: shutil.rmtree(tmp_path / "out"))
    with pytest.raises(InputError, match="its folder was removed or replaced"):
        run(output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_run_whose_folder_is_another_runs_stops_and_changes_nothing_there(run, tmp_path, at_step):
    """Both ended well, and one had the other's weights."""
    root, record = tmp_path / "r", '{"name": "r", "config": {}, "identity": {}}'

    def replace():
        root.rename(tmp_path / "moved")
        LocalStorage(str(root)).write("run.json", record.encode())

    at_step(3, replace)
    with pytest.raises(InputError, match="its folder was removed or replaced"):
        run()
    assert [path.name for path in root.iterdir()] == ["run.json"]
    assert (root / "run.json").read_text() == record


def test_second_writer_under_the_name_ends_the_first_and_not_itself(run, tmp_path, at_step):
    """The first finds another's lock in its folder's place."""
    root = tmp_path / "r"

    def replace():
        shutil.rmtree(root)
        second = LocalStorage(str(root)).claim("other", print)
        second.__enter__()
        claims.append(second)

    claims = []
    at_step(3, replace)
    with pytest.raises(InputError, match="another process may write to it"):
        run()
    assert [path.name for path in root.iterdir()] == [".lock"]
    claims[0].__exit__(None, None, None)


def test_run_whose_folder_comes_back_without_its_lock_stops(run, tmp_path, at_step):
    """A copy in its place is not what it holds."""

    def replace():
        shutil.copytree(tmp_path / "r", tmp_path / "copy")
        shutil.rmtree(tmp_path / "r")
        (tmp_path / "copy").rename(tmp_path / "r")

    at_step(3, replace)
    with pytest.raises(KnownError) as end:
        run()
    assert end.value.exit_code == 2


@pytest.mark.parametrize("name", ["run.json", "results.json", "model/model.safetensors"])
def test_run_with_missing_files_at_its_end_fails(name, run, tmp_path, monkeypatch):
    """Whoever waits for exit code 0 takes what is there for the run."""
    real = LocalStorage.write

    def lost(storage, key, content):
        real(storage, key, content)
        if key == "results.json":
            (tmp_path / "r" / name).unlink()

    monkeypatch.setattr(LocalStorage, "write", lost)
    with pytest.raises(KnownError, match=rf"`{name}` was removed") as end:
        run()
    assert end.value.exit_code in {2, 3}


@pytest.mark.parametrize("which", ["run.json", ""])
def test_run_whose_prefix_in_a_bucket_is_emptied_stops(which, run, s3, at_step):
    """Its results would be all that is there."""

    def remove():
        storage = open_storage("s3://cxr/runs/r")
        for key in storage.keys(which):
            storage.delete(key)

    at_step(5, remove)
    with pytest.raises(InputError, match=r"its `run\.json` was removed"):
        run("--checkpoint-every-steps", "2", output="s3://cxr/runs")
    assert "results.json" not in open_storage("s3://cxr/runs/r").keys("")


def test_rank_log_does_not_recreate_a_removed_run_folder(tmp_path):
    """Its thread writes when all else is over."""
    storage = LocalStorage(str(tmp_path / "r"))
    storage.hold()
    log = RankLog(0)
    log.keep_in(storage)
    log.add("one")
    shutil.rmtree(tmp_path / "r")
    log.close()
    assert not (tmp_path / "r").exists()
