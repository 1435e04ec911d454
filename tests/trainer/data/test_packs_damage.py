"""A pack whose files changed: named, built again, and nothing of others removed on the way."""

import errno
import hashlib
import json
import os
import resource
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data import dataset, decoded_images
from trainer.data.labels import LabelTable
from trainer.data.layouts import Source
from trainer.data.locks import locked
from trainer.data.packs import building, checksums, index, reading
from trainer.data.packs.damage import DamagedPackError
from trainer.data.packs.key import pack_key
from trainer.data.packs.records import Geometry
from trainer.data.packs.verify import attach, open_pack
from trainer.errors import InputError, TryAgainError
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.watchdog import Watchdog
from trainer.runtime.world import World

SIDE = 8
GEOMETRY = Geometry(side=SIDE, fit="crop")
NAMES = [f"{number}.png" for number in range(12)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pack of three shards, as the previous version wrote it: without checksums. Its last image can't be read."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for name in NAMES[:-1]:
        Image.fromarray(rng.integers(1, 256, (SIDE, SIDE), np.uint8)).save(folder / "images" / name)
    (folder / "images" / NAMES[-1]).write_bytes(b"no image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "SHARD_BYTES", SIDE * SIDE * 5)
        with locked(folder / "p"):
            building.build(folder / "p", NAMES, paths_in(folder), GEOMETRY, progress=lambda _: None)
    (folder / "p" / "checksums.bin").unlink()
    return folder


def paths_in(folder):
    return [folder / "images" / name for name in NAMES]


@pytest.fixture
def there(made, tmp_path, monkeypatch):
    """A copy of it, times and all."""
    monkeypatch.setattr(index, "SHARD_BYTES", SIDE * SIDE * 5)
    shutil.copytree(made / "p", tmp_path / "p")
    return tmp_path / "p"


def change(path, change):
    """Change a file's content and nothing that `ls` shows."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    changed = change(content)
    path.write_bytes(content if changed is None else changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def in_manifest(**changes):
    """A function that changes fields of the manifest, which it is given."""

    def act(folder):
        said = json.loads((folder / "manifest.json").read_text())
        for name, new in changes.items():
            said[name] = new(said[name])
        (folder / "manifest.json").write_text(json.dumps(said, indent=1))

    return act


def zeroed(name):
    return lambda folder: change(folder / name, lambda content: bytes(len(content)))


def flip(content):
    content[len(content) // 2] ^= 1


def swap(folder):
    one, other = folder / "shard-00000.bin", folder / "shard-00001.bin"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def replaced_by(make):
    def act(folder):
        (folder / "shard-00001.bin").unlink()
        make(folder / "shard-00001.bin")

    return act


DAMAGES = {
    "zeroed shard": zeroed("shard-00000.bin"),
    "one bit": lambda folder: change(folder / "shard-00002.bin", flip),
    "zeroed sizes": zeroed("sizes.bin"),
    "shard cut": lambda folder: change(folder / "shard-00001.bin", lambda content: content[:-1]),
    "shard longer": lambda folder: change(folder / "shard-00001.bin", lambda content: content + b"x"),
    "shard empty": lambda folder: change(folder / "shard-00001.bin", lambda _: b""),
    "shards swapped": swap,
    "shard gone": replaced_by(lambda path: None),
    "shard a pipe": replaced_by(os.mkfifo),
    "shard a device": replaced_by(lambda path: path.symlink_to("/dev/zero")),
    "shard a folder": replaced_by(lambda path: path.symlink_to("/")),
    "names changed": lambda folder: change(folder / "names.txt", lambda content: content.replace(b"1.png", b"2.png")),
    "names gone": lambda folder: (folder / "names.txt").unlink(),
    "manifest gone": lambda folder: (folder / "manifest.json").unlink(),
    "manifest cut": lambda folder: change(folder / "manifest.json", lambda content: content[:100]),
    "manifest empty": lambda folder: change(folder / "manifest.json", lambda _: b""),
    "no JSON object": lambda folder: change(folder / "manifest.json", lambda _: b"[1]"),
    "nested": lambda folder: change(folder / "manifest.json", lambda _: b"[" * 100_000),
    "large number": lambda folder: change(
        folder / "manifest.json", lambda content: content.replace(b'"count": 12', b'"count": 1e999')
    ),
    "count": in_manifest(count=lambda count: count - 1),
    "count as text": in_manifest(count=str),
    "side": in_manifest(geometry=lambda geometry: geometry | {"side": 4}),
    "fit": in_manifest(geometry=lambda geometry: geometry | {"fit": "pad"}),
    "geometry a list": in_manifest(geometry=list),
    "format": in_manifest(format=lambda _: 3),
    "files emptied": in_manifest(files=lambda _: {}),
    "a file left out": in_manifest(files=lambda files: {name: files[name] for name in files if name != "sizes.bin"}),
    "a file more": in_manifest(files=lambda files: files | {"../../x": [1, "0"]}),
    "a hash": in_manifest(files=lambda files: files | {"shard-00000.bin": [files["shard-00000.bin"][0], "0" * 64]}),
    "a hash that is no text": in_manifest(files=lambda files: files | {"shard-00000.bin": [320, None]}),
    "files of numbers": in_manifest(files=lambda files: dict.fromkeys(files, 1)),
    "unreadable emptied": in_manifest(unreadable=lambda _: {}),
    "unreadable with more": in_manifest(unreadable=lambda there: there | {"3.png": "it is small"}),
    "unreadable a list": in_manifest(unreadable=list),
    "another Pillow": in_manifest(pillow=lambda _: "1.0"),
    "a field more": lambda folder: change(
        folder / "manifest.json", lambda content: content.replace(b"{", b'{"x": 1,', 1)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_changed_pack_is_not_opened(there, damage):
    """Trained on, it teaches nothing of X-rays, and no number says so."""
    assert open_pack(there, NAMES, GEOMETRY) is not None
    DAMAGES[damage](there)  # after it was verified
    with pytest.raises(DamagedPackError):
        open_pack(there, NAMES, GEOMETRY)


@pytest.mark.parametrize(
    ("names", "geometry"),
    [(NAMES[:-1], GEOMETRY), ([*NAMES[1:], NAMES[0]], GEOMETRY), (NAMES, Geometry(side=SIDE, fit="pad"))],
)
def test_pack_of_other_images_is_not_opened(there, names, geometry):
    """A folder's name is no proof of what lies in it."""
    with pytest.raises(DamagedPackError):
        open_pack(there, names, geometry)


def test_pack_of_the_previous_version_is_verified_and_has_the_same_identity(there):
    """Runs that were begun with it go on: their run.json holds its hash."""
    files = json.loads((there / "manifest.json").read_text())["files"]
    hashed = sorted((name, tuple(files[name])) for name in files if name != "sizes.bin")
    opened = open_pack(there, NAMES, GEOMETRY)
    assert opened.sha256 == hashlib.sha256(json.dumps(hashed).encode()).hexdigest()
    assert len((there / "checksums.bin").read_bytes()) == 4 * len(NAMES)
    assert attach(there, NAMES, GEOMETRY).sha256 == opened.sha256


def test_missing_pack_is_no_damage(tmp_path):
    """It is made then, and nobody is alarmed."""
    assert open_pack(tmp_path / "p", NAMES, GEOMETRY) is None


def test_pack_in_a_cache_that_is_read_only_is_verified_too(there, monkeypatch):
    """Only the checksums can't be kept."""

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checksums, "write_flushed", refused)
    assert open_pack(there, NAMES, GEOMETRY) is not None
    assert not [path for path in there.iterdir() if "checksums" in path.name]


@pytest.mark.parametrize("damage", ["zeroed shard", "one bit", "shard cut", "shard empty", "zeroed checksums"])
def test_pack_that_changes_while_it_is_used_ends_the_run_and_not_its_meaning(there, damage):
    """A memory map would end the process with a bus error where the file became shorter, and go on where it was zeroed."""
    open_pack(there, NAMES, GEOMETRY)
    (DAMAGES | {"zeroed checksums": zeroed("checksums.bin")})[damage](there)
    out = np.empty((len(NAMES), SIDE, SIDE), np.uint8)
    with pytest.raises(TryAgainError, match="was damaged while in use, in shard-0000"):
        attach(there, NAMES, GEOMETRY).gather(np.arange(len(NAMES)), out)
    if damage == "zeroed checksums":
        repaired = open_pack(there, NAMES, GEOMETRY)
        repaired.gather(np.arange(len(NAMES)), out)
        attach(there, NAMES, GEOMETRY).gather(np.arange(len(NAMES)), out)


def test_pack_that_another_run_has_replaced_is_still_read(there):
    """The files that are open are the old ones, whatever their names lead to now."""
    opened = open_pack(there, NAMES, GEOMETRY)
    shutil.rmtree(there)
    opened.gather(np.arange(len(NAMES)), np.empty((len(NAMES), SIDE, SIDE), np.uint8))
    with pytest.raises(TryAgainError, match="another run may be rebuilding it"):
        attach(there, NAMES, GEOMETRY)


@contextmanager
def few_open_files(more):
    """For the block, this process may open so many files more than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A pack with a shard for each of its 200 records."""
    monkeypatch.setattr(index, "SHARD_BYTES", 1)
    paths = [tmp_path / f"{number}.png" for number in range(200)]
    for number, path in enumerate(paths):
        Image.new("L", (SIDE, SIDE), number + 1).save(path)
    names = [path.name for path in paths]
    with locked(tmp_path / "p"):
        building.build(tmp_path / "p", names, paths, GEOMETRY, progress=lambda _: None)
    return tmp_path / "p", names


def test_pack_of_more_shards_than_files_may_be_open_is_read(many):
    """MIMIC-CXR at 512 pixels has 1,500 shards, and a process 1,024 files."""
    folder, names = many
    with few_open_files(reading.MOST_OPEN + 20):
        opened = open_pack(folder, names, GEOMETRY)
        records = np.empty((200, SIDE, SIDE), np.uint8)
        opened.gather(np.arange(200), records)
    assert (records[:, 0, 0] == np.arange(1, 201)).all()
    (folder / "shard-00199.bin").write_bytes(bytes(SIDE * SIDE))
    with pytest.raises(TryAgainError, match="shard-00199"):
        opened.gather(np.array([199]), records)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT])
