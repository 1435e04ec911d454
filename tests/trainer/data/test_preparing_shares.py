"""Shares of a data set, prepared one by one, together and twice, end with the index that one process writes."""

import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainer.data.packs.index import INDEX
from trainer.data.preparing import prepare as module
from trainer.data.preparing.prepare import prepare
from trainer.data.synthetic import write_phantoms
from trainer.errors import InputError
from trainer.prepare_config import PrepareConfig
from trainer.runtime.console import Reporter

SHARES = 3


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A data set of 30 images in four archives."""
    folder = tmp_path_factory.mktemp("raw")
    write_phantoms(folder / "drawn", images=30, seed=0, side=32, progress=lambda _: None)
    images = sorted((folder / "drawn/images").iterdir())
    for number in range(4):
        with tarfile.open(folder / f"drawn/images_{number}.tar.gz", "w:gz") as archive:
            for path in images[number::4]:
                archive.add(path, f"images/{path.name}")
    for path in images:
        path.unlink()
    (folder / "drawn/images").rmdir()
    return folder / "drawn"


def config(raw, out, **changes):
    return PrepareConfig(data=str(raw), out=str(out), pack_side=16, workers=1, **changes)


def run(raw, out, **changes):
    return prepare(config(raw, out, **changes), Reporter(None))


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    return run(raw, tmp_path_factory.mktemp("whole") / "out").index_sha256


def test_share_that_ends_last_writes_the_index(raw, whole, tmp_path):
    shares = [run(raw, tmp_path / "out", parts=f"{number}/{SHARES}") for number in (2, 3, 1)]
    assert [share.index_sha256 for share in shares] == [None, None, whole]


def test_share_that_is_started_again_confirms_the_index(raw, whole, tmp_path):
    """Its pod was deleted when it had written everything."""
    for number in (1, 2, 3):
        run(raw, tmp_path / "out", parts=f"{number}/{SHARES}")
    assert run(raw, tmp_path / "out", parts=f"2/{SHARES}").index_sha256 == whole


def test_shares_that_end_together_write_the_same(raw, whole, tmp_path, monkeypatch):
    """Each sees all records, and neither waits."""
    for number in (1, 2, 3):
        run(raw, tmp_path / "out", parts=f"{number}/{SHARES}")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    (tmp_path / "out" / INDEX).unlink()
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda number: run(raw, tmp_path / "out", parts=f"{number}/{SHARES}"), (1, 2)))
    assert {share.index_sha256 for share in together} == {whole}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before


def test_damaged_shard_of_another_share_leaves_the_index_to_the_next_start(raw, whole, tmp_path):
    run(raw, tmp_path / "out", parts=f"1/{SHARES}")
    run(raw, tmp_path / "out", parts=f"2/{SHARES}")
    shard = next(Path(tmp_path / "out").glob("shard-*.bin"))
    shard.write_bytes(bytes(shard.stat().st_size))
    assert run(raw, tmp_path / "out", parts=f"3/{SHARES}").index_sha256 is None
    assert run(raw, tmp_path / "out").index_sha256 == whole
    assert not (tmp_path / "out/parts").exists()


def test_more_shares_than_parts_is_no_error(raw, whole, tmp_path):
    shares = [run(raw, tmp_path / "out", parts=f"{number}/6").index_sha256 for number in range(1, 7)]
    assert whole in shares
    assert shares[0] is None


def test_image_that_no_archive_holds_fails_the_share_that_ends_last(raw, tmp_path, monkeypatch):
    """Only it can know."""
    monkeypatch.setattr(module.finish, "missing_images", lambda *_: ["absent.png"])
    run(raw, tmp_path / "out", parts="1/2")
    with pytest.raises(InputError, match=r"absent\.png"):
        run(raw, tmp_path / "out", parts="2/2")
