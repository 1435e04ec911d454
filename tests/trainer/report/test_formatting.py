"""Numbers and names as a reader sees them."""

import pytest

from trainer.report.formatting import duration, interval, last_name, number, proportion, size, without_places


@pytest.mark.parametrize(
    ("place", "name"),
    [
        pytest.param("/mnt/host-7/runs/chexnet", "chexnet", id="path"),
        pytest.param("/mnt/host-7/runs/", "runs", id="path with a slash at its end"),
        pytest.param("s3://bucket/hospital/cxr?token=abc", "cxr", id="address with a token"),
        pytest.param("s3://key:secret@bucket", "bucket", id="address with a login"),
        pytest.param("C:\\data\\cxr", "cxr", id="Windows"),
        pytest.param("cxr", "cxr", id="name"),
    ],
)
def test_only_the_last_part_of_a_path_is_shown(place, name):
    """A report is passed on: machines, buckets and logins stay at home."""
    assert last_name(place) == name


def test_paths_and_urls_are_removed_from_text():
    """Notes are written for who ran it, and read by others."""
    text = "2 of `/data/private/cxr/labels.csv` and s3://k:s@b/x/y.csv, 3/4 of them and/or ~/me/z"
    assert without_places(text) == "2 of `labels.csv` and y.csv, 3/4 of them and/or z"


def test_undefined_numbers_are_a_dash_and_never_a_zero():
    """Who reads 0.000 believes it."""
    nothing = {"value": None, "low": None, "high": None}
    assert interval(nothing) == number(None) == number(float("nan")) == size(None) == duration(None) == "-"
    assert interval({"value": 0.5, "low": None, "high": None}) == "0.500 (no interval)"


def test_memory_is_shown_in_its_largest_fitting_unit():
    """0.00 GiB says nothing."""
    assert [size(value) for value in (0, 300 * 2**20, 3 * 2**30)] == ["-", "300 MiB", "3.00 GiB"]


def test_intervals_of_differences_keep_their_signs_apart():
    """`0.01 (-0.02-0.04)` can't be read."""
    assert interval({"value": 0.01, "low": -0.02, "high": 0.04}) == "0.010 (-0.020 to 0.040)"
    assert interval({"value": 0.01, "low": -0.02, "high": 0.04}, signed=True) == "+0.010 (-0.020 to +0.040)"
    assert interval({"value": 0.0, "low": None, "high": None}, 2, signed=True) == "0.00 (no interval)"


def test_proportion_is_shown_with_its_counts():
    """87.1 % of 624 is not possible; who counts along sees it."""
    one = {"correct": 563, "total": 624, "value": 563 / 624, "low": 0.876, "high": 0.923}
    assert proportion(one).replace("\u00a0", " ") == "90.2 % (87.6 to 92.3 %), 563 of 624"


def test_proportion_without_an_interval_keeps_its_value():
    """Too few patients are a reason against an interval, not against the number."""
    one = {"correct": 3, "total": 4, "value": 0.75, "low": None, "high": None}
    assert proportion(one).replace("\u00a0", " ") == "75.0 % (no interval), 3 of 4"
    assert proportion({"correct": 0, "total": 0, "value": None, "low": None, "high": None}) == "-, 0 of 0"


@pytest.mark.parametrize(("seconds", "words"), [(3.21, "3.2 s"), (75, "1 min 15 s"), (7300.4, "2 h 01 min")])
def test_durations_are_in_two_units(seconds, words):
    """2,790.75 seconds is hard to feel."""
    assert duration(seconds) == words


def test_numbers_are_rounded_as_their_digits_are():
    """A published .9175 must not be .917 on one page and .918 on another."""
    assert number(0.9175) == "0.918"
    assert number(0.8745) == "0.875"
    assert number(0.1 + 0.2, 2) == "0.30"
    assert number(1e-9) == "0.000"
    assert interval({"value": 0.9175, "low": 0.9165, "high": 0.9185}) == "0.918 (0.917 to 0.919)"
