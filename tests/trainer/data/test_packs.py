"""Decoding once: exact pixels, noted damage, whole or absent."""

import dataclasses
import errno
import hashlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Resize

from trainer.data.locks import locked
from trainer.data.packs import building, index
from trainer.data.packs.key import pack_key
from trainer.data.packs.records import Geometry, to_gray_square
from trainer.data.packs.verify import open_pack
from trainer.errors import InputError, TryAgainError


def quiet(done):
    """Tell nobody."""


def build(folder, *args, **options):
    """Build as a run does."""
    with locked(folder):
        building.build(folder, *args, **options)


def write_images(folder, count, side=40):
    """Random gray images."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (side, side), np.uint8)).save(path)
    return [path.name for path in paths], paths


@pytest.mark.parametrize("side", [224, 256, 320])
def test_records_of_real_x_rays_equal_pillows_resize_of_the_original(shared, side):
    """What is cropped from a pack must be what the recipe crops from the image, to the bit; one of the files is RGBA."""
    paths = sorted((shared / "data/nih-sample/full").iterdir())
    assert len(paths) == 24
    for path in paths:
        with Image.open(path) as image:
            expected = np.asarray(image.convert("L").resize((side, side), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(to_gray_square(path, Geometry(side=side, fit="crop")), expected)


def test_oblong_x_rays_are_cut_as_torchvision_cuts_them(shared):
    """Short side resized, centre kept: the usual preprocessing, to the pixel."""
    for path in sorted((shared / "data/pneumonia-sample/test").rglob("*.jpeg"))[::10]:
        with Image.open(path) as image:
            expected = np.asarray(CenterCrop(128)(Resize(128)(image.convert("L"))))
        np.testing.assert_array_equal(to_gray_square(path, Geometry(side=128, fit="crop")), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_every_image_mode_becomes_the_same_gray(tmp_path, mode):
    """Releases mix modes; equal channels must give the gray image itself."""
    gray = Image.fromarray(np.where(np.arange(64).reshape(8, 8) % 3, 255, 0).astype(np.uint8))
    gray.convert(mode).save(tmp_path / "x.png")
    np.testing.assert_array_equal(to_gray_square(tmp_path / "x.png", Geometry(side=8, fit="crop")), np.asarray(gray))


def test_sixteen_bit_gray_keeps_its_full_range(tmp_path):
    """Pillow's own conversion clips at 255, which turns an X-ray white."""
    wide = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(wide).save(tmp_path / "x.png")
    np.testing.assert_array_equal(
        to_gray_square(tmp_path / "x.png", Geometry(side=16, fit="crop")).ravel(), np.arange(256, dtype=np.uint8)
    )


@pytest.mark.parametrize(
    ("fit", "middle_row", "top_row"),
    [
        ("crop", [20, 20, 30, 30], [20, 20, 30, 30]),  # the outer quarters are cut off
        ("pad", [10, 20, 30, 40], [0, 0, 0, 0]),  # black above and below
        ("squash", [10, 20, 30, 40], [10, 20, 30, 40]),
    ],
)
def test_fit_decides_what_happens_to_oblong_images(tmp_path, fit, middle_row, top_row):
    """Aspect ratio is a shortcut on some data sets; the choice must do what it says."""
    stripes = np.repeat(np.array([[10, 20, 30, 40]], np.uint8), 64, axis=1)  # 256 wide
    Image.fromarray(np.repeat(stripes, 128, axis=0)).save(tmp_path / "x.png")
    square = to_gray_square(tmp_path / "x.png", Geometry(side=64, fit=fit))
    assert square[32, 8::16].tolist() == middle_row
    assert square[4, 8::16].tolist() == top_row


