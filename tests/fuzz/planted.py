"""Readers with the faults that the fuzzer looks for: what it does not find in them it would not find anywhere."""

import os
import time
from typing import Final

from targets import Bench, FaultError, Kind, check_said, is_accepted

from trainer.errors import InputError


def _raises(_: Bench, __: object) -> bool:
    return bool({}["no such key"])


def _refuses(_: Bench, __: object) -> bool:
    def read() -> None:
        raise InputError("cannot read it")

    return is_accepted(read)


def _advises(_: Bench, __: object) -> bool:
    def read() -> None:
        raise InputError("cannot read it: `weights_only=False` will likely succeed")

    return is_accepted(read)


def _hangs(_: Bench, __: object) -> bool:
    time.sleep(60)
    return True


def _works(_: Bench, __: object) -> bool:
    while True:
        pass


def _grows(_: Bench, __: object) -> bool:
    return bool(bytearray(os.urandom(1)) * (1200 << 20))


def _grows_without_end(_: Bench, __: object) -> bool:
    return bool(bytearray(1 << 40))


def _ends(_: Bench, __: object) -> bool:
    os._exit(9)


def _prints(_: Bench, __: object) -> bool:
    check_said("class \x1b[2J")
    return True


def _changes(_: Bench, __: object) -> bool:
    raise FaultError("other pixels")


KINDS: Final = {
    name: Kind(reader)
    for name, reader in {
        "raises": _raises,
        "refuses": _refuses,
        "advises": _advises,
        "hangs": _hangs,
        "works": _works,
        "grows": _grows,
        "grows_without_end": _grows_without_end,
        "ends": _ends,
        "prints": _prints,
        "changes": _changes,
        "accepts": lambda *_: True,
    }.items()
}
