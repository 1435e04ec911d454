"""Sources of settings by precedence: flag, `--set`, `-f`, `LAUNCHER_*`, the project's file, the user's file, the namespace of
the kubeconfig's context, the generated name, the image of `--local`, default.

Keys are the flags' names in snake_case. The parser calls `apply_settings` between reading flags and converting them, so that values
from files are converted and validated like flags.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, cast, get_args

from cyclopts import App, Argument, ArgumentCollection, Parameter

from launcher.cluster.kubeconfig import namespace_of
from launcher.spec.accelerators import AcceleratorName, Generation, hardware
from launcher.spec.fields import DEFAULTS, IS_LIST
from launcher.spec.job import PLACES, JobSpec, fill_argument, key_of
from launcher.spec.overlay import as_text
from launcher.spec.trust import FolderOrigin, check_code
from trainer import yaml_file
from trainer.config import flag_of
from trainer.errors import InputError, on_one_line
from trainer.limits import parsed_yaml
from trainer.location import expanded
from trainer.redaction import learn_document, learn_text

LOCAL_IMAGE: Final = "local"
"""Placeholder for the image if no container is started."""

NAME_BYTES: Final = 4
"""Random bytes of a generated name: with fewer, two runs might get the same name, and the second would resume the first."""

EXAMPLES: Final = {
    "accelerator": "gaudi|cuda|cpu",
    "image": "REGISTRY/NAME:TAG",
    "data": "s3://BUCKET/PREFIX",
    "output": "s3://BUCKET/PREFIX",
    "out": "s3://BUCKET/PREFIX",
}
"""Examples of the required settings."""

OF_A_JOB: Final = ("accelerator", "image", "data", "output")
"""Required settings of a training job."""

_OF_TRAINING: Final = ("data", "data_pvc")
"""Stored settings that `launcher prepare` does not take: the data set of a training is usually one that is prepared already."""

PROJECT_FILE: Final = "launcher.yaml"
"""Project's settings file, in the current directory."""

USER_FILE: Final = "chexnet-launcher/settings.yaml"
"""User's settings file, below XDG_CONFIG_HOME or ~/.config."""

VARIABLE_PREFIX: Final = "LAUNCHER_"

CONTEXT: Final = "the kubeconfig's context"

GENERATED: Final = "a generated name"

OVERLAY: Final = "overlay"
"""The only setting that may be a mapping."""

_KEYS: Final = tuple(IS_LIST)
_LISTS: Final = frozenset(key for key, is_list in IS_LIST.items() if is_list)
_FORMAT_HINT: Final = "settings are YAML, such as `workers: 8` or `train_flags: [--epochs, 3]`"

_CONTEXT_FLAGS: Final = ("context", "kubeconfig", "local")

_OF_A_SERVICE: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_\d|$)")
"""Variables that Kubernetes injects into pods for a Service named `launcher`."""

_ABSENT: Final = frozenset({None, "", "~", "null"})


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Settings from a file or assignments."""

    file: Annotated[Path | None, Parameter(name=("--file", "-f"))] = None
    """YAML file with settings: flag names in snake_case, and the trainer's flags as a list `train_flags`."""

    assignments: Annotated[tuple[str, ...], Parameter(name="--set", negative=(), show_default=False)] = ()
    """KEY=YAML, a setting that overrides the file; can be repeated."""


@dataclass(frozen=True)
class Settings:
    """Settings of one source: the texts of each key, several only for a list."""

    origin: str
    values: Mapping[str, tuple[str, ...]]

    def origin_of(self, key: str) -> str:
        """Origin of the value of one key."""
        return _origin_of(self.origin, key)


def _origin_of(source: str, key: str) -> str:
    return f"{VARIABLE_PREFIX}{key.upper()}" if source == f"{VARIABLE_PREFIX}*" else source


