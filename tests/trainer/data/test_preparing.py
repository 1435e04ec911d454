"""Preparation of data sets: the same records from any source, whatever happened on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from faultproxy import CutAnswer
from prepared_sets import (
    SIDE,
    archived,
    content,
    images_of,
    inline,  # noqa: F401 - a fixture
    inline_decoders,
    label_files,
    run,
    tarred,
    zipped,
)

from trainer.data.layouts import read_labels, read_raw_labels
from trainer.data.locate import locate_images
from trainer.data.packs import index as pack_index
from trainer.data.packs import prepared
from trainer.data.packs.open_prepared import open_prepared
from trainer.data.packs.records import Geometry, to_gray_square
from trainer.data.preparing import plan, prepare
from trainer.data.synthetic import write_phantoms
from trainer.errors import InputError
from trainer.storage import FullError
from trainer.storage.files import SETTLED_S
from trainer.storage.local import LocalStorage


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantoms(folder, images=36, side=32)
    return folder


@pytest.fixture(scope="module")
def archives(phantoms, tmp_path_factory):
    return archived(phantoms, tmp_path_factory.mktemp("archives") / "data")


@pytest.fixture
def small_shards(monkeypatch):
    """Five records a shard, and ten files a part."""
    monkeypatch.setattr(pack_index, "SHARD_BYTES", SIDE * SIDE * 5)
    monkeypatch.setattr(plan, "FILES_PER_PART", 10)


def records_by_name(folder):
    names = (folder / "names.txt").read_text().split()
    opened = open_prepared(folder, names)
    records = np.empty((len(names), SIDE, SIDE), np.uint8)
    opened.gather(np.arange(len(names)), records)
    return dict(zip(names, records, strict=True))


def test_records_from_archives_and_files_are_those_of_the_images(phantoms, archives, tmp_path, small_shards):
    """Decoded by two processes, from a tar.gz, a tar and a zip: no record may be another image's."""
    made, _ = run(archives, tmp_path / "a")
    run(phantoms, tmp_path / "f")
    assert made.images == 36
    expected = {path.name: to_gray_square(path, Geometry(side=SIDE, fit="crop")) for path in images_of(phantoms)}
    for folder in ("a", "f"):
        records = records_by_name(tmp_path / folder)
        assert records.keys() == expected.keys()
        for name, record in records.items():
            np.testing.assert_array_equal(record, expected[name])
    assert not (tmp_path / "a/parts").exists()


@pytest.mark.parametrize(("workers", "started"), [(2, 2), (500, 36)])
def test_no_more_processes_are_started_than_there_are_images(phantoms, tmp_path, inline, monkeypatch, workers, started):  # noqa: F811
    """All start at once: hundreds would take seconds, memory and open files."""
    counts = []

    def counted(count, image_of):
        counts.append(count)
        return inline_decoders(count, image_of)

    monkeypatch.setattr(prepare, "decoders", counted)
    _, said = run(phantoms, tmp_path / "p", workers=workers)
    assert counts == [started]
    assert any(f"with {started} processes" in line for line in said)


def test_labels_of_a_prepared_set_are_those_of_its_source(phantoms, archives, tmp_path, inline):  # noqa: F811
    run(archives, tmp_path / "p")
    ours, theirs = read_labels(tmp_path / "p"), read_labels(phantoms)
    assert (ours.layout, ours.prepared_from) == ("prepared", "nih")
    assert ours.table.labels_sha256() == theirs.table.labels_sha256()
    assert ours.table.split_sha256() == theirs.table.split_sha256()
    again, drawn = (read_labels(place, split="patients:60/20/20").table for place in (tmp_path / "p", phantoms))
    assert again.split_sha256() == drawn.split_sha256()
    text = (tmp_path / "p/labels.csv").read_text()
    assert "Patient" not in text


class Killed(BaseException):
    """As SIGKILL: nothing of the program may catch it."""