def test_unrelated_read_errors_do_not_rebuild_the_pack(decode, monkeypatch, number):
    """The pack is whole: to decode it again would take hours, and meet the same."""
    folder = decode()[0].folder
    before = (folder / "shard-00000.bin").stat()

    def refused(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(index, "open_regular", refused)
    with pytest.raises(TryAgainError, match="cannot read the pack"):
        decode()
    assert os.path.samestat(before, (folder / "shard-00000.bin").stat())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_pack_beside_which_nothing_can_be_written_is_used_as_it_is(decode, monkeypatch, number):
    """An old pack on a full disk, or in a cache of another user: each worker takes the checksums itself."""

    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checksums, "write_flushed", refused)
    opened, said = decode()
    assert said == []
    assert not (opened.folder / "checksums.bin").exists()
    opened.gather(np.arange(12), np.empty((12, SIDE, SIDE), np.uint8))
    DAMAGES["zeroed shard"](opened.folder)
    with pytest.raises(TryAgainError, match="has changed"):
        attach(opened.folder, NAMES, GEOMETRY)


@pytest.fixture
def decode(made, tmp_path, monkeypatch):
    """Open the pack as a run does; gives the pack and what was said."""
    monkeypatch.setattr(index, "SHARD_BYTES", SIDE * SIDE * 5)
    monkeypatch.setattr(decoded_images, "locate_images", lambda source: paths_in(made))
    table = LabelTable(
        findings=("a",),
        images=tuple(NAMES),
        patients_N=np.arange(12),
        labels_NK=np.zeros((12, 1), np.uint8),
        split_N=np.zeros(12, np.int8),
    )
    place = dataset.Place(
        data=str(made), layout="csv", split="given", val_list=None, geometry=GEOMETRY, cache=tmp_path / "cache"
    )
    shutil.copytree(made / "p", place.cache / "packs" / pack_key(NAMES, paths_in(made), GEOMETRY))

    def run():
        said = []
        watchdog = Watchdog(60.0, said.append)
        source = Source("csv", made, table)
        return decoded_images.decoded(
            place, source, WorkerGroup(World(), None), Reporter(None, on_line=said.append), watchdog
        ), said

    return run


