"""`trainer download`, from its command line."""

import hashlib

import pytest
from file_server import FileServer

from trainer.__main__ import main
from trainer.data.downloads import nih
from trainer.data.downloads.nih import PublishedFile


@pytest.fixture
def mirror(monkeypatch):
    files = {"images_01.tar.gz": b"archive" * 1000, "labels.csv": b"a,b\n"}
    with FileServer(files) as server:
        for kind, name in (("ARCHIVES", "images_01.tar.gz"), ("LABEL_FILES", "labels.csv")):
            item = PublishedFile(name, hashlib.sha256(files[name]).hexdigest(), "http://127.0.0.1:1/never")
            monkeypatch.setattr(nih, kind, (item,))
        yield server


def test_all_files_come_from_a_mirror_and_the_terms_are_said(mirror, tmp_path, capsys):
    out = tmp_path / "raw"
    assert main(["download", "nih", "--out", str(out), "--mirror", f"{mirror.url}/"]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == mirror.files
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert "labels.csv: downloaded, 4 bytes" in captured.err
    assert "images_01.tar.gz: downloaded and verified, 7,000 bytes" in captured.err
    assert "acknowledge the NIH Clinical Center" in captured.err


def test_only_labels_or_archives(mirror, tmp_path):
    assert main(["download", "nih", "--out", str(tmp_path / "a"), "--only", "labels", "--mirror", mirror.url]) == 0
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["labels.csv"]
    assert main(["download", "nih", "--out", str(tmp_path / "b"), "--only", "archives", "--mirror", mirror.url]) == 0
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["images_01.tar.gz"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--jobs", "0"], "cannot use --jobs 0: it must be from 1 to 64"),
        (["--mirror", "ftp://x/y"], "it must be http(s)://HOST/FOLDER"),
        (["--mirror", "http://user:word@x/y"], "without login or query (from --mirror)"),
        (["--mirror", "http://x/y?token=1"], "cannot download from `http://x/y`"),
        (["--out", "gs://x/y"], "must be a directory or `s3://BUCKET/PREFIX`"),
    ],
)
def test_unusable_flags_are_refused(flags, message, tmp_path, capsys):
    out = [] if "--out" in flags else ["--out", str(tmp_path / "raw")]
    assert main(["download", "nih", *out, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "word" not in error
    assert list(tmp_path.iterdir()) == []


def test_absent_file_exits_with_2_and_unreachable_server_is_a_line(mirror, tmp_path, capsys):
    del mirror.files["labels.csv"]
    assert main(["download", "nih", "--out", str(tmp_path / "raw"), "--mirror", mirror.url]) == 2
    assert "the server answers 404 Not Found" in capsys.readouterr().err