@pytest.fixture
def killer(monkeypatch):
    """Lets the n-th change of a directory be the last one, before or after it is made."""
    state = {"left": None, "after": False}
    real = {name: getattr(LocalStorage, name) for name in ("write", "create", "delete")}

    def around(name):
        def changed(self, key, *args):
            if state["left"] is None:
                return real[name](self, key, *args)
            state["left"] -= 1
            if state["left"] == 0 and state["after"]:
                real[name](self, key, *args)
            if state["left"] <= 0:
                raise Killed
            return real[name](self, key, *args)

        return changed

    for name in real:
        monkeypatch.setattr(LocalStorage, name, around(name))
    return state


def test_a_start_killed_at_any_write_leads_to_the_same_set(archives, tmp_path, inline, small_shards, killer):  # noqa: F811
    """Every file may be the last one that was written, with or without its own content."""
    run(archives, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    for number, after in ((number, after) for number in range(1, 100) for after in (False, True)):
        out = tmp_path / f"{number}-{after}"
        killer.update(left=number, after=after)
        try:
            run(archives, out)
        except Killed:
            killer["left"] = None
            run(archives, out)
        else:
            assert number > 20, "it must have been killed at every write"
            return
        assert content(out) == expected, (number, after)
    pytest.fail("it never ended")


def test_finished_parts_are_kept(archives, tmp_path, inline, small_shards, killer):  # noqa: F811
    """They are hours of work on a large set."""
    killer.update(left=8)
    with pytest.raises(Killed):
        run(archives, tmp_path / "p")
    killer["left"] = None
    before = (tmp_path / "p/shard-0000-0000.bin").stat()
    _, lines = run(archives, tmp_path / "p")
    assert "1 of 3 parts are there, with 12 images" in lines
    assert os.path.samestat(before, (tmp_path / "p/shard-0000-0000.bin").stat())


def test_damaged_shard_of_a_finished_part_is_prepared_again(archives, tmp_path, inline, small_shards, killer):  # noqa: F811
    run(archives, tmp_path / "whole")
    killer.update(left=8)
    with pytest.raises(Killed):
        run(archives, tmp_path / "p")
    killer["left"] = None
    (tmp_path / "p/shard-0000-0001.bin").write_bytes(bytes(5 * SIDE * SIDE))
    _, lines = run(archives, tmp_path / "p")
    assert not [line for line in lines if "parts are there" in line]
    assert content(tmp_path / "p") == content(tmp_path / "whole")


@pytest.mark.parametrize("names", [2, 5])
def test_shares_in_any_order_give_the_same_set(archives, tmp_path, inline, names):  # noqa: F811
    """Pods start when the cluster lets them; some have nothing to do."""
    whole, _ = run(archives, tmp_path / "whole")
    shares = [run(archives, tmp_path / "p", parts=f"{share}/{names}")[0] for share in range(names, 0, -1)]
    assert [share.index_sha256 for share in shares] == [*[None] * (names - 1), whole.index_sha256]
    made, _ = run(archives, tmp_path / "p")
    assert content(tmp_path / "p") == content(tmp_path / "whole")
    again, lines = run(archives, tmp_path / "p", parts=f"1/{names}")
    assert again == made
    assert lines == ["the prepared set is complete: 36 images"]


@pytest.mark.e2e
def test_process_stopped_three_times_leads_to_the_same_set(archives, tmp_path):
    """The moments are those at which another file is there, whatever the machine's speed. SIGTERM is that of a deleted pod."""
    run(archives, tmp_path / "whole")
    out = tmp_path / "p"
    command = [sys.executable, "-m", "trainer", "prepare", "--data", str(archives), "--out", str(out)]
    command += ["--pack-side", str(SIDE), "--workers", "2"]

    def files():
        return len(list(out.rglob("*.*"))) if out.exists() else 0

    for more, number, code in (
        (1, signal.SIGKILL, -signal.SIGKILL),
        (2, signal.SIGTERM, 75),
        (1, signal.SIGKILL, -signal.SIGKILL),
    ):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wanted = files() + more
        while process.poll() is None and files() < wanted:
            time.sleep(0.001)
        process.send_signal(number)
        assert process.wait() in {code, 0}  # 0 where it has ended before, on a busy machine
    time.sleep(SETTLED_S)  # younger partial files may belong to a process that lives
    subprocess.run(command, check=True, capture_output=True)
    assert content(out) == content(tmp_path / "whole")


def test_index_says_what_differs_from_an_earlier_start(phantoms, archives, tmp_path, inline):  # noqa: F811
    """Records of two geometries, or of two sets, in one place would be useless."""
    run(archives, tmp_path / "p")
    (tmp_path / "other").mkdir()
    for flags, text in [({"pack_side": 24}, "side of the records: 16 there, 24 here"), ({"pack_fit": "pad"}, "fit")]:
        with pytest.raises(InputError, match="prepared otherwise") as caught:
            run(archives, tmp_path / "p", **flags)
        assert text in str(caught.value)
    with pytest.raises(InputError, match=r"parts: not the same, only there: images_01.* only here: image files 0000"):
        run(phantoms, tmp_path / "p")
    with pytest.raises(InputError, match="labels, patients and split"):
        run(archives, tmp_path / "p", split="patients:60/20/20")
    label_files(phantoms, tmp_path / "changed")
    for name in ("images_01.tar.gz", "images_02.tar"):
        (tmp_path / "changed" / name).symlink_to(archives / name)
    zipped(tmp_path / "changed/images_03.zip", images_of(phantoms)[-11:])
    with pytest.raises(InputError, match=r"images_03\.zip: not the same"):
        run(tmp_path / "changed", tmp_path / "p")


def test_complete_set_is_confirmed_and_damage_is_named(archives, tmp_path, inline):  # noqa: F811
    made, _ = run(archives, tmp_path / "p")
    again, lines = run(archives, tmp_path / "p")
    assert again == made
    assert lines == ["the prepared set is complete: 36 images"]
    (tmp_path / "p/shard-0001-0000.bin").write_bytes(bytes(12 * SIDE * SIDE))
    with pytest.raises(InputError, match=r"shard-0001-0000\.bin is missing or damaged") as caught:
        run(archives, tmp_path / "p")
    (tmp_path / "p/manifest.json").unlink()
    assert "remove manifest.json" in caught.value.hint
    assert run(archives, tmp_path / "p")[0] == made


def one_archive(phantoms, folder, **more):
    label_files(phantoms, folder)
    return tarred(folder / "images.tar.gz", images_of(phantoms), **more)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["tar.gz", "tar", "zip"])
