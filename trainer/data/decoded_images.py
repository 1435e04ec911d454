"""The images of a data set as records: decoded once per node, or read where they are prepared.

Labels are read before, as they are cheap to check. All workers call these functions together.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from trainer.config import OnBadImage
from trainer.data import gray_range
from trainer.data.dataset import Place, waiting_for
from trainer.data.decode import turned_note
from trainer.data.layouts import Source
from trainer.data.locate import locate_images
from trainer.data.locks import locked
from trainer.data.packs.damage import DamagedPackError
from trainer.data.packs.index import write_measured
from trainer.data.packs.key import pack_key
from trainer.data.packs.open_prepared import attach_prepared, checked_geometry, open_prepared
from trainer.data.packs.reading import Pack
from trainer.data.packs.records import Geometry
from trainer.data.packs.unfinished import UnfinishedPack, UnknownGrayRangeError, building
from trainer.data.packs.verify import attach, open_pack
from trainer.errors import InputError, listing
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.progress import USUALLY_FEW
from trainer.runtime.watchdog import COMPILING, Shown, Watchdog

_DECODING: Final = "decoding"


def decoded(
    place: Place,
    source: Source,
    group: WorkerGroup,
    reporter: Reporter,
    watchdog: Watchdog,
    *,
    beside: Callable[[UnfinishedPack], object] | None = None,
) -> Pack:
    """The decoded images, from this node's cache or built by one worker while the others of the node wait.

    Where they are built, that worker calls `beside` meanwhile, which reads the records. Where there are 16-bit images and no gray range
    is known, it ends with UnknownGrayRangeError, and is called again if images are decoded again in the known range.

    The pack's geometry has the gray range: the place's, otherwise the requested one, for which images that use few of 16 bits
    are decoded again. Raises: InputError, also as `gray_range.resolved`; as `beside`.
    """
    if source.placement == "records":
        return _of_prepared_set(place, source, group, reporter, watchdog)
    workers = _Workers(group, reporter, watchdog, beside)
    pack = _decoded(place.in_requested_range(), source, workers)
    return _in_gray_range(place, source, workers, pack)


@dataclass(frozen=True)
class _Workers:
    """The workers that need the images, and what the first one of each node does while they are decoded."""

    group: WorkerGroup
    reporter: Reporter
    watchdog: Watchdog
    beside: Callable[[UnfinishedPack], object] | None


@dataclass(frozen=True)
class _Images:
    """Image files, and their pack."""

    folder: Path
    """Of the pack, which may not exist yet."""
    names: Sequence[str]
    paths: Sequence[Path]
    geometry: Geometry

    def lock(self, reporter: Reporter, watchdog: Watchdog) -> AbstractContextManager[None]:
        """The lock of the pack for the block. Raises: as `locked`."""
        return locked(self.folder, waiting_for(reporter, watchdog, "another process is decoding the images"))


def _in_gray_range(place: Place, source: Source, workers: _Workers, pack: Pack) -> Pack:
    """The pack in the requested range, or where its images use fewer of 16 bits, another one."""
    if place.geometry.gray_bits is not None:
        return pack
    bits = workers.group.all_or_raise(
        lambda: gray_range.resolved(place.gray_range, pack.index.greatest, f"`{place.data}`")
    )
    chosen = place.with_bits(bits)
    if chosen.geometry.bits != pack.index.geometry.bits:
        workers.reporter.line(f"16-bit images use {bits} bits: 0 to {2**chosen.geometry.bits - 1:,} are black to white")
        return _decoded(chosen, source, workers)
    return replace(pack, index=replace(pack.index, geometry=chosen.geometry))


def _of_prepared_set(place: Place, source: Source, group: WorkerGroup, reporter: Reporter, watchdog: Watchdog) -> Pack:
    """The records of a prepared set, verified by one worker of each node, and read where they are."""
    folder, names = source.root, source.table.images
    requested = place.in_requested_range().geometry

    def verify() -> None:
        checked_geometry(folder, requested)
        with watchdog.progress(_brief(reporter), "verifying the prepared set", len(names)) as advance:
            open_prepared(folder, names, progress=lambda done: advance(done, ""))

    group.on_local_rank0(verify)
    pack = group.all_or_raise(lambda: attach_prepared(folder, names))
    if group.world.is_rank0:
        note_turned(pack, reporter)
    return replace(pack, index=replace(pack.index, geometry=checked_geometry(folder, requested)))


def _decoded(place: Place, source: Source, workers: _Workers) -> Pack:
    group, key = workers.group, ""
    built: Pack | None = None

    def decode() -> None:
        nonlocal key, built
        images = _located(place, source, workers.reporter, workers.watchdog)
        key = images.folder.name
        with ExitStack() as held:
            held.enter_context(images.lock(workers.reporter, workers.watchdog))
            if not _is_whole(images, workers.reporter, workers.watchdog):
                built = _built(images, workers, lock=held.pop_all())

    group.on_local_rank0(decode)
    keys = [content.decode() for content in group.all_gather(key.encode())]
    node_key = keys[group.world.rank - group.world.local_rank]
    folder, names = place.cache / "packs" / node_key, source.table.images
    # What is built stays open: when the images have been used for hours, it may be gone from the cache.
    pack = group.all_or_raise(lambda: built or attach(folder, names, place.geometry))
    if group.world.is_rank0:
        note_turned(pack, workers.reporter)
    return pack


def _built(images: _Images, workers: _Workers, *, lock: AbstractContextManager[object]) -> Pack:
    """The pack of the images, which are decoded now; what is to be done with the records is done meanwhile."""
    watchdog = workers.watchdog

    # The builder's thread calls it, so that a `beside` that hangs is noticed only when all images are decoded.
    def note_progress(_done: int) -> None:
        watchdog.heartbeat(_DECODING, timeout_scale=COMPILING)

    with building(
        images.folder, images.names, images.paths, images.geometry, lock=lock, progress=note_progress
    ) as unfinished:
        if workers.beside is not None:
            with suppress(UnknownGrayRangeError):
                workers.beside(unfinished)
        if not unfinished.is_decoded:
            with watchdog.progress(workers.reporter.progress, _DECODING, len(images.names)) as advance:
                unfinished.wait_for_each(lambda done: advance(done, ""))
        note_progress(0)  # the pack is flushed and hashed now, which can hang, too
    watchdog.pause()
    return unfinished.built.result()


def _located(place: Place, source: Source, reporter: Reporter, watchdog: Watchdog) -> _Images:
    names, paths = source.table.images, locate_images(source)
    with watchdog.progress(_brief(reporter), "checking the image files", len(paths)) as advance:
        key = pack_key(names, paths, place.geometry, progress=lambda done: advance(done, ""))
    return _Images(place.cache / "packs" / key, names, paths, place.geometry)


def _is_whole(images: _Images, reporter: Reporter, watchdog: Watchdog) -> bool:
    """Whether the pack is complete and undamaged; otherwise it is logged that it is to be built."""
    names, geometry = images.names, images.geometry
    pack = _whole(images.folder, names, geometry, reporter, watchdog)
    if pack is None:
        reporter.line(f"decoding {len(names):,} images to {geometry.side} x {geometry.side} pixels, once")
        return False
    if geometry.gray_bits is None and not pack.index.is_measured:
        with watchdog.progress(_brief(reporter), "looking for 16-bit images", len(names)) as advance:
            write_measured(images.folder, pack.index, gray_range.greatest_of(images.paths, lambda: advance(1, "")))
    return True


def note_turned(pack: Pack, reporter: Reporter) -> None:
    """Log that EXIF orientation is ignored, where there is any."""
    if pack.index.turned:
        reporter.line(turned_note(pack.index.turned, pack.index.count))


def _whole(
    folder: Path, names: Sequence[str], geometry: Geometry, reporter: Reporter, watchdog: Watchdog
) -> Pack | None:
    """The pack at `folder` if it is complete and undamaged; damage is logged."""
    try:
        with watchdog.progress(_brief(reporter), "verifying the decoded images", len(names)) as advance:
            return open_pack(folder, names, geometry, progress=lambda done: advance(done, ""))
    except DamagedPackError as damage:
        reporter.line(f"the pack at `{folder}` is damaged: {damage}; building it again")
        return None


def _brief(reporter: Reporter) -> Shown:
    """Progress of a step that is usually short."""
    return lambda what, total: reporter.progress(what, total, USUALLY_FEW)


def left_out(place: Place, pack: Pack, on_bad_image: OnBadImage) -> list[str]:
    """Names of unreadable images, if `--on-bad-image skip` allows them. Raises: InputError."""
    unreadable = pack.index.unreadable
    if unreadable and on_bad_image == "fail":
        problems = listing(f"{place.data}: {name}: {reason}" for name, reason in unreadable.items())
        raise InputError(
            f"cannot read {len(unreadable)} of {pack.index.count:,} images:{problems}",
            hint="replace them, or use --on-bad-image skip to leave them out and list them in run.json",
        )
    return list(unreadable)
