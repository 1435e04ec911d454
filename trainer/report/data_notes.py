"""Sentences about a run's data set, from run.json: what it lacks, what is in it twice, and how patients are kept apart."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from trainer.data.duplicates import images_in_test, in_words
from trainer.data.label_policy import policy_notes
from trainer.evaluation.document import Evaluation
from trainer.evaluation.reference import SPLITS
from trainer.report.formatting import NONE, count
from trainer.report.known_data import NIH_DATA, KnownData, known_data

_NOT_RECORDED: Final = "not recorded"


def data_facts(
    record: Mapping[str, Any], evaluation: Evaluation | None, stated: Mapping[str, str]
) -> list[tuple[str, str]]:
    """What a reader asks about the data first; `stated` are the fields of `--card`, and go before what is known."""
    known = known_data(record, evaluation)
    return [
        ("Data set", known.name),
        ("Reference standard", stated.get("reference_standard", known.reference_standard)),
        ("Edition of the labels", _edition(record, evaluation, known)),
        ("Test images", _test_images(record, evaluation)),
        ("Seeds", _seeds(record, evaluation)),
        ("Images without a file", _counted(record, "missing_images")),
        ("Unreadable images", count(len(record.get("identity", {}).get("skipped", [])))),
        ("Equal images in several splits", _duplicates(record)),
    ]


def _test_images(record: Mapping[str, Any], evaluation: Evaluation | None) -> str:
    """Of which published split; runs of earlier versions did not record it."""
    split = record.get("published_split") or (None if evaluation is None else evaluation["data"]["split"])
    return f"those of {SPLITS[split]}" if split in SPLITS else _NOT_RECORDED


def _edition(record: Mapping[str, Any], evaluation: Evaluation | None, known: KnownData) -> str:
    """An edition of ChestX-ray14's labels; the name of a file may look like one of theirs.

    Runs of earlier versions did not record it, but their evaluation did.
    """
    evaluated = None if evaluation is None else evaluation["data"].get("edition")
    edition = record.get("label_edition", evaluated) if known is NIH_DATA else None
    return str(edition or f"no known edition; hash {record.get('identity', {}).get('labels_sha256', NONE)[:12]}")


def _seeds(record: Mapping[str, Any], evaluation: Evaluation | None) -> str:
    config = record.get("config", {})
    split = str(config.get("split", "given"))
    seeds = [f"training {config.get('seed', _NOT_RECORDED)}"]
    seeds += [f"split {split.partition('@')[2] or 0}"] if split.startswith("patients:") else []
    return ", ".join([*seeds, *([] if evaluation is None else [f"resamples {evaluation['seed']}"])])


def _counted(record: Mapping[str, Any], key: str) -> str:
    return count(record[key]) if key in record else _NOT_RECORDED


def _duplicates(record: Mapping[str, Any]) -> str:
    groups = record.get("duplicates")
    if groups is None:
        return _NOT_RECORDED
    images = sum(len(group) for group in groups)
    return f"{count(images)}, {count(images_in_test(groups))} of them in test" if images else "0"


def kept_apart(record: Mapping[str, Any]) -> str:
    """Whether a patient may be in two splits."""
    unknown, images, shared = (
        record.get("unidentified_patients", 0),
        record.get("images"),
        record.get("shared_patients"),
    )
    if shared:
        who = "1 patient is" if shared == 1 else f"{count(shared)} patients are"
        return f"{who} in more than one split, which makes the results too good."
    if not unknown:
        return "no patient is in two splits."
    which = "all images" if unknown == images else f"{count(unknown)} of {count(images)} images"
    return f"split by image: the patients of {which} are unknown, and a patient may be in two splits."


def labels_in_words(record: Mapping[str, Any]) -> list[str]:
    """What was done to the labels before training; empty where they were used as they are."""
    sentences = policy_notes(record.get("label_policy", {}))
    return [f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences]


def _has_unknown(record: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether some labels of these findings are unknown."""
    policy = record.get("label_policy", {})
    used = [policy.get(kind, {}).get(name, {}) for kind in ("uncertain", "blank") for name in names]
    return any(labels.get("used_as") == "ignore" for labels in used)


def incomplete(record: Mapping[str, Any]) -> list[str]:
    """What the data set of the run lacks, and what is in it twice."""
    notes = []
    if record.get("left_out_findings"):
        names = record["left_out_findings"]
        unknown = " or an unknown one" if _has_unknown(record, names) else ""
        notes.append(f"Not trained, as all training images have the same value{unknown}: {', '.join(names)}.")
    if record.get("missing_images"):
        present = ", ".join(record.get("present", []))
        notes.append(
            f"{count(record['missing_images'])} images of the label files were missing; present were {present}."
        )
    equal = in_words(record.get("duplicates") or [])
    return notes if equal is None else [*notes, f"{equal}."]


def duplicates_in_test(record: Mapping[str, Any]) -> str | None:
    """A warning where a tested image is also in another split; None otherwise."""
    equal = images_in_test(record.get("duplicates") or [])
    if not equal:
        return None
    what = "One test image has" if equal == 1 else f"{count(equal)} test images have"
    return f"{what} the pixels of an image in another split: the scores on test are too optimistic."