def test_half_an_archive_is_refused_and_other_parts_are_kept(phantoms, tmp_path, inline, kind, share):  # noqa: F811
    """A download that broke off; what is prepared need not be done again."""
    data = label_files(phantoms, tmp_path / "data")
    images = images_of(phantoms)
    tarred(data / "a.tar.gz", images[:6])
    whole = data / f"b.{kind}"
    if kind == "zip":
        zipped(whole, images[6:])
    else:
        tarred(whole, images[6:], gz=kind == "tar.gz")
    complete = whole.read_bytes()
    used = complete.rstrip(b"\0") if kind == "tar" else complete
    whole.write_bytes(used[: int(len(used) * share)])
    with pytest.raises(InputError, match="cannot read the archive") as caught:
        run(data, tmp_path / "p")
    assert f"b.{kind}" in str(caught.value)
    assert "download it again" in caught.value.hint
    assert not (tmp_path / "p/manifest.json").exists()
    whole.write_bytes(complete)
    made, lines = run(data, tmp_path / "p")
    assert made.images == 36
    if kind != "zip":  # of which the directory is read before anything is decoded
        assert "1 of 2 parts are there, with 6 images" in lines


def test_archive_cut_between_two_members_is_refused(phantoms, tmp_path, inline):  # noqa: F811
    """Most readers of tar take it for a whole one, and images would silently be missing."""
    one_archive(phantoms, tmp_path / "data", gz=False)
    path = tmp_path / "data/images.tar"
    (tmp_path / "data/images.tar.gz").rename(path)
    content_ = path.read_bytes()
    second = content_.index(images_of(phantoms)[5].name.encode()) - len("images/")
    path.write_bytes(content_[:second])
    with pytest.raises(InputError, match="the mark of its end is missing"):
        run(tmp_path / "data", tmp_path / "p")


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_changed_byte_in_an_archive_is_noticed(phantoms, tmp_path, inline, kind):  # noqa: F811
    """Checksums of the archive itself see what a decoder would not."""
    data = label_files(phantoms, tmp_path / "data")
    path = data / f"images.{kind}"
    (zipped if kind == "zip" else tarred)(path, images_of(phantoms))
    spoilt = bytearray(path.read_bytes())
    spoilt[len(spoilt) // 2] ^= 0x55
    path.write_bytes(spoilt)
    with pytest.raises(InputError, match="cannot read the archive"):
        run(data, tmp_path / "p")


def test_image_in_no_archive_is_named_and_can_be_left_out(phantoms, tmp_path, inline):  # noqa: F811
    label_files(phantoms, tmp_path / "data")
    tarred(tmp_path / "data/images.tar.gz", images_of(phantoms)[2:])
    with pytest.raises(InputError, match="2 of 36 images are in no archive and no folder") as caught:
        run(tmp_path / "data", tmp_path / "p")
    assert images_of(phantoms)[0].name in str(caught.value)
    made, _ = run(tmp_path / "data", tmp_path / "p", on_missing_image="skip")
    assert made.images == 34
    assert json.loads((tmp_path / "p/manifest.json").read_text())["missing"] == 2
    assert read_labels(tmp_path / "p").notes == ("2 images of the label files were missing when the set was prepared",)
    with pytest.raises(InputError, match=r"cannot confirm .*: 2 images are missing"):
        run(tmp_path / "data", tmp_path / "p")


def test_missing_file_is_named_before_anything_is_decoded(phantoms, tmp_path, inline):  # noqa: F811
    data = label_files(phantoms, tmp_path / "data")
    (data / "images").mkdir()
    for path in images_of(phantoms)[1:]:
        (data / "images" / path.name).symlink_to(path)
    with pytest.raises(InputError, match="1 of 36 images are in no archive and no folder"):
        run(data, tmp_path / "p")
    assert content(tmp_path) == content(tmp_path) | content(data) or not (tmp_path / "p").exists()


def test_image_that_is_there_twice_is_refused(phantoms, tmp_path, inline):  # noqa: F811
    images = images_of(phantoms)
    label_files(phantoms, tmp_path / "one")
    tarred(tmp_path / "one/a.tar.gz", [*images, ("copy/" + images[3].name, images[3].read_bytes())])
    with pytest.raises(InputError, match=f"`{images[3].name}` is in it twice"):
        run(tmp_path / "one", tmp_path / "p")
    label_files(phantoms, tmp_path / "two")
    tarred(tmp_path / "two/a.tar.gz", images[:20])
    tarred(tmp_path / "two/b.tar.gz", images[18:])
    with pytest.raises(InputError, match="2 images are in two archives") as caught:
        run(tmp_path / "two", tmp_path / "q")
    assert f"{images[18].name}: in a.tar.gz and b.tar.gz" in str(caught.value)


def test_files_are_read_rather_than_archives(phantoms, archives, tmp_path, inline):  # noqa: F811
    """A directory where somebody has unpacked one of the archives."""
    data = label_files(phantoms, tmp_path / "data")
    (data / "images").mkdir()
    for path in images_of(phantoms)[:12]:
        (data / "images" / path.name).symlink_to(path)
    for name in ("images_01.tar.gz", "images_02.tar", "images_03.zip"):
        (data / name).symlink_to(archives / name)
    made, lines = run(data, tmp_path / "p")
    assert made.images == 36
    assert "note: images_01.tar.gz: 12 images are there as files, too, which are read" in lines


def test_members_that_are_no_images_of_the_set_are_left_out_and_said(phantoms, tmp_path, inline):  # noqa: F811
    images = images_of(phantoms)
    picture = images[0].read_bytes()
    foreign = [
        *(("images/._" + path.name, b"x") for path in images[:2]),
        ("__MACOSX/images/" + images[0].name, b"x"),
        ("images/.hidden.png", picture),
        ("../" + images[1].name, picture),
        ("/etc/" + images[2].name, picture),
        ("images/99999999_000.png", picture),
        ("README.txt", b"hello"),
    ]
    label_files(phantoms, tmp_path / "data")
    tarred(tmp_path / "data/images.tar.gz", [*foreign, *images])
    made, lines = run(tmp_path / "data", tmp_path / "p")
    assert made.images == 36
    assert "note: images.tar.gz: 1 images are in no label file and are left out" in lines
    assert any("2 members with names of images are no files or point outside" in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "p"]


def test_unreadable_image_fails_at_the_end_and_can_be_replaced(phantoms, tmp_path, inline, small_shards):  # noqa: F811
    """All of them are named at once, and the other parts stay."""
    data = label_files(phantoms, tmp_path / "data")
    (data / "images").mkdir()
    for path in images_of(phantoms):
        (data / "images" / path.name).write_bytes(path.read_bytes())
    names = [path.name for path in images_of(phantoms)]
    for name in (names[0], names[30]):
        (data / "images" / name).write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot read 2 of 36 images") as caught:
        run(data, tmp_path / "p")
    assert names[30] in str(caught.value)
    _, lines = run(data, tmp_path / "p", on_bad_image="skip")
    assert "4 of 4 parts are there, with 36 images" in lines
    index = prepared.read(tmp_path / "p")
    assert list(index.unreadable) == [names[0], names[30]]
    with pytest.raises(InputError, match=r"cannot confirm .*: 2 images are unreadable"):
        run(data, tmp_path / "p")
    (tmp_path / "p/manifest.json").unlink()
    for name in (names[0], names[30]):
        (data / "images" / name).write_bytes(images_of(phantoms)[1].read_bytes())
    made, _ = run(data, tmp_path / "p")
    assert made.images == 36
    assert not prepared.read(tmp_path / "p").unreadable


def test_place_of_the_set_is_checked_before_anything_is_read(phantoms, archives, tmp_path, inline, monkeypatch):  # noqa: F811
    for out, what in [
        (archives, "it is the data set itself"),
        (archives / "out", "it is inside the data set"),
        (archives.parent, "the data set is inside it"),
    ]:
        with pytest.raises(InputError, match=what):
            run(archives, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="it holds 1 other files") as caught:
        run(archives, tmp_path / "mine")
    assert "thesis.txt" in str(caught.value)
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/manifest.json").write_text('{"format": 2}')
    with pytest.raises(InputError, match=r"manifest\.json is not that of a prepared set"):
        run(archives, tmp_path / "pack")

    class NoRoom:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(os, "statvfs", lambda path: NoRoom())
    with pytest.raises(FullError, match="there is too little room; 9 KiB needed, 4 KiB free"):
        run(archives, tmp_path / "new")
    assert not [path.name for path in (tmp_path / "new").rglob("*") if path.is_file()]
    run(archives, tmp_path / "new", pack_side=8)  # as the hint says


def test_room_that_an_earlier_start_has_used_is_counted(archives, tmp_path, inline, small_shards, killer, monkeypatch):  # noqa: F811
    """Its shards are replaced: with as little room as before, it can be continued."""
    killer.update(left=4)
    with pytest.raises(Killed):
        run(archives, tmp_path / "p")
    killer["left"] = None
    left = sum(path.stat().st_size for path in (tmp_path / "p").glob("shard-*"))
    assert left

    class Little:
        f_bavail, f_frsize = 36 * SIDE * SIDE - left, 1

    monkeypatch.setattr(os, "statvfs", lambda path: Little())
    _, lines = run(archives, tmp_path / "p")
    assert not [line for line in lines if "parts are there" in line]


def test_prepared_set_is_not_prepared_again(archives, tmp_path, inline):  # noqa: F811
    run(archives, tmp_path / "p")
    with pytest.raises(InputError, match="it is a prepared set"):
        run(tmp_path / "p", tmp_path / "q")


def test_sixteen_bit_images_that_use_few_bits_need_a_gray_range(tmp_path, inline):  # noqa: F811
    from PIL import Image

    write_phantoms(tmp_path / "data", images=30, side=32)
    for path in images_of(tmp_path / "data"):
        with Image.open(path) as image:
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 10).save(path)
    with pytest.raises(InputError, match="use 12 of 16 bits"):
        run(tmp_path / "data", tmp_path / "p")
    run(tmp_path / "data", tmp_path / "q", gray_range="12")
    assert prepared.read(tmp_path / "q").geometry.bits == 12