@pytest.mark.parametrize("damage", ["zeroed shard", "manifest gone", "shard a pipe"])
def test_damaged_pack_is_named_and_rebuilt(decode, damage):
    """The images are there: nobody need do anything."""
    before, said = decode()
    assert not any("damaged" in line for line in said)
    DAMAGES[damage](before.folder)
    after, said = decode()
    assert [
        line
        for line in said
        if line.startswith(f"the pack at `{before.folder}` is damaged: ") and "building it again" in line
    ]
    assert (after.folder, after.sha256) == (before.folder, before.sha256)
    records = np.empty((12, SIDE, SIDE), np.uint8)
    after.gather(np.arange(12), records)
    assert records[:11].any(axis=(1, 2)).all()
    _, said = decode()
    assert said == []


def test_foreign_file_in_a_packs_folder_is_refused_and_kept(decode):
    """A user's notes are no part of a pack that is built again."""
    folder = decode()[0].folder
    (folder / "notes.txt").write_text("mine")
    decode()  # whole: nobody looks
    DAMAGES["zeroed shard"](folder)
    with pytest.raises(InputError, match=r"not a pack's\n  notes\.txt"):
        decode()
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "shard-00001.bin").exists()


@pytest.mark.parametrize("leads", ["to a folder", "to nowhere"])
def test_linked_pack_is_not_rebuilt_through_the_link(decode, tmp_path, leads):
    """What it leads to is somebody's."""
    folder = decode()[0].folder
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    decode()  # whole: read through the link
    if leads == "to nowhere":
        shutil.rmtree(tmp_path / "elsewhere")
    else:
        DAMAGES["zeroed shard"](tmp_path / "elsewhere")
    with pytest.raises(InputError, match="it is a link"):
        decode()
    assert (tmp_path / "elsewhere").exists() == (leads == "to a folder")


