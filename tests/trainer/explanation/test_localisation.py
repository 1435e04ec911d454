"""Overlap, hits, false boxes and the pointing game, by hand-counted cases."""

import numpy as np
import pytest

from trainer.explanation.localisation import IOU, Case, as_table, evaluated, iobb, iou, is_inside, wang_2017


def boxes(*rows):
    return np.array(rows, np.float64).reshape(-1, 4)


def test_iou_and_iobb_of_known_boxes():
    """IoU divides by the union, IoBB by the found box alone."""
    found = boxes([0, 0, 10, 10], [2, 2, 4, 4], [20, 20, 30, 30], [5, 5, 5, 9])
    drawn = boxes([0, 0, 10, 20], [5, 0, 15, 10])
    np.testing.assert_allclose(iou(found, drawn), [[0.5, 1 / 3], [0.02, 0], [0, 0], [0, 0]])
    np.testing.assert_allclose(iobb(found, drawn), [[1, 0.5], [1, 0], [0, 0], [0, 0]])


def test_pointing_game_counts_points_inside_boxes():
    """No point, which a flat map has, is never inside."""
    drawn = boxes([0, 0, 10, 10], [50, 50, 60, 60])
    assert is_inside((55.0, 59.0), drawn)
    assert not is_inside((20.0, 5.0), drawn)
    assert not is_inside(None, drawn)


def test_hits_and_false_boxes_are_counted():
    """A hit is a drawn box with more overlap than asked for; a found box that overlaps none by more is false."""
    cases = [
        Case("Mass", boxes([0, 0, 10, 10]), boxes([0, 0, 10, 8], [50, 50, 60, 60]), (5.0, 5.0)),  # IoU 0.8
        Case("Mass", boxes([0, 0, 10, 10]), boxes([0, 0, 10, 5]), (20.0, 5.0)),  # IoU 0.5
        Case("Nodule", boxes([0, 0, 10, 10], [90, 90, 99, 99]), boxes(), None),
    ]
    method = evaluated("model", [cases])
    mass, nodule = method["findings"]
    assert [row["finding"] for row in method["findings"]] == ["Mass", "Nodule"]
    assert (mass["boxes"], mass["images"], nodule["boxes"], nodule["images"]) == (2, 2, 2, 1)
    assert [one["hits"] for one in mass["iou"]] == [2, 2, 2, 2, 1, 1, 1]  # 0.5 is not more than 0.5
    assert [one["false_boxes_per_image"] for one in mass["iou"]] == [0.5, 0.5, 0.5, 0.5, 1, 1, 1]
    assert [one["value"] for one in mass["iobb"]] == [1, 1, 1, 1, 1]
    assert mass["pointing"] == {"hits": 1, "maps": 2, "value": 0.5}
    assert [one["value"] for one in nodule["iou"]] == [0] * 7
    assert method["mean"]["iou"] == [0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert method["mean"]["pointing"] == 0.25


def test_random_baselines_are_averaged_over_draws():
    """A random map is one of many; its score is their mean."""
    drawn = boxes([0, 0, 10, 10])
    hit, miss = Case("Mass", drawn, drawn, (5.0, 5.0)), Case("Mass", drawn, boxes([20, 20, 30, 30]), (25.0, 25.0))
    (row,) = evaluated("random map", [[hit], [miss], [miss], [miss]])["findings"]
    assert (row["boxes"], row["iou"][0]["hits"], row["iou"][0]["value"]) == (1, 0.25, 0.25)
    assert row["iou"][0]["false_boxes_per_image"] == 0.75
    assert row["pointing"]["value"] == 0.25


def test_published_rows_have_their_published_means():
    """A slip of the pen in a copied table shows in its mean."""
    published = wang_2017(comparable=False)
    for least in ("0.1", "0.3", "0.5", "0.7"):
        row = dict(published["iou"][least])
        mean = row.pop("mean")
        assert len(row) == 8
        assert np.mean(list(row.values())) == pytest.approx(mean, abs=0.0006)
    assert sorted(published["iou"]) == [str(least) for least in IOU]


def test_table_fits_a_terminal():
    """Wrapped columns are unreadable."""
    cases = [Case(name, boxes([0, 0, 10, 10]), boxes([0, 0, 10, 8]), (5.0, 5.0)) for name in ("Infiltration", "Mass")]
    document = {
        "boxes": 984,
        "methods": [evaluated("image centre", [cases])],
        "published": [wang_2017(comparable=False)],
    }
    lines = as_table(document).splitlines()
    assert max(map(len, lines)) <= 80
    assert next(line for line in lines if "Mass" in line).split()[:4] == ["Mass", "1", "1.000", "1.000"]
    assert [line.split()[:4] for line in lines if line.split()[:1] == ["mean"]][1] == ["mean", "984", ".568", ".373"]
