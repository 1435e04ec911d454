"""Labels and images of a run, read by all workers together: cheap checks first, and the images last."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.config import TrainConfig
from trainer.data import duplicates, gray_range
from trainer.data.dataset import Place, fetched, labelled, rows_without
from trainer.data.decoded_images import decoded, left_out
from trainer.data.labels import LabelTable
from trainer.data.layouts import Source
from trainer.data.locate import missing_images, share_present, without_missing
from trainer.data.packs.reading import Pack
from trainer.data.packs.records import Geometry
from trainer.data.packs.unfinished import UnfinishedPack
from trainer.data.positive_class import check_positive_class, default_positive_class
from trainer.errors import InputError, listing, on_one_line
from trainer.evaluation.label_file import caveats, edition_of
from trainer.evaluation.origin import origin_of
from trainer.evaluation.reference import OTHER, SPLITS, split_of
from trainer.runs import earlier_run, record
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.watchdog import Watchdog
from trainer.storage import open_storage
from trainer.training.claim import RETRY_S


@dataclass(frozen=True)
class Labels:
    """The labels of the data set, and what of config and labels decides the numbers of the run."""

    place: Place
    source: Source
    """Its findings are the outputs of the network."""
    all_findings: tuple[str, ...]
    """With those that are left out."""
    identity: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For run.json."""


@dataclass(frozen=True)
class Images:
    """The decoded images, and the rows of each split that are used."""

    pack: Pack
    rows: Mapping[str, NDArray[np.int64]]
    identity: Mapping[str, Any]
    """With the hash of the pack and the skipped images."""
    facts: Mapping[str, Any]
    """For run.json."""


def read_run_labels(
    config: TrainConfig,
    group: WorkerGroup,
    reporter: Reporter,
    watchdog: Watchdog,
    *,
    precision: str,
    global_batch: int,
) -> Labels:
    """Download the data set where it is in a bucket, and read its labels.

    Raises: InputError, on one rank; PeerError on the others.
    """
    url = f"{config.output.rstrip('/')}/{config.name}"
    earlier = group.on_rank0(lambda: earlier_run.decisions(open_storage(url, patience_s=RETRY_S), config))
    place = group.all_or_raise(lambda: _place(config, earlier))
    group.on_local_rank0(lambda: fetched(place, reporter, watchdog))
    watchdog.pause()
    source = group.all_or_raise(lambda: labelled(place, earlier.get("split")))
    missing = group.on_rank0(lambda: missing_images(source)) if config.on_missing_image == "skip" else []
    present = group.all_or_raise(lambda: _present(source, missing))
    published = group.on_rank0(lambda: _published(source))
    for note in group.all_or_raise(lambda: list(_notes(source, missing)) if group.world.is_rank0 else []):
        reporter.line(note)
    split = published["published_split"] or OTHER
    if split != OTHER:
        reporter.line(f"the test images are those of {SPLITS[split]}")
    kept = group.all_or_raise(lambda: _trainable(present, config, earlier.get("findings"), reporter))
    table = kept.table
    identity = record.describe(config, table, precision=precision, global_batch=global_batch)
    if config.classes:
        positive = config.positive_class or earlier.get("positive_class") or default_positive_class(table.findings)
        identity |= {"positive_class": positive}
    policy = source.policy
    return Labels(
        place,
        kept,
        present.table.findings,
        identity,
        {
            **published,
            "left_out_findings": [name for name in present.table.findings if name not in table.findings],
            "missing_images": len(missing),
            "present": share_present(source, missing) if missing else [],
            "not_read": list(source.look_alikes),
            "shared_patients": table.shared_patients(),
            "unidentified_patients": len(table.unidentified),
            **({"label_policy": policy} if policy else {}),
            **({"prepared_from": source.prepared_from} if source.prepared_from else {}),
        },
    )


def prepare_images(
    config: TrainConfig,
    labels: Labels,
    group: WorkerGroup,
    reporter: Reporter,
    watchdog: Watchdog,
    *,
    beside: Callable[[UnfinishedPack], object] | None,
) -> Images:
    """Decode the images, once per node, and do `beside` meanwhile; all nodes must see the same images.

    Raises: InputError, on one rank; PeerError on the others.
    """
    table = labels.source.table
    pack = decoded(labels.place, labels.source, group, reporter, watchdog, beside=beside)
    watchdog.pause()
    skipped = group.all_or_raise(lambda: left_out(labels.place, pack, config.on_bad_image))
    identity = {**labels.identity, "pack_sha256": pack.sha256, "skipped": skipped}
    group.all_or_raise(lambda: _check_alike(group, identity))
    rows = group.all_or_raise(lambda: _readable_rows(table, skipped))
    equal = group.on_rank0(lambda: duplicates.in_several_splits(pack, table, rows))
    words = duplicates.in_words(equal)
    if words:
        reporter.line(f"warning: {words}")
    return Images(pack, rows, identity, {"gray_bits": pack.index.geometry.gray_bits, "duplicates": equal})


