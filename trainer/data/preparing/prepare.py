"""Preparation of a data set: parts that are not there yet, then the index; a start that was ended continues."""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.data.class_folders import DICOM_SUFFIXES, first_of
from trainer.data.dicom import check_dicom_readable
from trainer.data.gray_range import preliminary, resolved
from trainer.data.packs.decoders import decoders
from trainer.data.packs.index import INDEX
from trainer.data.packs.prepared import PreparedIndex
from trainer.data.packs.records import Geometry
from trainer.data.preparing import finish, output
from trainer.data.preparing.archives import Ignored
from trainer.data.preparing.earlier import Written, finished_parts
from trainer.data.preparing.image_names import image_finder
from trainer.data.preparing.part_record import PartRecord, key_of
from trainer.data.preparing.part_work import Numbers, Workshop, prepare_part
from trainer.data.preparing.plan import Plan, PlannedPart, plan
from trainer.data.preparing.sources import RETRY_S, DataSet, opened
from trainer.errors import InputError, TryAgainError
from trainer.limits import in_words
from trainer.location import Location
from trainer.prepare_config import PrepareConfig
from trainer.runtime.console import Reporter
from trainer.runtime.cores import usable_cores
from trainer.runtime.progress import USUALLY_FEW
from trainer.storage import Storage, open_storage

_WORKERS_PER_PART: Final = 4
"""Decoders that one archive keeps busy: its inflation is serial."""


@dataclass(frozen=True)
class Prepared:
    """What `prepare` has written."""

    images: int
    """Records in the parts of this start."""
    index_sha256: str | None
    """Hash of the index; None for a share after which others are still to be done."""


@dataclass(frozen=True)
class _Start:
    """One start of the command."""

    config: PrepareConfig
    out: Storage
    data_set: DataSet
    planned: Plan
    reporter: Reporter


def prepare(config: PrepareConfig, reporter: Reporter) -> Prepared:
    """Prepare the data set, or a share of it.

    Raises: InputError for bad input, as named by the modules of this room; FullError; RemoteError; ChangedError.
    """
    output.check_apart(config.data, config.out)
    out = _opened_out(config.out)
    output.check_ours(out)
    output.sweep(config.out, out)
    geometry = Geometry(side=config.pack_side, fit=config.pack_fit, gray_bits=preliminary(config.gray_range))
    with opened(config) as data_set:
        for note in data_set.source.unread_images():
            reporter.line(f"note: {note}")
        start = _Start(config, out, data_set, plan(data_set, geometry), reporter)
        index = output.finished_index(out)
        if index is not None:
            return _confirmed(start, index)
        _check_before(config, data_set)
        output.check_plan(out, start.planned)
        records = _all_records(start)
        if config.share is None:
            prepared = _finished(start, records)
            _remove_records(start)
            return prepared
        finish.check_unreadable(records, config.data, config.on_bad_image)
        every = _records_of_all_shares(start)
        return Prepared(_images(records), None) if every is None else _finished(start, every)


def _opened_out(url: str) -> Storage:
    if "://" in url and not Location(url).is_bucket:
        raise InputError(
            f"cannot write to `{url.partition('?')[0]}`: must be a directory or s3://BUCKET/PREFIX (from `--out`)"
        )
    return open_storage(url, patience_s=RETRY_S)


def _check_before(config: PrepareConfig, data_set: DataSet) -> None:
    """What is known to fail before an image is read. Raises: InputError."""
    table = data_set.source.table
    archives = [] if len(data_set.files) == len(table) else data_set.archives
    listed = [archive.listed() for archive in archives]
    if None not in listed:  # of archives without a directory, the images are known only when they are read
        image_of = image_finder(data_set.source)
        places = [place for places in listed if places is not None for place in places]
        present = frozenset(name for name in map(image_of, places) if name is not None)
        missing = finish.missing_images(table, present | data_set.files.keys())
        finish.check_missing(missing, table, config.data, config.on_missing_image)
    if any(name.lower().endswith(DICOM_SUFFIXES) for name in table.images):
        check_dicom_readable()