def test_every_image_is_read_back_across_shards(tmp_path, monkeypatch):
    """Records are found by arithmetic; an error of one would swap patients."""
    monkeypatch.setattr(index, "SHARD_BYTES", 8 * 8 * 5)
    names, paths = write_images(tmp_path, 12, side=8)
    done = []
    build(tmp_path / "packs/p", names, paths, Geometry(side=8, fit="crop"), progress=done.append)
    opened = open_pack(tmp_path / "packs/p", names, Geometry(side=8, fit="crop"))
    assert sum(done) == 12
    assert len(opened.shards) == 3
    rows = np.array([11, 0, 5, 4, 5])
    out = np.empty((5, 8, 8), np.uint8)
    opened.gather(rows, out)
    for record, row in zip(out, rows, strict=True):
        np.testing.assert_array_equal(record, np.asarray(Image.open(paths[row])))


def test_truncated_image_is_noted_by_name_and_the_rest_is_packed(tmp_path):
    """Whether to stop or to skip is the run's choice; the work on the others is kept."""
    names, paths = write_images(tmp_path, 4)
    paths[2].write_bytes(paths[2].read_bytes()[:200])
    build(tmp_path / "p", names, paths, Geometry(side=16, fit="crop"), progress=quiet)
    index = open_pack(tmp_path / "p", names, Geometry(side=16, fit="crop")).index
    assert list(index.unreadable) == ["2.png"]
    assert index.unreadable["2.png"]


def test_picture_too_small_for_a_radiograph_is_noted_by_name(tmp_path):
    """One pixel, made as large as the others, would be trained on as if it were a chest."""
    names, paths = write_images(tmp_path, 3, side=8)
    Image.new("L", (1, 1), 90).save(paths[1])
    build(tmp_path / "p", names, paths, Geometry(side=16, fit="crop"), progress=quiet)
    unreadable = open_pack(tmp_path / "p", names, Geometry(side=16, fit="crop")).index.unreadable
    assert unreadable == {"1.png": "it has 1 x 1 pixels, at least 8 per side are needed"}


def test_pack_knows_the_size_each_image_had(tmp_path):
    """Resizing hides it from the model, and not from who asks whether it gives the class away; order is the records'."""
    names, paths = write_images(tmp_path, 70, side=9)  # more than a process decodes at once
    for number in (0, 31, 32, 69):
        Image.new("L", (20 + number, 10)).save(paths[number])
    paths[40].write_bytes(b"no image")
    build(tmp_path / "p", names, paths, Geometry(side=8, fit="crop"), progress=quiet)
    opened = open_pack(tmp_path / "p", names, Geometry(side=8, fit="crop"))
    expected = np.full((70, 2), 9)
    expected[[0, 31, 32, 69]] = [[20, 10], [51, 10], [52, 10], [89, 10]]
    expected[40] = 0
    assert list(opened.index.unreadable) == [names[40]]
    np.testing.assert_array_equal(opened.sizes_N2, expected)


def test_interrupted_build_leaves_no_pack(tmp_path):
    """A pack is used only when it is whole."""
    names, paths = write_images(tmp_path, 4)

    def break_off(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "packs/p", names, paths, Geometry(side=16, fit="crop"), progress=break_off)
    assert [path for path in (tmp_path / "packs").iterdir() if path.suffix != ".lock"] == []
    assert open_pack(tmp_path / "packs/p", names, Geometry(side=16, fit="crop")) is None


def test_two_runs_with_one_cache_build_one_after_the_other(tmp_path):
    """One would remove the other's unfinished work as a leftover."""
    order = []

    def second():
        with locked(tmp_path / "packs/p"):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path / "packs/p"):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_image_that_the_disk_cannot_read_fails_the_build(tmp_path):
    """It is not the image that is bad; noted in the pack, it would be left out for ever. Trying again may help."""
    names, paths = write_images(tmp_path, 2)
    paths[1].unlink()
    with pytest.raises(TryAgainError, match=r"1\.png.*No such file"):
        build(tmp_path / "p", names, paths, Geometry(side=16, fit="crop"), progress=quiet)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_image_that_is_no_regular_file_is_bad_input(tmp_path, kind):
    """Whoever opens a pipe waits for ever, and a device never ends; trying again meets the same."""
    names, paths = write_images(tmp_path, 2)
    paths[1].unlink()
    {"folder": Path.mkdir, "pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero")}[kind](paths[1])
    for act in (
        lambda: build(tmp_path / "p", names, paths, Geometry(side=16, fit="crop"), progress=quiet),
        lambda: pack_key(names, paths, Geometry(side=16, fit="crop")),
    ):
        with pytest.raises(InputError, match=r"1\.png: it is not a regular file|1\.png`: it is not a regular file"):
            act()


