"""`trainer prepare` as a command."""

import pytest
from prepared_sets import inline  # noqa: F401 - a fixture

from trainer.__main__ import main
from trainer.data.synthetic import write_phantoms


@pytest.fixture
def data(tmp_path):
    write_phantoms(tmp_path / "data", images=30, side=32)
    return tmp_path / "data"


def test_set_is_prepared_and_its_index_named_by_its_hash(data, tmp_path, capsys, inline):  # noqa: F811
    command = ["prepare", "--data", str(data), "--out", str(tmp_path / "p"), "--pack-side", "16"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert first.startswith(f"{tmp_path}/p: 30 images\nsha256 of its index: ")
    assert main(command) == 0
    assert capsys.readouterr().out == first
    assert main(["stats", "--data", str(tmp_path / "p")]) == 0
    ours = capsys.readouterr().out
    assert main(["stats", "--data", str(data)]) == 0
    assert capsys.readouterr().out == ours


def test_share_says_that_the_index_is_still_to_be_written(data, tmp_path, capsys, inline):  # noqa: F811
    command = ["prepare", "--data", str(data), "--out", str(tmp_path / "p"), "--pack-side", "16", "--parts", "2/2"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path}/p: 0 images (share 2/2; the index is written after the last share)\n"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--out", "gs://bucket/p"], "must be a directory or s3://BUCKET/PREFIX (from `--out`)"),
        (["--out", "p", "--data", "http://host/data"], "it must be a directory or s3://BUCKET/PREFIX"),
        (["--out", "p", "--data", "/nowhere"], "no such directory"),
        (["--out", "p", "--parts", "5/4"], "as a share"),
    ],
)
def test_bad_input_ends_with_code_2_and_writes_nothing(data, tmp_path, capsys, monkeypatch, flags, text):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *([] if "--data" in flags else ["--data", str(data)]), *flags]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
