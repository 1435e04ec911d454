"""Overlay: a patch of the pod template for fields without a flag, merged like `kubectl patch` does."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cyclopts import Token

from launcher.cluster.resources import Object
from trainer import yaml_file
from trainer.errors import InputError, on_one_line
from trainer.limits import parsed_yaml
from trainer.location import expanded
from trainer.redaction import learn_document, learn_text

KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "env": "name",
    "ephemeralContainers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Lists that are merged by a key; other lists are replaced. Source: patchMergeKey in Kubernetes' core/v1 types."""

DIRECTIVE: Final = "$patch"

EXAMPLE: Final = "{spec: {containers: [{name: pytorch, resources: {limits: {memory: 64Gi}}}]}}"


INLINE: Final = "{"
"""Start of an inline patch, as opposed to the name of a file."""


@dataclass(frozen=True)
class Overlay:
    """A patch; overlays with equal patches are equal."""

    patch: Object


def as_text(patch: Object) -> str:
    """The patch as an inline text of `--overlay`."""
    return json.dumps(patch, default=str)  # a date without quotes is text, as kubectl reads it


def read_overlay(type_: object, tokens: Sequence[Token]) -> Overlay:  # noqa: ARG001 - cyclopts' signature
    """Read an inline overlay or the named file. Raises: InputError."""
    text, source = tokens[0].value, tokens[0].source
    if text.startswith(INLINE):
        return _checked(text, "the overlay", source if source not in {"", "cli"} else "--overlay")
    path = Path(expanded(text)).absolute()
    try:
        patch = yaml_file.read(path)
    except (OSError, ValueError) as problem:
        reason = yaml_file.why_unread(problem)
        raise InputError(f"cannot read the overlay `{path}`: {reason} (from `--overlay`)", hint=EXAMPLE) from problem
    return _checked(patch, f"the overlay `{path}`", "--overlay")


def _checked(text: str, what: str, origin: str) -> Overlay:
    import yaml  # noqa: PLC0415 - a tenth of the time of `render`

    try:
        patch = parsed_yaml(text, yaml.SafeLoader)
    except ValueError as problem:
        raise InputError(f"cannot read {what}: {problem} (from `{origin}`)", hint=EXAMPLE) from None
    except yaml.YAMLError as problem:
        learn_text(text)
        reason = yaml_file.why_invalid(problem)
        raise InputError(f"cannot read {what}: {reason} (from `{origin}`)", hint=EXAMPLE) from None
    learn_document(patch)
    if not isinstance(patch, dict) or not patch or not set(patch) <= {"metadata", "spec"}:
        raise InputError(
            f"cannot use {what}: it must have `metadata` or `spec` of a pod template only (from `{origin}`)",
            hint=EXAMPLE,
        )
    problem_found = next(_problems(patch), None)
    if problem_found:
        raise InputError(f"cannot use {what}: {problem_found} (from `{origin}`)", hint=EXAMPLE)
    return Overlay(patch)


def literal_variables(patch: Object) -> Iterator[str]:
    """Names of variables with literal values in the patch."""
    for key, value in patch.items():
        if key == "env" and isinstance(value, list):
            yield from (str(entry["name"]) for entry in value if "value" in entry and "name" in entry)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from literal_variables(each)


def texts_of(value: object) -> Iterator[str]:
    """All texts in a patch, including keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from texts_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_of(each)


def merged(base: Object, patch: Object) -> Object:
    """A copy of `base` with the patch applied; null removes a field."""
    result = deepcopy(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(_same_kind(result.get(key), {}), value)
        elif isinstance(value, list) and key in KEYS:
            result[key] = _merged_list(_same_kind(result.get(key), []), value, KEYS[key])
        else:
            result[key] = deepcopy(value)
    return result


def _merged_list(base: list[Any], patch: list[Any], key: str) -> list[Any]:
    """Elements of both lists, merged by key; those with `$patch: delete` are removed."""
    result = {element.get(key): deepcopy(element) for element in base}
    for element in patch:
        if element.get(DIRECTIVE) == "delete":
            result.pop(element[key], None)
        else:
            result[element[key]] = merged(result.get(element[key], {}), element)
    return list(result.values())


def _same_kind(value: object, empty: Any) -> Any:  # noqa: ANN401 - whatever `empty` is
    """The value, or `empty` if the patch changes its type."""
    return value if isinstance(value, type(empty)) else empty


def _problems(value: object, key: str = "") -> Iterator[str]:
    """Values that are invalid in a Kubernetes manifest, and directives that the merge does not support."""
    if isinstance(value, dict):
        for name, each in value.items():
            if not isinstance(name, str) or name.startswith("$"):
                yield f"the key `{on_one_line(str(name))}` is not supported; the only directive is `{DIRECTIVE}: delete`, in lists such as containers"
            else:
                yield from _problems(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _element_problems(each, KEYS.get(key))
    elif not isinstance(value, str | int | bool | None) and not (isinstance(value, float) and math.isfinite(value)):
        yield f"`{key}` must be a text or a number, got `{on_one_line(str(value))}`"


def _element_problems(element: object, key: str | None) -> Iterator[str]:
    if key is None:
        yield from _problems(element)
    elif not isinstance(element, dict) or not isinstance(element.get(key), str | int):
        yield f"an element of a list has no `{key}`, which is its merge key"
    elif element.get(DIRECTIVE) == "delete":
        yield from _problems({name: each for name, each in element.items() if name != DIRECTIVE})
    else:
        yield from _problems(element)