def test_full_cache_fails_the_job_with_the_room_it_needs(tmp_path, monkeypatch):
    """Decoding again on the same disk meets the same end, an hour later."""
    names, paths = write_images(tmp_path, 2)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(InputError, match="no space left on device") as refusal:
        building.build(tmp_path / "p", names, paths, Geometry(side=16, fit="crop"), progress=quiet)
    assert "GiB are needed" in refusal.value.hint


def test_manifest_hashes_every_file(tmp_path):
    """Staged copies are verified against it."""
    names, paths = write_images(tmp_path, 2)
    build(tmp_path / "p", names, paths, Geometry(side=16, fit="crop"), progress=quiet)
    files = json.loads((tmp_path / "p/manifest.json").read_text())["files"]
    assert files.keys() == {"shard-00000.bin", "names.txt", "sizes.bin"}
    assert files["shard-00000.bin"][0] == 2 * 16 * 16


def test_hash_of_a_pack_covers_names_and_pixels(tmp_path):
    """A run goes on only with the same images, and it may have begun before packs knew sizes."""
    names, paths = write_images(tmp_path, 2)
    build(tmp_path / "p", names, paths, Geometry(side=16, fit="crop"), progress=quiet)
    opened = open_pack(tmp_path / "p", names, Geometry(side=16, fit="crop"))
    files = {name: opened.index.files[name] for name in ("names.txt", "shard-00000.bin")}
    assert opened.sha256 == hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
    other = dataclasses.replace(opened.index, files=opened.index.files | {"names.txt": (8, "0")})
    assert dataclasses.replace(opened, index=other).sha256 != opened.sha256


def test_pack_key_changes_with_image_names_and_geometry(tmp_path):
    """An old pack must not stand in for changed images."""
    names, paths = write_images(tmp_path, 2)
    geometry = Geometry(side=16, fit="crop")
    keys = {
        pack_key(names, paths, geometry),
        pack_key(names, paths, Geometry(side=16, fit="pad")),
        pack_key(["0.png", "x.png"], paths, geometry),
    }
    paths[0].write_bytes(paths[0].read_bytes() + b" ")
    assert len(keys | {pack_key(names, paths, geometry)}) == 4


def test_missing_images_are_all_named(tmp_path):
    """One message for all, not one start for each."""
    with pytest.raises(InputError, match=r"2 images.*\n.*a\.png.*\n.*b\.png"):
        pack_key(["a", "b"], [tmp_path / "a.png", tmp_path / "b.png"], Geometry(side=16, fit="crop"))


@pytest.mark.parametrize("turned", [0, 2])
def test_pack_knows_how_many_images_have_an_ignored_orientation(tmp_path, turned):
    """Each run on it says so, not only the one that decoded it; packs without such images are as before."""
    exif = Image.Exif()
    exif[0x0112] = 6
    names = [f"{number}.jpg" for number in range(3)]
    for number, name in enumerate(names):
        Image.fromarray(np.full((16, 16), 9, np.uint8)).save(
            tmp_path / name, exif=exif if number < turned else Image.Exif()
        )
    geometry = Geometry(side=8, fit="crop")
    with locked(tmp_path / "p"):
        building.build(tmp_path / "p", names, [tmp_path / name for name in names], geometry, progress=lambda _: None)
    assert open_pack(tmp_path / "p", names, geometry).index.turned == turned
    assert ("turned" in json.loads((tmp_path / "p/manifest.json").read_text())) is (turned > 0)


def test_key_of_a_pack_reports_progress(tmp_path):
    """On a network disk 112,120 files take minutes to look up."""
    (tmp_path / "x.png").touch()
    done = []
    pack_key(["x.png"] * 250, [tmp_path / "x.png"] * 250, Geometry(side=8, fit="crop"), progress=done.append)
    assert done == [100, 100]