def test_same_set_from_and_to_a_bucket(phantoms, archives, tmp_path, inline, s3, small_shards):  # noqa: F811
    """Archives and loose images in a bucket, and the set written to a bucket."""
    from trainer.storage import open_storage

    for name, folder in (("archives", archives), ("files", phantoms)):
        storage = open_storage(f"s3://cxr/{name}")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                storage.write(path.relative_to(folder).as_posix(), path.read_bytes())
        run(folder, tmp_path / name)
        made, _ = run(f"s3://cxr/{name}", f"s3://cxr/out/{name}")
        out = open_storage(f"s3://cxr/out/{name}")
        assert {key: out.read(key) for key in out.keys("")} == content(tmp_path / name)
        again, lines = run(f"s3://cxr/{name}", f"s3://cxr/out/{name}")
        assert again == made
        assert lines[-1] == "the prepared set is complete: 36 images"
    with pytest.raises(InputError, match="it is inside the data set"):
        run("s3://cxr/archives", "s3://cxr/archives/out")
    with pytest.raises(InputError, match="`s3://cxr/out/files`: it is a prepared set"):
        run("s3://cxr/out/files", tmp_path / "again")


def test_class_folders_in_a_bucket_are_prepared(two_classes, tmp_path, inline, s3):  # noqa: F811
    from trainer.storage import open_storage

    storage = open_storage("s3://cxr/two")
    for path in two_classes.rglob("*.png"):
        storage.write(path.relative_to(two_classes).as_posix(), path.read_bytes())
    run(two_classes, tmp_path / "p", split="patients:60/20/20")
    run("s3://cxr/two", tmp_path / "q", split="patients:60/20/20")
    assert content(tmp_path / "p") == content(tmp_path / "q")
    table = read_labels(tmp_path / "p").table
    assert table.findings == ("NORMAL", "PNEUMONIA")
    assert len(table.unidentified) == len(table) == 60


