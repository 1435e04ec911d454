"""Shares of a data set, prepared one by one, together and twice, end with the index that one process writes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from prepared_sets import archived, run
from prepared_sets import inline as inline_fixture

from trainer.data.packs.index import INDEX
from trainer.data.preparing import prepare as module
from trainer.data.synthetic import write_phantoms
from trainer.errors import InputError

SHARES = 3

inline = pytest.fixture(autouse=True)(inline_fixture.__wrapped__)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A data set of 30 images in archives."""
    folder = tmp_path_factory.mktemp("raw")
    write_phantoms(folder / "drawn", images=30, side=32)
    return archived(folder / "drawn", folder / "data")


@pytest.fixture
def whole(raw, tmp_path):
    return run(raw, tmp_path / "whole")[0].index_sha256


def share(raw, out, parts):
    return run(raw, out, parts=parts)[0].index_sha256


def test_share_that_ends_last_writes_the_index(raw, whole, tmp_path):
    shares = [share(raw, tmp_path / "out", f"{number}/{SHARES}") for number in (2, 3, 1)]
    assert shares == [None, None, whole]


def test_share_that_is_started_again_confirms_the_index(raw, whole, tmp_path):
    """Its pod was deleted when it had written everything."""
    for number in (1, 2, 3):
        share(raw, tmp_path / "out", f"{number}/{SHARES}")
    assert share(raw, tmp_path / "out", f"2/{SHARES}") == whole


def test_shares_that_end_together_write_the_same(raw, whole, tmp_path, monkeypatch):
    """Each sees all records, and neither waits."""
    for number in (1, 2, 3):
        share(raw, tmp_path / "out", f"{number}/{SHARES}")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    (tmp_path / "out" / INDEX).unlink()
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda number: share(raw, tmp_path / "out", f"{number}/{SHARES}"), (1, 2)))
    assert set(together) == {whole}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before


def test_damaged_shard_of_another_share_leaves_the_index_to_the_next_start(raw, whole, tmp_path):
    run(raw, tmp_path / "out", parts=f"1/{SHARES}")
    run(raw, tmp_path / "out", parts=f"2/{SHARES}")
    shard = next((tmp_path / "out").glob("shard-*.bin"))
    shard.write_bytes(bytes(shard.stat().st_size))
    assert share(raw, tmp_path / "out", f"3/{SHARES}") is None
    assert share(raw, tmp_path / "out", None) == whole
    assert not (tmp_path / "out/parts").exists()


def test_more_shares_than_parts_is_no_error(raw, whole, tmp_path):
    shares = [share(raw, tmp_path / "out", f"{number}/6") for number in range(1, 7)]
    assert whole in shares
    assert shares[0] is None


def test_image_that_no_archive_holds_fails_the_share_that_ends_last(raw, tmp_path, monkeypatch):
    """Only it can know."""
    monkeypatch.setattr(module.finish, "missing_images", lambda *_: ["absent.png"])
    run(raw, tmp_path / "out", parts="1/2")
    with pytest.raises(InputError, match=r"absent\.png"):
        run(raw, tmp_path / "out", parts="2/2")


def test_share_says_about_how_many_images_it_has(raw, tmp_path):
    _, lines = run(raw, tmp_path / "out", parts="1/2")
    assert [line for line in lines if line.startswith("preparing about 20 images")]