def apply_settings(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:  # noqa: ARG001 - cyclopts' signature
    """Fill the flags that were not given; cyclopts calls this for each command.

    Raises: InputError for settings that can't be read, unknown keys and missing required flags.
    """
    flags = {key_of(argument): argument for argument in arguments}
    if not flags.keys() & {"accelerator", "namespace"}:
        return
    is_local = "local" in flags and bool(flags["local"].tokens)
    stored = {key: argument for key, argument in flags.items() if "out" not in flags or key not in _OF_TRAINING}
    for settings in _set_and_file_settings(flags):
        _fill(flags, settings)
    for settings in stored_settings():
        for key in _fill(stored, settings):
            if is_local:
                check_code(key, settings.values[key][0], settings.origin_of(key))
    if not flags.keys() & {"accelerator", "out"}:
        return
    _fill(flags, _context(flags))
    _fill(flags, generated_name())
    if is_local:
        _fill(flags, Settings("--local", {"image": (LOCAL_IMAGE,)}))
    for field in flags.keys() & set(PLACES):
        flags[field].tokens[:] = [token.evolve(value=absolute(token.value)) for token in flags[field].tokens]
    required = [key for key in EXAMPLES if key in flags]
    _check_given({key for key, argument in flags.items() if argument.tokens}, required, _image_hint(flags))


def generated_name() -> Settings:
    """A new, random name."""
    return Settings(GENERATED, {"name": (f"chexnet-{os.urandom(NAME_BYTES).hex()}",)})


def job_of(*layers: Settings) -> JobSpec:
    """Create a job from these sources only, given by precedence.

    Raises: InputError for missing required settings, and as `JobSpec.from_settings`.
    """
    values: dict[str, tuple[str, ...]] = {}
    origins: dict[str, str] = {}
    for settings in reversed([*layers, generated_name()]):
        values |= {key: texts for key, texts in settings.values.items() if texts}
        origins |= {key: settings.origin_of(key) for key, texts in settings.values.items() if texts}
    for key in set(PLACES) & values.keys():
        values[key] = tuple(absolute(text) for text in values[key])
    _check_given({key for key, texts in values.items() if texts}, OF_A_JOB, "")
    return JobSpec.from_settings(values, origins.__getitem__)


def _context(flags: Mapping[str, Argument]) -> Settings:
    """The namespace of the context, also for `render`, which prints what `submit` would send; not for `--local`."""
    chosen = {
        key: flags[key].tokens[-1].value if key in flags and flags[key].tokens else None for key in _CONTEXT_FLAGS
    }
    if chosen["local"] or flags["namespace"].tokens:
        return Settings(CONTEXT, {})
    return context_namespace(chosen["kubeconfig"], chosen["context"])


def context_namespace(kubeconfig: str | None = None, context: str | None = None) -> Settings:
    """The namespace of the kubeconfig's context, if it has one."""
    namespace = namespace_of(kubeconfig, context)
    return Settings(CONTEXT, {"namespace": (namespace,)} if namespace else {})


def stored_settings() -> list[Settings]:
    """Settings from environment and files by precedence: environment, project's file, user's file.

    Raises: InputError.
    """
    files = {Path(PROJECT_FILE): FolderOrigin(PROJECT_FILE), user_file(): str(user_file())}
    existing = [replace(read_file(path), origin=origin) for path, origin in files.items() if path.is_file()]
    return [read_environment(os.environ), *existing]


def user_file() -> Path:
    """Path of the user's settings file."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / USER_FILE


def effective() -> list[tuple[str, tuple[str, ...], str]]:
    """Each setting that has a value without flags: key, texts and origin.

    Raises: InputError.
    """
    rows: dict[str, tuple[str, tuple[str, ...], str]] = {
        key: (key, (text,), "default") for key, text in DEFAULTS.items()
    }
    for settings in reversed([*stored_settings(), context_namespace()]):
        rows |= {key: (key, texts, settings.origin_of(key)) for key, texts in settings.values.items()}
    return [rows[key] for key in _KEYS if key in rows]


def read_environment(environment: Mapping[str, str]) -> Settings:
    """The settings in `LAUNCHER_*` variables; values are YAML as in `--set`.

    Raises: InputError.
    """
    texts = {
        name: text
        for name, text in environment.items()
        if name.startswith(VARIABLE_PREFIX) and not _OF_A_SERVICE.search(name)
    }
    keys = {name: name.removeprefix(VARIABLE_PREFIX).lower() for name in texts}
    values = {
        keys[name]: _parse(text, f"`{name}`", keep_yaml_types=keys[name] == OVERLAY) for name, text in texts.items()
    }
    return settings_from(f"{VARIABLE_PREFIX}*", values)


def read_file(path: Path) -> Settings:
    """The settings of a YAML file.

    Raises: InputError.
    """
    try:
        text = yaml_file.read(path)
    except (OSError, ValueError) as problem:
        reason = yaml_file.why_unread(problem)
        raise InputError(f"cannot read settings from `{path}`: {reason}", hint=_FORMAT_HINT) from problem
    values = _parse(text, f"`{path}`")
    if isinstance(values, dict) and isinstance(values.get(OVERLAY), dict):
        values |= {OVERLAY: _parse(text, f"`{path}`", keep_yaml_types=True)[OVERLAY]}
    if values is None:  # comments only
        return Settings(str(path), {})
    if not isinstance(values, dict):
        raise InputError(f"cannot read settings from `{path}`: it is not a mapping", hint=_FORMAT_HINT)
    return settings_from(str(path), values)


def read_assignments(assignments: Iterable[str]) -> Settings:
    """The settings of `--set KEY=YAML`; a later one overrides an earlier one.

    Raises: InputError.
    """
    values = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"cannot use --set {on_one_line(assignment)}: it has no `=`", hint="--set workers=8")
        values[key] = _parse(text, f"`--set {on_one_line(key)}=…`", keep_yaml_types=key == OVERLAY)
    return settings_from("--set", values)


def without_unset(settings: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """The settings of an existing job without those that `--set` assigns `null` or an empty list.

    A job that becomes a PyTorchJob loses its runtime. Raises: InputError.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, _, text = assignment.partition("=")
        values[key] = _parse(text, f"`--set {on_one_line(key)}=…`")
    unset = {key for key, value in values.items() if value == [] or (isinstance(value, str) and value in _ABSENT)}
    if values.get("api") == "pytorchjob":
        unset.add("runtime")
    return {key: value for key, value in settings.items() if key not in unset}


def with_api(assignments: tuple[str, ...], api: str, source: str | None) -> tuple[str, ...]:
    """The assignments with the kind that `--api` gives to a new job, unless it selects the job that this is made from.

    `source` is the kind of that job, None if it was deleted. Raises: InputError when `--set` gives another kind.
    """
    if api in {"auto", source}:
        return assignments
    [given] = read_assignments(assignments).values.get("api", (api,))
    if given != api:
        raise InputError(
            f"cannot make a job with --api {api} and --set api={on_one_line(given)}: no job of the kind `{api}` has the name, so that both "
            "give the kind of the new job (from `--api`)",
            hint="omit one of them",
        )
    return (*assignments, f"api={api}")


def check_changes(assignments: Iterable[str], kept: Mapping[str, str]) -> None:
    """Reject `--set` for settings that a command keeps; `kept` gives the reason for each key.

    Raises: InputError.
    """
    for key in kept.keys() & read_assignments(assignments).values.keys():
        raise InputError(f"cannot change `{key}`: {kept[key]} (from `--set`)", hint=f"omit --set {key}")


def _set_and_file_settings(flags: Mapping[str, Argument]) -> list[Settings]:
    """Settings of `--set` and `-f` by precedence."""
    given = []
    if "file" in flags:
        given.append(read_assignments(token.value for token in flags["set"].tokens))
        given += [read_file(Path(expanded(token.value))) for token in flags["file"].tokens]
    return given


def _parse(text: str, origin: str, *, keep_yaml_types: bool = False) -> Any:  # noqa: ANN401 - any YAML
    """Parse YAML to texts, lists and mappings; with `keep_yaml_types`, also to numbers, booleans and dates."""
    import yaml  # noqa: PLC0415 - a tenth of the time of `render`

    try:
        # BaseLoader keeps scalars as text: otherwise `elastic: 1:4` would be a base 60 number, and `1.10` would become 1.1.
        return parsed_yaml(text, yaml.SafeLoader if keep_yaml_types else yaml.BaseLoader)
    except (yaml.YAMLError, ValueError) as problem:
        learn_text(text)
        reason = yaml_file.why_invalid(problem)
        raise InputError(f"cannot read settings from {origin}: {reason}", hint=_FORMAT_HINT) from None


def settings_from(origin: str, values: Mapping[str, object]) -> Settings:
    """Settings of a mapping, such as from a YAML file or `launcher.spec.fields.settings_of`. Raises: InputError."""
    learn_document(values)
    unknown = [key for key in values if key not in _KEYS]
    if unknown:
        import difflib  # noqa: PLC0415 - only errors need it

        near = [match for key in unknown for match in difflib.get_close_matches(str(key), _KEYS, n=1)]
        raise InputError(
            f"cannot use {', '.join(f'`{key}`' for key in unknown)}: no such setting (from `{origin}`)",
            hint=f"did you mean {', '.join(near)}?" if near else f"settings are {', '.join(_KEYS)}",
        )
    given = {key: value for key, value in values.items() if not isinstance(value, str | None) or value not in _ABSENT}
    return Settings(origin, {key: _texts(key, value, _origin_of(origin, key)) for key, value in given.items()})


def _texts(key: str, value: object, origin: str) -> tuple[str, ...]:
    if key == OVERLAY and isinstance(value, dict):
        return (as_text(value),)
    items = value if isinstance(value, list) else [value]
    if isinstance(value, list) != (key in _LISTS) or not all(isinstance(item, str) for item in items):
        wanted = "a list of texts" if key in _LISTS else "one text or number"
        raise InputError(f"cannot use `{key}`: it must be {wanted} (from `{origin}`)", hint=_FORMAT_HINT)
    return tuple(items)


def _fill(flags: Mapping[str, Argument], settings: Settings) -> list[str]:
    """Fill unset flags; returns the keys that were filled."""
    filled = [key for key, texts in settings.values.items() if texts and key in flags and not flags[key].tokens]
    for key in filled:
        fill_argument(flags[key], settings.values[key], settings.origin_of(key))
    return filled


def absolute(place: str) -> str:
    """The location independent of the current directory; an empty one is unchanged, and refused by `JobSpec`."""
    return place if not place or "://" in place else str(Path(expanded(place)).resolve())


def _check_given(given: Collection[str], required: Collection[str], image_hint: str) -> None:
    """Raises: InputError that names all required settings that are missing."""
    instead = {"data": "data_pvc"}
    missing = [key for key in required if key not in given and instead.get(key) not in given]
    if missing:
        only_flags = "out" in required and set(missing) <= set(_OF_TRAINING)
        stored = "" if only_flags else f", or lines `key: value` in {PROJECT_FILE} (`launcher init` writes it)"
        raise InputError(
            f"cannot create a job: {', '.join(f'`{flag_of(key)}`' for key in missing)} not given",
            hint=f"{' '.join(f'{flag_of(key)} {EXAMPLES[key]}' for key in missing)}{stored}{image_hint if 'image' in missing else ''}",
        )


def _image_hint(flags: Mapping[str, Argument]) -> str:
    """How to get an image for the accelerator, if it is known."""
    keys = [key for key in ("accelerator", "gaudi_generation") if key in flags and flags[key].tokens]
    chosen = {key: flags[key].tokens[-1].value for key in keys}
    name, generation = chosen.get("accelerator"), chosen.get("gaudi_generation", "2")
    if name not in get_args(AcceleratorName) or generation not in get_args(Generation):
        return ""
    row = hardware(cast("AcceleratorName", name), cast("Generation", generation))
    return f"; for an image {row.image}"