def test_decoder_that_dies_is_named_with_its_image(archives, tmp_path, monkeypatch):
    """As for packs: the kernel's out-of-memory killer leaves no message."""
    victim = "00000001_000.png"
    hook = tmp_path / "hook/sitecustomize.py"
    hook.parent.mkdir()
    hook.write_text(
        "import os, sys, importlib.abc, importlib.machinery\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name != 'trainer.data.packs.records': return None\n"
        "        sys.meta_path.remove(self)\n"
        "        spec = importlib.machinery.PathFinder.find_spec(name, path)\n"
        "        run = spec.loader.exec_module\n"
        "        def exec_module(module):\n"
        "            run(module)\n"
        "            real = module.to_record\n"
        f"            module.to_record = lambda image, geometry: os._exit(7) if image.name.endswith('{victim}') else real(image, geometry)\n"
        "        spec.loader.exec_module = exec_module\n"
        "        return spec\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hook.parent), str(Path(__file__).parents[3])]))
    with pytest.raises(InputError, match="its decoder crashed with exit code 7") as caught:
        run(archives, tmp_path / "p", workers=1)
    assert victim in str(caught.value)


@pytest.mark.parametrize("layout", ["lists", "csv", "folders", "chexpert", "mimic-cxr", "padchest", "vindr", "rsna"])
def test_every_layout_is_prepared_from_files_and_archives(tmp_path, inline, layout):  # noqa: F811
    """Each has its own names and places of images; labels and records must be those of the original."""
    data, archive = tmp_path / "data", tmp_path / "archive"
    write_phantoms(data, images=30, side=32, layout=layout)
    flags = {"split": "patients:60/20/20", "gray_range": "full"}
    run(data, tmp_path / "p", **flags)
    original = read_raw_labels(data, split=flags["split"])
    expected = dict(zip(original.table.images, locate_images(original), strict=True))
    records = records_by_name(tmp_path / "p")
    for name, path in expected.items():
        np.testing.assert_array_equal(records[name], to_gray_square(path, Geometry(side=SIDE, fit="crop")))
    theirs, ours = (read_labels(place, split=flags["split"]) for place in (data, tmp_path / "p"))
    assert ours.table.labels_sha256() == theirs.table.labels_sha256()
    assert ours.table.split_sha256() == theirs.table.split_sha256()
    assert ours.notes == tuple(f"when the set was prepared: {note}" for note in theirs.notes)
    if layout != "folders":  # they have no label files
        images = set(expected.values())
        members = [(path.relative_to(data).as_posix(), path.read_bytes()) for path in sorted(images)]
        for path in data.rglob("*"):
            if path.is_file() and path not in images:
                (archive / path.relative_to(data)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, archive / path.relative_to(data))
        tarred(archive / "all.tar.gz", [(f"release/{name}", content_) for name, content_ in members])
        run(archive, tmp_path / "q", **flags)
        assert {name: record.tobytes() for name, record in records_by_name(tmp_path / "q").items()} == {
            name: record.tobytes() for name, record in records.items()
        }


def test_images_missing_from_zip_archives_are_named_before_anything_is_decoded(phantoms, tmp_path, inline):  # noqa: F811
    """Their directories tell, without reading a member."""
    data = label_files(phantoms, tmp_path / "data")
    zipped(data / "a.zip", images_of(phantoms)[:20])
    zipped(data / "b.zip", images_of(phantoms)[20:-3])
    with pytest.raises(InputError, match="3 of 36 images are in no archive and no folder"):
        run(data, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_shards_of_no_part_are_removed(phantoms, tmp_path, inline, small_shards, killer):  # noqa: F811
    """An archive that was replaced by a smaller one: the set must not depend on what was there."""
    data = label_files(phantoms, tmp_path / "data")
    tarred(data / "a.tar.gz", images_of(phantoms))
    killer.update(left=4)
    with pytest.raises(Killed):
        run(data, tmp_path / "p")
    killer["left"] = None
    tarred(data / "a.tar.gz", images_of(phantoms)[:12])
    tarred(data / "b.tar.gz", images_of(phantoms)[12:])
    (tmp_path / "p/parts/plan.json").unlink()
    run(data, tmp_path / "p")
    run(data, tmp_path / "q")
    assert content(tmp_path / "p") == content(tmp_path / "q")


def test_zip_is_prepared_in_pieces_that_several_processes_can_share(phantoms, tmp_path, inline, monkeypatch):  # noqa: F811
    """Many sets come as a single zip; a reader can begin anywhere in it."""
    data = label_files(phantoms, tmp_path / "data")
    zipped(data / "all.zip", images_of(phantoms))
    run(data, tmp_path / "whole")
    monkeypatch.setattr(plan, "MEMBERS_PER_PART", 10)
    run(data, tmp_path / "pieces")
    names = [part.name for part in prepared.read(tmp_path / "pieces").parts]
    assert names == ["all.zip 0000", "all.zip 0001", "all.zip 0002", "all.zip 0003"]
    for share in (2, 1):
        run(data, tmp_path / "shares", parts=f"{share}/2")
    run(data, tmp_path / "shares")
    assert content(tmp_path / "shares") == content(tmp_path / "pieces")
    ours, theirs = (records_by_name(tmp_path / name) for name in ("pieces", "whole"))
    assert {name: record.tobytes() for name, record in ours.items()} == {
        name: record.tobytes() for name, record in theirs.items()
    }


@pytest.mark.parametrize("place", ["archive", "bucket"])
def test_member_larger_than_an_image_is_not_read_into_memory(phantoms, tmp_path, inline, s3, monkeypatch, place):  # noqa: F811
    """Its size is in its header; the others are prepared."""
    from trainer.data import decode
    from trainer.data.preparing import archives as module
    from trainer.data.preparing import part_images
    from trainer.storage import open_storage

    most = max(path.stat().st_size for path in images_of(phantoms))
    for each in (decode, module, part_images):
        monkeypatch.setattr(each, "IMAGE_FILE_BYTES", most)
    large = images_of(phantoms)[4]
    big = (f"images/{large.name}", large.read_bytes() + bytes(most))
    data = label_files(phantoms, tmp_path / "data")
    if place == "archive":
        tarred(data / "a.tar.gz", [*[path for path in images_of(phantoms) if path != large], big])
    else:
        storage = open_storage("s3://cxr/data")
        for path in [*data.iterdir(), *images_of(phantoms)]:
            storage.write(path.name if path.parent == data else f"images/{path.name}", path.read_bytes())
        storage.write(*big)
        data = "s3://cxr/data"
    with pytest.raises(InputError, match="cannot read 1 of 36 images") as caught:
        run(data, tmp_path / "p")
    assert f"{large.name}: its file has" in str(caught.value)


def test_set_is_prepared_from_and_to_a_server_of_another_kind(archives, tmp_path, inline, rclone):  # noqa: F811
    """rclone's server checks signatures, and answers ranges its own way."""
    shutil.copytree(archives, rclone.folder / "cxr/raw")
    made, _ = run("s3://cxr/raw", "s3://cxr/out")
    whole, _ = run(archives, tmp_path / "whole")
    assert made == whole
    assert content(rclone.folder / "cxr/out") == content(tmp_path / "whole")


def test_archive_is_read_on_where_a_connection_was_lost(phantoms, tmp_path, inline, fault_proxy, monkeypatch):  # noqa: F811
    """Gigabytes of a stream are not read again."""
    from trainer.storage import open_storage

    data = one_archive(phantoms, tmp_path / "data").parent
    storage = open_storage("s3://cxr/raw")
    for path in data.iterdir():
        storage.write(path.name, path.read_bytes())
    whole, _ = run(data, tmp_path / "whole")
    fault_proxy.script(CutAnswer(5000), method="GET", key="*/images.tar.gz", times=2)
    made, _ = run("s3://cxr/raw", tmp_path / "p")
    assert made == whole
    got = [
        request
        for request in fault_proxy.requests
        if request.path.partition("?")[0].endswith("images.tar.gz") and request.method == "GET"
    ]
    assert [request.fault for request in got] == ["CutAnswer", "CutAnswer", None]