def cache_of(config: TrainConfig) -> Path:
    """Folder for downloads and decoded images."""
    return Path(config.cache_dir or Path(config.output) / "cache")


def _place(config: TrainConfig, earlier: Mapping[str, Any]) -> Place:
    return Place(
        data=config.data,
        layout=config.layout,
        split=config.split,
        val_list=config.val_list,
        geometry=Geometry(side=config.pack_side, fit=config.pack_fit),
        cache=cache_of(config),
        gray_range=_gray_range(config, earlier),
        choices=config.alone(),
    )


def _published(source: Source) -> dict[str, str | None]:
    """What is published of the data set, for run.json."""
    table = source.table
    return {
        "data_set": origin_of(source),
        "label_edition": edition_of(source),
        "published_split": split_of([table.images[row] for row in table.rows("test").tolist()]),
    }


def _gray_range(config: TrainConfig, earlier: Mapping[str, Any]) -> str | None:
    """The gray range of the run that resumes, otherwise the requested one. Raises: InputError where the two differ."""
    of_run, requested = earlier.get("gray_range"), config.gray_range
    if of_run is None or requested in {None, "used", of_run}:
        return requested if of_run is None else str(of_run)
    if gray_range.preliminary(requested) == gray_range.preliminary(str(of_run)):
        return str(of_run)
    raise InputError(
        f"cannot resume the run with `--gray-range {requested}`: it was started with {of_run}",
        hint="remove --gray-range, or give another --name",
    )


def _notes(source: Source, missing: Sequence[str]) -> Iterator[str]:
    """What of the data set is not used, and what makes results too good."""
    yield from caveats(source)
    if missing:
        yield f"{len(missing):,} images have no file and are left out: {', '.join(share_present(source, missing))}"
    shared = source.table.shared_patients()
    if shared:
        yield (
            f"warning: patients in more than one split: {shared:,}, as this run has its split from an earlier version; "
            "its results are too good, and another --name splits them again"
        )


def _present(source: Source, missing: Sequence[str]) -> Source:
    if not missing:
        return source
    present = without_missing(source, missing)
    return replace(present, table=present.table.used())


def _trainable(source: Source, config: TrainConfig, earlier: Sequence[str] | None, reporter: Reporter) -> Source:
    """The data set without findings that are constant in train, unless the run has been trained on them before.

    Raises: InputError for classes without exactly one per image, and where no finding is left.
    """
    table = source.table
    if config.classes:
        table.check_classes()
        if config.positive_class is not None:
            check_positive_class(config.positive_class, table.findings)
        return source
    constant = [] if earlier == list(table.findings) else table.constant()
    if not constant:
        return source
    kept = [name for name in table.findings if name not in constant]
    if not kept:
        raise InputError(
            f"cannot train on `{config.data}`: every finding is the same in all {len(table.rows('train')):,} training images"
            f"{'' if table.known().all() else ' where it is known'}",
            hint="check the labels, or --split",
        )
    reporter.line(
        f"left out, as all training images have the same value{'' if table.known().all() else ' or an unknown one'}: "
        f"{', '.join(map(on_one_line, constant))}; "
        f"the network has {len(kept)} outputs"
    )
    return replace(source, table=table.with_findings(kept))


def _check_alike(group: WorkerGroup, identity: Mapping[str, Any]) -> None:
    """Refuse nodes with different data: their workers would take different numbers of steps, and wait for each other for ever."""
    seen = group.all_gather(json.dumps(identity, sort_keys=True).encode())
    odd = [rank for rank, mine in enumerate(seen) if mine != seen[0]]
    if odd:
        theirs, ours = json.loads(seen[odd[0]]), json.loads(seen[0])
        keys = ", ".join(key for key in ours if ours[key] != theirs.get(key))
        raise InputError(
            f"cannot train: rank {odd[0]} differs from rank 0 in {keys}",
            hint="all workers need the same flags, labels and images",
        )


def _readable_rows(table: LabelTable, skipped: list[str]) -> dict[str, NDArray[np.int64]]:
    rows = rows_without(table, skipped)
    if len(rows["train"]) == 0:
        raise InputError(
            f"cannot train: none of the {len(table.rows('train')):,} training images can be read", hint="check --data"
        )
    constant = table.without(skipped).constant() if skipped else []
    varied = [name for name in constant if name not in table.constant()]
    if varied:
        raise InputError(
            f"cannot train: without the {len(skipped):,} unreadable images, all training images have the same value of "
            f"{len(varied)} findings{listing(varied)}",
            hint="replace these images",
        )
    return rows
