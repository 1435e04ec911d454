"""Settings of a job by key, the flag's name in snake_case: list them, and read them from a job specification."""

import dataclasses
from collections.abc import Iterator
from typing import Final, get_type_hints

from cyclopts import Parameter

from launcher.cluster.resources import Object
from launcher.spec.job import JobSpec
from launcher.spec.overlay import Overlay
from trainer.config import flag_of

Value = str | list[str] | Object
"""Value of a setting; an overlay is a mapping, even if it was read from a file."""


def _group(field: "dataclasses.Field[object]") -> type | None:
    factory: object = field.default_factory
    return factory if isinstance(factory, type) else None


def _fields(owner: type) -> Iterator[tuple[str, "dataclasses.Field[object]", tuple[str, ...]]]:
    """Each key of `owner`, its field, and the path of option groups to it."""
    hints = get_type_hints(owner, include_extras=True)
    for field in dataclasses.fields(owner):
        parameter = next(
            (each for each in getattr(hints[field.name], "__metadata__", ()) if isinstance(each, Parameter)), None
        )
        group = _group(field)
        if group:
            yield from ((key, leaf, (field.name, *path)) for key, leaf, path in _fields(group))
        else:
            name = next(iter(parameter.name), "") if parameter and parameter.name else flag_of(field.name)
            yield name.removeprefix("--").replace("-", "_"), field, ()


_FIELDS: Final = tuple(_fields(JobSpec))

IS_LIST: Final = {key: field.default == () for key, field, _ in _FIELDS}
"""All settings, and whether each is a list."""

DEFAULTS: Final = {
    key: str(field.default) for key, field, _ in _FIELDS if field.default not in {None, (), "", dataclasses.MISSING}
}
"""Default values of the settings that have one."""


_OF_THE_OBJECT: Final = ("api", "pytorchjob")
"""Left out: a job's object tells its kind, and earlier versions do not know the setting."""


def settings_of(spec: JobSpec) -> dict[str, Value]:
    """The settings that recreate this job on any machine, without name and namespace; they contain no secrets."""
    settings: dict[str, Value] = {}
    for key, field, path in _FIELDS:
        owner: object = spec
        for group in path:
            owner = getattr(owner, group)
        value = spec.carried_train_flags if key == "train_flags" else getattr(owner, field.name)
        if key not in {"name", "namespace"} and value != field.default and (key, value) != _OF_THE_OBJECT:
            settings[key] = _plain(value)
    return settings


def _plain(value: object) -> Value:
    if isinstance(value, Overlay):
        return value.patch
    return list(value) if isinstance(value, tuple) else str(value)
