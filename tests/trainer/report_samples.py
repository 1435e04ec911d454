"""Documents of a run as the trainer writes them, small and made up, for tests of what reads them."""

import json

import numpy as np

from trainer.data.labels import FINDINGS
from trainer.report.pictures import Picture

PICTURE = Picture(
    image="folder/00000001_000.png",
    finding="Mass",
    kind="lowest score with it",
    truth="labelled Mass, Edema",
    probability=0.0123,
    jpeg=b"\xff\xd8\xff\xe0 picture",
)


def interval(value, half=0.02):
    return {"value": value, "low": round(value - half, 4), "high": round(value + half, 4)}


def proportion(correct, total):
    share = correct / total
    return {"correct": correct, "total": total, "value": share, "low": share - 0.03, "high": share + 0.03}


def curve(rng, bend):
    x = np.linspace(0, 1, 41)
    y = x**bend
    return {
        "x": x.round(4).tolist(),
        "y": y.round(4).tolist(),
        "low": np.clip(y - 0.06 * rng.random(), 0, 1).round(4).tolist(),
        "high": np.clip(y + 0.06, 0, 1).round(4).tolist(),
    }


def calibration(rng, off):
    predicted = np.linspace(0.03, 0.93, 10)
    bins = [
        {"predicted": round(p, 4), "observed": round(float(np.clip(p + off * rng.random(), 0, 1)), 4), "count": 40}
        for p in predicted.tolist()
    ]
    return {"ece": abs(off) / 2, "brier": 0.11, "bins": bins}


def operating_point(rng):
    share = {
        name: interval(round(0.6 + 0.3 * rng.random(), 4)) for name in ("sensitivity", "specificity", "ppv", "npv")
    }
    return {"threshold": 0.1234, **share, "f1": 0.41}


def finding(rng, name):
    return {
        "name": name,
        "positives": int(rng.integers(20, 900)),
        "prevalence": 0.123,
        "auroc": interval(round(0.7 + 0.2 * rng.random(), 4)),
        "auprc": interval(round(0.2 + 0.3 * rng.random(), 4)),
        "raw": calibration(rng, 0.2),
        "calibrated": calibration(rng, 0.02),
        "operating_points": {
            rule: operating_point(rng) for rule in ("youden", "best_f1", "specificity_90", "specificity_95")
        },
        "roc": curve(rng, 0.3),
        "pr": curve(rng, 3.0) | {"y": [0.9 - 0.02 * n for n in range(41)]},
    }


def undefined(name):
    """A finding of which the split has no example."""
    nothing = {"value": None, "low": None, "high": None}
    x = [0.0, 0.5, 1.0]
    empty = {"x": x, "y": [None] * 3, "low": [None] * 3, "high": [None] * 3}
    return {
        "name": name,
        "positives": 0,
        "prevalence": 0.0,
        "auroc": nothing,
        "auprc": nothing,
        "raw": {"ece": None, "brier": None, "bins": []},
        "calibrated": None,
        "operating_points": {},
        "roc": empty,
        "pr": empty,
    }


def evaluation(names=FINDINGS, *, classes=False, comparison=True):
    rng = np.random.default_rng(0)
    found = [finding(rng, name) for name in names]
    groups = [("sex", "F"), ("sex", "M"), ("age", "40 to 59"), ("view", "AP")]
    auroc = {name: round(0.7 + 0.01 * nth, 4) for nth, name in enumerate(names)}
    reference = {"split": "random", "auroc": auroc, "mean": 0.8508, "note": "ten crops", "source": "its README"}
    return {
        "format": 1,
        "model": "run-1, step 96",
        "data": {
            "labels": "labels.csv",
            "part": "test",
            "split": "random",
            "images": 22433,
            "patients": 6187,
            "fitted_on": "val, 11,219 images",
            "trained_on_known": True,
            "trained_on_images": 0,
        },
        "resamples": 1000,
        "seed": 0,
        "mean_auroc": interval(0.8123),
        "mean_auprc": interval(0.2593),
        "findings": found,
        "classes": {
            "accuracy": proportion(560, 624),
            "positive": names[-1],
            "sensitivity": proportion(370, 390),
            "specificity": proportion(190, 234),
            "recall": {name: proportion(190, 234) for name in names},
            "majority_share": 0.625,
        }
        if classes
        else None,
        "subgroups": [
            {
                "by": by,
                "group": group,
                "images": 9000,
                "patients": 3000,
                "mean_auroc": interval(0.8),
                "auroc": {name: interval(0.8) for name in names},
            }
            for by, group in groups
        ],
        "comparison": {
            "other": "/home/someone/other.csv",
            "differences": [
                {
                    "name": name,
                    "ours": 0.8,
                    "other": 0.79,
                    "difference": interval(0.01),
                    "p": 0.04,
                    "p_holm": None if name == "mean" else 0.4,
                }
                for name in (*names, "mean")
            ],
        }
        if comparison
        else None,
        "references": [
            {"name": "zoogzog", "comparable": True, **reference},
            {"name": "Wang 2017", "comparable": False, **reference, "split": "official", "mean": 0.7451},
        ],
        "shortcuts": [{"name": "pixel count", "auroc": dict.fromkeys(names, 0.92)}],
        "notes": ["2 images were left out of `/data/private/cxr/labels.csv`."],
    }


