"""A prepared set in a bucket comes to the node once, verified, or is refused by name before anything is fetched."""

import json
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import boto3
import pytest
from faultproxy import CutAnswer
from recipes import placed, tiny

from trainer.config import from_argv
from trainer.data.dataset import Place
from trainer.data.dataset import fetched as fetched_place
from trainer.data.packs import prepared, staging
from trainer.data.packs.open_prepared import open_prepared
from trainer.data.packs.records import Geometry
from trainer.data.packs.staging import forget, is_staged, stage, staged_folder
from trainer.data.preparing.prepare import prepare
from trainer.data.synthetic import write_phantoms
from trainer.errors import InputError
from trainer.location import Location
from trainer.prepare_config import PrepareConfig
from trainer.runs import preflight
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.watchdog import Watchdog
from trainer.runtime.world import World
from trainer.storage import DamagedError
from trainer.training.loop import train

URL = "s3://cxr/packed"
SHARD = "shard-0000-0000.bin"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Phantoms, and the set prepared from them."""
    folder = tmp_path_factory.mktemp("prepared")
    write_phantoms(folder / "cxr", images=60, side=48)
    prepare(PrepareConfig(data=str(folder / "cxr"), out=str(folder / "set"), pack_side=36, workers=1), Reporter(None))
    return folder / "set"


@pytest.fixture
def bucket(s3, made):
    for path in made.iterdir():
        put(path.name, path.read_bytes())


def put(name, content):
    boto3.client("s3").put_object(Bucket="cxr", Key=f"packed/{name}", Body=content)


def index_with(made, **changes):
    return json.dumps(json.loads((made / "manifest.json").read_text()) | changes, indent=1).encode()


def names(folder):
    return (folder / "names.txt").read_text().split()


@pytest.fixture
def fetched():
    """Bytes that were to be fetched, by call."""
    return []


@pytest.fixture
def progress(fetched):
    @contextmanager
    def begin(size):
        fetched.append(size)
        yield lambda _, __: None

    return begin


@pytest.mark.usefixtures("bucket")
def test_set_is_fetched_once_and_equals_the_original(made, tmp_path, progress, fetched):
    folder = stage(URL, tmp_path, progress)
    assert staged_folder(URL, tmp_path) == folder == stage(URL + "/", tmp_path, progress)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in made.iterdir()
    }
    whole = sum(size for size, _ in prepared.read(made).files.values())
    assert fetched == [whole, 0]
    assert open_prepared(folder, names(folder)).sha256 == open_prepared(made, names(made)).sha256


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_file_of_the_cache_that_differs_is_fetched_again_alone(made, tmp_path, progress, fetched, damage):
    folder = stage(URL, tmp_path, progress)
    content = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage is None else damage)
    stage(URL, tmp_path, progress)
    assert fetched[1] == len(content)
    assert (folder / SHARD).read_bytes() == (made / SHARD).read_bytes()


@pytest.mark.usefixtures("bucket")
def test_interrupted_download_is_continued_and_no_half_set_is_taken(made, tmp_path, progress, fetched, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(staging, "fetch_all", fetching_all_but_a_shard)
        with pytest.raises(KeyboardInterrupt):
            stage(URL, tmp_path, progress)
    assert staged_folder(URL, tmp_path) is None
    folder = stage(URL, tmp_path, progress)
    assert fetched[1] == (made / SHARD).stat().st_size
    assert (folder / "manifest.json").read_bytes() == (made / "manifest.json").read_bytes()


def fetching_all_but_a_shard(storage, items, **others):
    from trainer.storage.resumable import fetch_all

    fetch_all(storage, [item for item in items if item.key != SHARD], **others)
    raise KeyboardInterrupt


@pytest.mark.usefixtures("bucket")
def test_answers_that_break_off_are_continued(made, tmp_path, progress, fault_proxy):
    fault_proxy.script(CutAnswer(3000), key=f"*/{SHARD}", method="GET", times=2)
    folder = stage(URL, tmp_path, progress)
    assert (folder / SHARD).read_bytes() == (made / SHARD).read_bytes()


@pytest.mark.usefixtures("bucket")
def test_object_that_differs_from_the_index_is_named_and_not_taken(made, tmp_path, progress):
    put(SHARD, bytes((made / SHARD).stat().st_size))
    with pytest.raises(DamagedError, match=rf"cannot fetch `{SHARD}`: it is damaged, its sha256"):
        stage(URL, tmp_path, progress)
    assert staged_folder(URL, tmp_path) is None
    assert not list(tmp_path.rglob(SHARD))


@pytest.mark.usefixtures("bucket")
def test_missing_and_short_files_are_named_before_anything_is_fetched(made, tmp_path, progress, fetched):
    boto3.client("s3").delete_object(Bucket="cxr", Key=f"packed/{SHARD}")
    put("labels.csv", b"Image Index")
    with pytest.raises(InputError) as caught:
        stage(URL, tmp_path, progress)
    words = str(caught.value)
    assert f"cannot fetch the prepared set `{URL}`: 2 of its files are not those of its index" in words
    assert f"{SHARD}: missing" in words
    assert "labels.csv: 11 bytes instead of" in words
    assert not fetched


@pytest.mark.usefixtures("bucket")
def test_cache_without_room_is_named_with_the_bytes_before_anything_is_fetched(
    made, tmp_path, progress, fetched, monkeypatch
):
    whole = sum(size for size, _ in prepared.read(made).files.values())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=whole - 1))
    with pytest.raises(InputError, match=rf"{whole:,} bytes are needed, .* has {whole - 1:,} bytes free") as caught:
        stage(URL, tmp_path, progress)
    assert "--cache-dir" in caught.value.hint
    assert not fetched


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"count": 61}, "contradicts itself: the number of records"), ({"parts": 1}, "cannot be read")],
)
def test_damaged_index_is_named(made, tmp_path, progress, changes, reason):
    put("manifest.json", index_with(made, **changes))
    with pytest.raises(InputError, match=f"cannot fetch the prepared set `{URL}`: manifest.json {reason}"):
        stage(URL, tmp_path, progress)


@pytest.mark.usefixtures("bucket")
def test_set_that_was_prepared_again_goes_to_another_folder(made, tmp_path, progress):
    """A run that uses the first set keeps its files."""
    first = stage(URL, tmp_path, progress)
    put("manifest.json", index_with(made))
    second = stage(URL, tmp_path, progress)
    assert first != second == staged_folder(URL, tmp_path)
    assert (first / SHARD).read_bytes() == (second / SHARD).read_bytes()
    forget(URL, tmp_path)
    assert staged_folder(URL, tmp_path) is None


def test_only_prepared_sets_in_buckets_and_on_fuse_mounts_are_staged(s3, bucket, made, tmp_path, monkeypatch):
    boto3.client("s3").put_object(Bucket="cxr", Key="raw/labels.csv", Body=b"1")
    assert is_staged(URL)
    assert not is_staged("s3://cxr/raw")
    assert not is_staged(str(made))
    for kind, expected in (("fuse.mountpoint-s3", True), ("ext4", False), ("nfs4", False)):
        mounts = tmp_path / "mountinfo"
        mounts.write_text(
            "20 1 8:1 / / rw - ext4 /dev/vda rw\n"
            f"36 20 0:54 / {str(made.parent).replace(' ', chr(92) + '040')} ro,relatime shared:9 - {kind} source ro\n"
        )
        monkeypatch.setattr(staging, "_MOUNTS", mounts)
        assert is_staged(str(made)) is expected
        assert not is_staged(str(tmp_path))


@pytest.mark.usefixtures("bucket")
def test_run_on_the_bucket_equals_that_on_the_directory(made, tmp_path, drawn_at_once):
    """Two starts: the second finds the set in the cache, and resumes."""
    lines = []

    def run(data, name, *flags):
        argv = placed(tiny(1), data, tmp_path, tmp_path / "cache", name, "--split", "patients:50/25/25", *flags)
        return train(from_argv([*argv, "--no-report"]), World(), Reporter(0, on_line=lines.append), RankLog(0))

    run(URL, "bucket", "--max-steps", "2")
    run(URL, "bucket")
    run(made, "directory")
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("bucket", "directory")]
    assert records[0]["identity"]["pack_sha256"] == records[1]["identity"]["pack_sha256"]
    ends = [(tmp_path / name / "results.json").read_text() for name in ("bucket", "directory")]
    assert json.loads(ends[0])["test"] == json.loads(ends[1])["test"]


@pytest.mark.usefixtures("bucket")
def test_set_of_another_geometry_is_refused_before_it_is_fetched(tmp_path):
    place = Place(
        data=URL,
        layout="auto",
        split="given",
        val_list=None,
        geometry=Geometry(side=24, fit="crop"),
        cache=tmp_path / "cache",
    )
    with pytest.raises(InputError, match=rf"set at `{URL}`: it was prepared with --pack-side 36 \(requested 24\)"):
        fetched_place(place, Reporter(None), Watchdog(float("inf"), lambda _: None))
    assert not (tmp_path / "cache").exists()


def config(data, *flags):
    return from_argv(
        ["--data", data, "--output", "runs", "--cache-dir", "c", "--name", "r", "--split", "patients:50/25/25", *flags]
    )


@pytest.mark.usefixtures("bucket")
def test_check_before_a_run_names_what_a_prepared_set_lacks():
    good = config(URL, "--pack-side", "36", "--crop-px", "32")
    assert "layout prepared" in preflight.labels(good, Location(URL)).found
    found = preflight.images(good, Location(URL))
    assert (found.status, found.found.startswith("prepared set of 60 records, ")) == ("OK", True)
    with pytest.raises(InputError, match=f"`{URL}`: it was prepared with --pack-side 36 \\(requested 256\\)"):
        preflight.images(config(URL), Location(URL))
    boto3.client("s3").delete_object(Bucket="cxr", Key=f"packed/{SHARD}")
    found = preflight.images(good, Location(URL))
    assert (found.status, f"{SHARD}: missing" in found.found) == ("FAIL", True)