def _all_records(start: _Start) -> list[PartRecord]:
    """Records of all parts of the share, those that were not there made now. Raises: as `prepare`."""
    config, parts = start.config, start.planned.of_share(start.config.share)
    written = Written(start.out, start.out.stats(""), is_bucket=Location(config.out).is_bucket)
    retries_unreadable = config.on_bad_image == "fail"
    with start.reporter.progress("verifying", len(parts), USUALLY_FEW) as advance:
        records = finished_parts(written, parts, retries_unreadable=retries_unreadable, advance=advance)
    kept = list(records.values())
    if kept:
        start.reporter.line(f"{len(kept):,} of {len(parts):,} parts are there, with {_images(kept):,} images")
    left = [part for part in parts if part.number not in records]
    if left:
        images = _images_left(start, left, kept)
        replaced_bytes = output.shard_bytes(written.stats, {part.number for part in left})
        output.check_room(config.out, images * start.planned.geometry.side**2 - replaced_bytes)
        output.claim_plan(start.out, start.planned)
        records |= _made(start, left, images)
    return [records[part.number] for part in parts]


def _images_left(start: _Start, left: Sequence[PlannedPart], kept: Sequence[PartRecord]) -> int:
    """Images in these parts; of a share, archives are taken to have the same number of them each."""
    total = len(start.data_set.source.table)
    if start.config.share is None:
        return max(0, total - _images(kept))
    archives = [part for part in start.planned.parts if part.archive is not None]
    archived = total - len(start.data_set.files) if archives else 0
    of_archives = archived * sum(part.archive is not None for part in left) // max(1, len(archives))
    return of_archives + sum(len(part.files) for part in left)


def _records_of_all_shares(start: _Start) -> list[PartRecord] | None:
    """Records of all parts, None while one is missing.

    The share that ends last sees all of them. Several that end together write the same files with the same content. The
    records stay, because a share that is started again may be reading them.
    """
    written = Written(start.out, start.out.stats(""), is_bucket=Location(start.config.out).is_bucket)
    parts = start.planned.parts
    if not {key_of(part.number) for part in parts} <= written.stats.keys():
        return None
    retries_unreadable = start.config.on_bad_image == "fail"
    found = finished_parts(written, parts, retries_unreadable=retries_unreadable, advance=lambda _: None)
    return [found[part.number] for part in parts] if len(found) == len(parts) else None


def _images(records: Sequence[PartRecord]) -> int:
    return sum(len(record.images) for record in records)


def _finished(start: _Start, records: Sequence[PartRecord]) -> Prepared:
    """Write the index. Raises: InputError for images that are missing, unreadable, or in two parts."""
    config, table = start.config, start.data_set.source.table
    finish.check_unique(records)
    missing = finish.missing_images(table, frozenset(name for record in records for name in record.images))
    finish.check_missing(missing, table, config.data, config.on_missing_image)
    finish.check_unreadable(records, config.data, config.on_bad_image)
    finish.remove_strays(start.out, records)
    content = finish.write_index(start.out, start.planned, records, start.data_set.source, len(missing))
    return Prepared(_images(records), hashlib.sha256(content).hexdigest())


def _remove_records(start: _Start) -> None:
    """Remove what the index replaces."""
    finish.remove_records(start.out, start.planned)
    if not Location(start.config.out).is_bucket:
        with suppress(OSError):
            (Path(start.config.out) / "parts").rmdir()


def _confirmed(start: _Start, index: PreparedIndex) -> Prepared:
    """The complete set that is there, compared with the request and its own index. Raises: InputError."""
    output.check_same(start.out, index, start.planned)
    place = start.config.out
    _check_accepted(start.config, index)
    written = Written(start.out, start.out.stats(""), is_bucket=Location(place).is_bucket)
    with start.reporter.progress("verifying", len(index.files), USUALLY_FEW) as advance:
        for name, (size_bytes, sha256) in index.files.items():
            if not written.is_intact(name, size_bytes, sha256):
                raise InputError(
                    f"cannot confirm the prepared set at `{place}`: {name} is missing or damaged",
                    hint=f"remove {INDEX} and repeat the command, which prepares it again",
                )
            advance(1)
    if start.config.share is None:
        _remove_records(start)
    start.reporter.line(f"the prepared set is complete: {index.count:,} images")
    return Prepared(index.count, hashlib.sha256(start.out.read(INDEX)).hexdigest())