def of_format_2(document, *, few=(), scale="calibrated", stated=None):
    """The document with the keys of format 2; the findings in `few` have too few patients for intervals."""
    document["format"], document["scale"] = 2, scale
    for nth, one in enumerate(document["findings"]):
        _extend(one, nth, stated)
        if one["name"] in few:
            one["too_few"] = "fewer than 5 patients with it"
            points = one["operating_points"].values()
            keys = ("sensitivity", "specificity", "ppv", "npv")
            for value in (one["auroc"], one["auprc"], *(point[key] for point in points for key in keys)):
                value.update(low=None, high=None)
    for group in document["subgroups"]:
        group["not_scored"], group["difference"] = None, interval(-0.03)
        group["findings"] = {name: group_finding(-0.05) for name in group["auroc"]}
    if document["subgroups"]:
        last = document["subgroups"][-1]
        nothing = {"value": None, "low": None, "high": None}
        last.update(
            not_scored="14 patients, fewer than 20", mean_auroc=nothing, difference=nothing, findings={}, auroc={}
        )
    return document


def _extend(one, nth, stated):
    one |= {"positive_patients": 30 + nth, "negative_patients": 4000, "too_few": None, "stated_prevalence": stated}
    share = one["prevalence"]
    x = np.linspace(0, 0.9, 46)
    none_left = np.clip((0.95 - x) ** 2 * share - 0.02 * share, -0.05 * share, share)
    one["net_benefit"] = {
        "x": x.round(4).tolist(),
        "y": none_left.round(5).tolist(),
        "low": (none_left - 0.05 * share).round(5).tolist(),
        "high": (none_left + 0.6 * share).round(5).tolist(),
    }
    for one_scale in filter(None, (one["raw"], one["calibrated"])):
        one_scale |= {"width": 0.1, "slope": interval(0.93), "intercept": interval(-0.12, 0.2)}
        one_scale["observed_expected"] = interval(1.04, 0.1)
        for each in one_scale["bins"]:
            each["low"], each["high"] = max(0.0, each["observed"] - 0.1), min(1.0, each["observed"] + 0.1)
    for point in one["operating_points"].values():
        point["counts"] = {
            "true_positives": 1200,
            "false_positives": 3456,
            "false_negatives": 300,
            "true_negatives": 17477,
        }
        if stated is not None:
            point["stated_ppv"], point["stated_npv"] = interval(0.21), interval(0.98, 0.01)


def group_finding(difference):
    """One finding in a subgroup."""
    return {
        "positive_patients": 25,
        "negative_patients": 600,
        "auroc_difference": interval(-0.01),
        "sensitivity": interval(0.7),
        "sensitivity_difference": interval(difference),
        "false_positive_rate": interval(0.2),
        "false_positive_rate_difference": interval(0.03),
    }


def record(name="run-1", **changes):
    """run.json."""
    config = {
        "data": "s3://key:secret@bucket.internal/hospital/chestxray14?token=abc",
        "output": "/mnt/host-7/runs",
        "name": name,
        "preset": "chexnet",
        "cache_dir": "/mnt/host-7/cache",
        "weights": "/home/someone/weights/resnet.pth",
        "val_list": None,
        "split": "patients:70/10/20",
        "model": "densenet121",
        "head": "linear",
        "epochs": 6,
        "lr": 1e-4,
        "max_steps": None,
    } | changes
    return {
        "name": name,
        "config": config,
        "identity": {"model": config["model"], "findings": list(FINDINGS), "global_batch": 64, "precision": "fp32"},
        "versions": {"trainer": "0.1.0", "git_commit": "abc123", "python": "3.11.2", "torch": "2.6.0"},
        "world_size": 2,
        "device": "cpu",
        "layout": "lists",
        "images": 112120,
    }


def entry(epoch, *, accuracy=False, seconds=12.5):
    """A line of metrics.jsonl."""
    val = {"images": 11219, "mean_auroc": 0.6 + 0.03 * epoch, "loss": 0.25 - 0.01 * epoch, "auroc": {"Mass": 0.7}}
    if accuracy:
        val["accuracy"] = proportion(400 + 10 * epoch, 624)
    return {
        "step": 16 * epoch,
        "epoch": float(epoch),
        "train_loss": 0.4 / epoch,
        "images_per_s": 210.0 + epoch,
        "data_wait_share": 0.02,
        "snapshot_ms": 30.0,
        "seconds": seconds,
        "utilisation": 0.9,
        "val": val,
    }


def results(name="run-1", *, workers=2, training_s=75.0, **changes):
    """results.json."""
    return {
        "name": name,
        "model": "densenet121",
        "checkpoint": {"step": 96, "epoch": 6.0, "sha256": "f" * 64},
        "last_step": 96,
        "world_size": workers,
        "global_batch": 64,
        "device": "cpu",
        "peak_device_memory_bytes": 3 * 2**30,
        "training_s": training_s,
        "images_per_s": 213.5,
        "utilisation": 0.91,
        "val": {"images": 11219, "mean_auroc": 0.79, "loss": 0.2, "auroc": {"Mass": 0.7, "Hernia": None}},
        "test": {"images": 22433, "mean_auroc": 0.78, "loss": 0.2, "auroc": {"Mass": 0.71, "Hernia": None}},
    } | changes


def write_run(folder, *, run=None, entries=None, outcome=None, metrics=None):
    """A run's directory with these documents; what is None is not there."""
    (folder / "evaluation").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(run or record(folder.name)))
    if entries is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in entries))
    if outcome is not None:
        (folder / "results.json").write_text(json.dumps(outcome))
    if metrics is not None:
        (folder / "evaluation/metrics.json").write_text(json.dumps(metrics))
    return folder
