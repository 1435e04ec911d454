"""Text tables are read in bounded memory, whatever they hold."""

import gzip
import os
import zipfile

import pytest

from trainer import limits
from trainer.data.label_files import csv_rows
from trainer.data.layouts import read_labels
from trainer.errors import InputError
from trainer.evaluation import predictions
from trainer.evaluation.label_file import read as read_labels_file
from trainer.formats import tables

HOSTILE = {
    "one endless line": b"x" * 20_000,
    "one endless packed line": gzip.compress(b"x" * 20_000),
    "endless row over lines": b'"' + b'a\n","' * 5000,
    "columns": b"Image Index" + b",prob_a" * 1500,
    "long cell": b'Image Index,prob_a\n"' + b"x" * 140_000 + b'",1\n',
    "open quote": b'Image Index,prob_a\n"a\n' + b"b\n" * 10_000,
    "no text": b"Image Index,prob_a\n\xff\xfe,1\n",
    "UTF-16": "Image Index,prob_a\na,1\n".encode("utf-16"),
    "cut off": gzip.compress(b"Image Index,prob_a\na,1\n" * 100)[:-9],
    "no gzip": b"\x1f\x8b\x08nothing",
    "nothing": b"",
    "NUL": b"Image Index,prob_a\n\0,1\n\0\0",
}


def write(folder, content):
    path = folder / ("labels.csv.gz" if content[:2] == b"\x1f\x8b" else "labels.csv")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(
    "read",
    [predictions.read, read_labels_file, lambda path: read_labels(path.parent, layout="csv")],
    ids=["predictions", "labels", "data set"],
)
def test_file_that_is_no_table_is_bad_input_with_its_name(tmp_path, read, content, monkeypatch, in_memory):
    """From a download that went wrong to a file that was made for it."""
    path = write(tmp_path, content)
    monkeypatch.setattr(tables, "LINE_CHARS", 1 << 14)
    monkeypatch.setattr(tables, "TABLE_COLUMNS", 1000)
    with in_memory(8 << 20), pytest.raises(InputError, match=path.name):
        read(path)


def test_gzip_table_is_decompressed_no_further_than_the_limit(tmp_path, monkeypatch, in_memory):
    """2 MB unpack to 6 GB."""
    monkeypatch.setattr(tables, "gunzipped", lambda packed: limits.gunzipped(packed, most_bytes=1 << 20))
    path = write(tmp_path, gzip.compress(b"Image Index,split\n" + b"a.png,train\n" * 1_000_000))
    with in_memory(8 << 20), pytest.raises(InputError, match=r"labels\.csv\.gz`: it unpacks to more than 1 MiB"):
        list(csv_rows(path))


def test_table_with_too_many_rows_is_refused(tmp_path, monkeypatch):
    """Each of them may be a problem to list."""
    monkeypatch.setattr(tables, "TABLE_ROWS", 100)
    path = write(tmp_path, b"Image Index,prob_a\n" + b"a\n" * 200)
    with pytest.raises(InputError, match="more than 100 rows"):
        predictions.read(path)


@pytest.mark.parametrize("link", ["/dev/zero", "pipe"])
def test_pipes_and_devices_are_refused_as_tables(tmp_path, link):
    """One gives no end, the other no beginning."""
    path = tmp_path / "labels.csv"
    if link == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(link)
    with pytest.raises(InputError, match="not a regular file"):
        predictions.read(path)


def test_rows_are_read_as_they_stand(tmp_path):
    """With quotes, blanks, a byte order mark and ends of lines of three systems."""
    content = '\ufeffa, b\r\n\r\n"c,\nd",e\rf,"g"\n'.encode()
    assert list(tables.rows(content)) == [(1, ["a", "b"]), (4, ["c,\nd", "e"]), (5, ["f", "g"])]


@pytest.mark.parametrize("name", ["labels.csv", "labels.csv.gz", "labels.xlsx"])
def test_zip_archives_and_excel_workbooks_are_refused_as_what_they_are(tmp_path, name):
    """Competitions ship labels as .csv.zip; Excel saves workbooks."""
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("labels.csv", "Image Index,split\n")
    with pytest.raises(InputError, match="it is a zip archive, such as an Excel workbook"):
        list(csv_rows(tmp_path / name))