def _check_accepted(config: PrepareConfig, index: PreparedIndex) -> None:
    """Raises: InputError where the set there lacks images that this start may not leave out."""
    refused = {
        f"{len(index.unreadable):,} images are unreadable (--on-bad-image fail)": bool(index.unreadable)
        and config.on_bad_image == "fail",
        f"{index.missing:,} images are missing (--on-missing-image fail)": bool(index.missing)
        and config.on_missing_image == "fail",
    }
    problems = [problem for problem, holds in refused.items() if holds]
    if problems:
        raise InputError(
            f"cannot confirm the prepared set at `{config.out}`: {', '.join(problems)}",
            hint="repeat the flags of the start that has prepared it, or prepare the whole data set to a new --out",
        )


def _made(start: _Start, parts: Sequence[PlannedPart], images: int) -> dict[int, PartRecord]:
    """Prepare these parts, several at a time; their records. Raises: as `prepare_part`, for the first that fails."""
    side = start.planned.geometry.side
    workers = max(1, min(start.config.workers or usable_cores(), images))  # all of them are started
    numbers = Numbers()
    about = "" if start.config.share is None else "about "
    start.reporter.line(
        f"preparing {about}{images:,} images at {side} x {side} pixels, {in_words(images * side**2)}, with {workers} processes"
    )
    with decoders(workers, numbers.image_of) as pool, start.reporter.progress("preparing", images) as advance:
        workshop = Workshop(
            geometry=start.planned.geometry,
            data=start.data_set.storage,
            out=start.out,
            image_of=image_finder(start.data_set.source),
            in_files=frozenset(start.data_set.files),
            pool=pool,
            tasks_ahead=2 * workers + 2,
            numbers=numbers,
            stopped=threading.Event(),
            advance=advance,
        )
        with ThreadPoolExecutor(min(len(parts), 1 + (workers - 1) // _WORKERS_PER_PART)) as threads:
            jobs = {threads.submit(_one, part, workshop, start): part.number for part in parts}
            return _results(jobs, workshop.stopped)


def _results(jobs: Mapping[Future[PartRecord], int], stopped: threading.Event) -> dict[int, PartRecord]:
    """The results of all jobs; where one fails, the others end. Raises: the error of the first that failed by itself."""
    try:
        wait(jobs, return_when=FIRST_EXCEPTION)
    finally:
        stopped.set()
        for job in jobs:
            job.cancel()
    wait([job for job in jobs if not job.cancelled()])
    problems = [job.exception() for job in jobs if not job.cancelled()]
    real = [problem for problem in problems if problem is not None]
    real.sort(key=lambda problem: isinstance(problem, TryAgainError))
    if real:
        raise real[0]
    return {number: job.result() for job, number in jobs.items()}


def _one(part: PlannedPart, workshop: Workshop, start: _Start) -> PartRecord:
    """Prepare a part, and write its record. Raises: InputError also where its 16-bit images use few bits and no gray range is given."""
    record, ignored = prepare_part(part, workshop)
    resolved(start.config.gray_range, record.greatest, f"part {part.name}")
    workshop.out.write(key_of(part.number), record.as_bytes())
    for note in _notes(part, ignored):
        start.reporter.line(note)
    return record


def _notes(part: PlannedPart, ignored: Ignored) -> list[str]:
    notes = []
    if ignored.unlabelled:
        notes.append(f"note: {part.name}: {ignored.unlabelled:,} images are in no label file and are left out")
    if ignored.in_files:
        notes.append(f"note: {part.name}: {ignored.in_files:,} images are there as files, too, which are read")
    if ignored.odd:
        notes.append(
            f"note: {part.name}: {len(ignored.odd):,} members with names of images are no files or point outside, "
            f"and are not read: {first_of(ignored.odd)}"
        )
    return notes