def test_only_leftovers_of_builds_are_swept(decode):
    """By whole names, and by what lies in it: another's folder that is called alike stays."""
    folder = decode()[0].folder
    packs, old = folder.parent, time.time() - 3 * building.STALE_S
    hexes, key = "0123456789abcdef" * 2, "a" * 24
    ours = [packs / f".{folder.name}-{hexes}.partial", packs / f".{key}-{hexes}.partial"]
    others = [
        packs / f".{folder.name}-mine.partial",
        packs / f".{folder.name}-{hexes[:-1]}.partial",
        packs / f".{key}-{hexes[:-1]}0.partial",  # holds a file that no pack has
        packs / f".{'b' * 24}-{hexes}.partial",  # young
        packs / f".backup-{hexes}.partial",
    ]
    for left in [*ours, *others]:
        left.mkdir()
        (left / "shard-00000.bin").write_bytes(b"x")
        os.utime(left, (old, old))
    (others[2] / "notes.txt").write_text("mine")
    os.utime(others[2], (old, old))
    os.utime(others[3])
    linked = packs / f".{folder.name}-{hexes[:-1]}1.partial"
    (packs.parent / "precious").mkdir()
    (packs.parent / "precious/names.txt").write_text("mine")
    linked.symlink_to(packs.parent / "precious")
    DAMAGES["zeroed shard"](folder)
    decode()
    assert not [left.name for left in ours if left.exists()]
    assert [left.name for left in others if not (left / "shard-00000.bin").exists()] == []
    assert (packs.parent / "precious/names.txt").read_text() == "mine"


def test_unfinished_pack_that_is_being_made_is_not_swept(decode):
    """However long it takes: its maker holds the lock."""
    folder, key = decode()[0].folder, "a" * 24
    left = folder.parent / f".{key}-{'0' * 32}.partial"
    left.mkdir()
    os.utime(left, (1, 1))
    DAMAGES["zeroed shard"](folder)
    with locked(folder.parent / key):
        decode()
    assert left.exists()


def test_files_and_folder_are_on_the_disk_before_they_get_their_name(made, tmp_path, monkeypatch):
    """A power cut after the rename must not find names without their pixels."""
    done = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor):
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def noted_replace(path, target):
        done.append(f"{path.name} -> {target.name}")
        return replace(path, target)

    monkeypatch.setattr(building.os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    with locked(tmp_path / "q"):
        building.build(tmp_path / "q", NAMES, paths_in(made), GEOMETRY, progress=lambda _: None)
    renamed = next(number for number, entry in enumerate(done) if entry.endswith("-> q"))
    partial = done[renamed].partition(" ")[0]
    assert {"names.txt", "sizes.bin", "manifest.json", partial} <= set(done[:renamed])
    assert done[renamed + 1 :] == [tmp_path.name]
    building._flushed_and_hashed(tmp_path / "q/shard-00000.bin", SIDE**2)  # what the processes do with each shard
    assert done[-1] == "shard-00000.bin"
