"""Where a prepared set is written: what is there already, and whether there is room."""

import json
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from trainer.data.packs.damage import DamagedPackError
from trainer.data.packs.index import CHECKSUMS, INDEX, NAMES, SIZES
from trainer.data.packs.prepared import LABELS, NOTICE, SHARD, PreparedIndex, parsed
from trainer.data.preparing.part_record import PLAN
from trainer.data.preparing.plan import Plan, differences
from trainer.errors import InputError, listing, on_one_line
from trainer.limits import JSON_BYTES, LimitError, parsed_json
from trainer.location import Location
from trainer.storage import AbsentError, FullError, Stat, Storage
from trainer.storage.files import PARTIAL, room, whole_name
from trainer.storage.local import PROBE

_OURS: Final = re.compile(
    rf"shard-\d{{4}}-\d{{4}}\.bin|{NAMES}|{SIZES}|{CHECKSUMS}|{LABELS}|{NOTICE}|{INDEX}|{PLAN}|parts/\d{{4}}\.json",
    re.ASCII,
)


def check_apart(data: str, out: str) -> None:
    """Raises: InputError where one of the two places is inside the other."""
    places = [_parts_of(place) for place in (data, out)]
    shorter = min(map(len, places))
    if places[0][:shorter] != places[1][:shorter]:
        return
    if places[0] == places[1]:
        what = "it is the data set itself"
    elif len(places[1]) > shorter:
        what = "it is inside the data set"
    else:
        what = "the data set is inside it"
    raise InputError(
        f"cannot write the prepared set to `{out}`: {what}, got `{data}` (from `--out` and `--data`)",
        hint="choose an --out beside --data",
    )


def _parts_of(place: str) -> list[str]:
    location = Location(place)
    if location.is_bucket:
        return ["s3:", location.bucket, *(part for part in location.prefix.split("/") if part)]
    return list(Path(place).resolve().parts)


def check_ours(storage: Storage) -> None:
    """Raises: InputError where the place holds files that are not a prepared set's."""
    foreign = [key for key in storage.keys("") if not _OURS.fullmatch(key)]
    if foreign:
        raise InputError(
            f"cannot write the prepared set to `{storage.url}`: it holds {len(foreign):,} other files (from `--out`)"
            f"{listing(map(on_one_line, foreign))}",
            hint="choose a new or empty --out",
        )


def sweep(place: str, storage: Storage) -> None:
    """Remove what killed processes have left half-written in a directory; a bucket has none of it."""
    if Location(place).is_bucket:
        return
    partial = [whole_name(path.name) for path in Path(place).glob(f".*{PARTIAL}")]
    partial += [f"parts/{whole_name(path.name)}" for path in Path(place).glob(f"parts/.*{PARTIAL}")]
    storage.sweep("", names=[name for name in partial if name == PROBE or (name is not None and _OURS.fullmatch(name))])


def claim_plan(storage: Storage, plan: Plan) -> None:
    """Write the plan, or compare it with the one of an earlier start. Raises: InputError with what differs."""
    if not storage.create(PLAN, json.dumps(plan.described(), ensure_ascii=False).encode()):
        check_plan(storage, plan)


def check_plan(storage: Storage, plan: Plan) -> None:
    """Compare the plan with that of an earlier start, if there is one. Raises: InputError with what differs."""
    try:
        theirs: Any = parsed_json(storage.read(PLAN, most_bytes=JSON_BYTES))
    except AbsentError:
        return
    except (ValueError, LimitError):
        theirs = None
    if not isinstance(theirs, dict):
        raise InputError(f"cannot continue at `{storage.url}`: {PLAN} is damaged", hint="choose a new or empty --out")
    _refuse(storage, differences(plan.described(), theirs))


def finished_index(storage: Storage) -> PreparedIndex | None:
    """The index of the complete set that is there; None without one. Raises: InputError where it is another file."""
    try:
        return parsed(storage.read(INDEX, most_bytes=JSON_BYTES))
    except AbsentError:
        return None
    except (DamagedPackError, LimitError) as problem:
        raise InputError(
            f"cannot write the prepared set to `{storage.url}`: its {INDEX} is not that of a prepared set: {problem}",
            hint="choose a new or empty --out",
        ) from problem


def check_same(storage: Storage, index: PreparedIndex, plan: Plan) -> None:
    """Raises: InputError where the complete set there was prepared otherwise, or from something else."""
    made = Plan((), index.geometry, index.layout, index.source_sha256).described()
    theirs = made | {"Pillow": index.pillow, "parts": [part.name for part in index.parts]}
    different = differences(plan.described(), theirs)
    if not different:
        pairs = zip(plan.parts, index.parts, strict=True)
        different = [f"{ours.name}: not the same" for ours, part in pairs if ours.source_sha256() != part.source_sha256]
    _refuse(storage, different)


def shard_bytes(stats: Mapping[str, Stat], parts: Collection[int]) -> int:
    """Bytes of the shards of these parts that are there, left by a start that was ended; they are replaced."""
    matches = {name: SHARD.fullmatch(name) for name in stats}
    return sum(stats[name].size_bytes for name, match in matches.items() if match and int(match[1]) in parts)


def check_room(out: str, needs_bytes: int) -> None:
    """Raises: FullError where a directory has less room than needed."""
    if Location(out).is_bucket:
        return
    place = Path(out).absolute() / "x"
    existing = next((folder for folder in place.parents if folder.is_dir()), Path("/"))
    with suppress(OSError):
        system = os.statvfs(existing)
        if system.f_bavail * system.f_frsize < needs_bytes:
            raise FullError(
                f"cannot write the prepared set to `{out}`: there is too little room{room(place, needs_bytes)}",
                hint="choose another --out, or a smaller --pack-side",
            )


def _refuse(storage: Storage, different: list[str]) -> None:
    if different:
        raise InputError(
            f"cannot continue at `{storage.url}`: what is there was prepared otherwise, or from another data set{listing(different)}",
            hint="repeat the flags and data of that start, or choose a new or empty --out",
        )
