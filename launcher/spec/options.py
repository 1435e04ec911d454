"""Option groups of a job, each validated on its own; no Kubernetes types."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol

from cyclopts import Parameter

from launcher.spec.overlay import Overlay, literal_variables, read_overlay, texts_of
from launcher.spec.trust import as_given
from trainer.config import flag_of, parse_duration
from trainer.errors import InputError, on_one_line
from trainer.redaction import holds_known, holds_secret, is_distinctive, is_secret_name, without_login

Names = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
"""A flag that can be repeated."""

OWN_PREFIXES: Final = (
    *("training.kubeflow.org/", "trainer.kubeflow.org/", "jobset.sigs.k8s.io/", "batch.kubernetes.io/"),
    *("app.kubernetes.io/", "sidecar.istio.io/", "kueue.x-k8s.io/"),
)
"""Label prefixes that are reserved for the launcher, the controllers of jobs and Kueue."""

_DOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_OBJECT_NAME = re.compile(rf"(?=.{{1,253}}$){_DOMAIN}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_KEY = re.compile(rf"((?=[^/]{{1,253}}/){_DOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_OURS = re.compile(
    r"PET_|MASTER_|RANK$|WORLD_SIZE$|LOCAL_|TORCHELASTIC_|AWS_ENDPOINT_URL$|AWS_(DEFAULT_)?REGION$|TRAINER_(JOB|FAILURE_REPORT)$"
)
_URL = re.compile(r"https?://[^\s/@]+(:\d+)?/?", re.ASCII)
_FLAGS: Final = {
    **{name: f"--s3-{name}" for name in ("endpoint", "region", "secret")},
    "claim": "--data-pvc",
    "access": "--data-access",
    "train_flags": "the trainer's flags",
}
"""Flags whose names differ from their fields."""

_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True, kw_only=True)
class BucketOptions:
    """Server and credentials of buckets."""

    endpoint: Annotated[
        str | None, Parameter(name="--s3-endpoint", converter=as_given, n_tokens=1, accepts_keys=False)
    ] = None
    """URL of the S3 server; the default is AWS."""

    region: Annotated[str | None, Parameter(name="--s3-region")] = None
    """Region of the buckets."""

    secret: Annotated[str | None, Parameter(name="--s3-secret")] = None
    """Secret in the namespace with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; the default is the role of the service account."""

    def __post_init__(self) -> None:
        _check_secret_names({"--s3-secret": self.secret})
        if self.endpoint is not None and not _URL.fullmatch(self.endpoint):
            raise InputError(
                f"cannot use `{without_login(on_one_line(self.endpoint))}` as an endpoint: it must be `http(s)://HOST[:PORT]` (from `--s3-endpoint`)",
                hint="--s3-endpoint https://s3.example.org",
            )
        if self.region is not None and not re.fullmatch(r"[-a-z0-9]{1,63}", self.region):
            raise InputError(
                f"cannot use `{on_one_line(self.region)}` as a region: it must consist of a-z, 0-9 and `-` (from `--s3-region`)",
                hint="--s3-region us-east-1",
            )


@dataclass(frozen=True, kw_only=True)
class S3Options(BucketOptions):
    """Access of pods to buckets."""

    access: Annotated[Literal["mount", "api"], Parameter(name="--data-access")] = "mount"
    """`mount` the bucket read-only with a CSI driver, or download it through the S3 `api` into the cache of each node."""

    claim: Annotated[str | None, Parameter(name="--data-pvc")] = None
    """Existing PersistentVolumeClaim with the data set; no volume is created."""

    csi_driver: Annotated[Literal["s3.csi.aws.com", "s3.csi.scality.com"], Parameter(name="--csi-driver")] = (
        "s3.csi.aws.com"
    )
    """Mountpoint S3 driver of the cluster."""

    csi_secret: Annotated[str | None, Parameter(name="--csi-secret")] = None
    """Secret with `key_id` and `access_key` for the Scality driver; the default is that of `--s3-secret`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_object_names({"--data-pvc": self.claim})
        _check_secret_names({"--csi-secret": self.csi_secret})


@dataclass(frozen=True, kw_only=True)
class PodOptions:
    """Additional fields of a job's pods."""

    service_account: str | None = None
    """Service account of the pods."""

    image_pull_secret: Names = ()
    """Secret for the registry of the image; can be repeated."""

    env: Names = ()
    """NAME=VALUE, an environment variable of the container; can be repeated. Not for secrets."""

    env_from_secret: Names = ()
    """NAME=SECRET:KEY, a variable from a Secret, or SECRET for all its keys; can be repeated."""

    node_selector: Names = ()
    """KEY=VALUE, a label that nodes must have; can be repeated."""

    toleration: Names = ()
    """KEY[=VALUE][:EFFECT], a taint that the pods tolerate; can be repeated."""

    label: Names = ()
    """KEY=VALUE, a label of the job and its pods; can be repeated."""

    overlay: Annotated[Overlay | None, Parameter(converter=read_overlay, n_tokens=1, accepts_keys=False)] = None
    """Patch of the pod template for fields without a flag, merged last as by `kubectl patch`: a YAML file, or inline `{spec: …}`."""

    def __post_init__(self) -> None:
        check_object_names({"--service-account": self.service_account})
        given = {"--label": self.label, "--node-selector": self.node_selector, "--toleration": self.toleration}
        for flag, entries in given.items():
            check_texts(flag, entries)
        for secret in self.image_pull_secret:
            _check_secret_names({"--image-pull-secret": secret})
        for entry in self.env:
            _check_variable(entry)
        for entry in self.env_from_secret:
            _check_from_secret(entry)
        for entry in self.node_selector:
            _check_label(entry, "--node-selector", reserved=())
        for entry in self.label:
            _check_label(entry, "--label", reserved=OWN_PREFIXES)
        for name in literal_variables(self.overlay.patch) if self.overlay else ():
            _check_no_secret(name, "--overlay")
        check_texts("--overlay", texts_of(self.overlay.patch) if self.overlay else ())
        for entry in self.toleration:
            toleration_parts(entry)


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """Queues and time limits of a job."""

    queue: str | None = None
    """Kueue LocalQueue of the job."""

    queue_priority: str | None = None
    """WorkloadPriorityClass of Kueue: the job's place in its queue, and which jobs it may preempt. Needs `--queue`."""

    volcano_queue: str | None = None
    """Volcano queue of the job; the operator must run with `--gang-scheduler-name=volcano`."""

    priority_class: str | None = None
    """PriorityClass of the pods, for the scheduler; `--queue-priority` is that of the job in its queue."""

    ttl: str | None = None
    """Time after which a succeeded job is removed: `1h`, `2d`. The operator never removes a failed job."""

    backoff: Annotated[int, Parameter(show_default=True)] = 3
    """Number of restarts of crashed workers before the job fails."""

    deadline: str | None = None
    """Time limit of the run from its first start, including time between restarts: `90m`, `8h`. Checkpoints are kept."""

    def __post_init__(self) -> None:
        check_object_names({"--volcano-queue": self.volcano_queue})
        check_policy(self)
        if self.queue and self.volcano_queue:
            raise InputError(
                "cannot use both --queue and --volcano-queue: a job can be in one queue only", hint="omit one of them"
            )


class _Policy(Protocol):
    """Queue and limits of a job of any kind."""

    @property
    def queue(self) -> str | None: ...
    @property
    def queue_priority(self) -> str | None: ...
    @property
    def priority_class(self) -> str | None: ...
    @property
    def ttl(self) -> str | None: ...
    @property
    def backoff(self) -> int: ...
    @property
    def deadline(self) -> str | None: ...


def check_policy(policy: _Policy) -> None:
    """Reject values that no job can have. Raises: InputError."""
    labels = {"--queue": policy.queue, "--queue-priority": policy.queue_priority}
    check_object_names({**labels, "--priority-class": policy.priority_class})
    for flag, name in labels.items():
        if name and not _LABEL_VALUE.fullmatch(name):
            raise InputError(
                f"cannot use `{name}` as a name: it must be a label value of at most 63 characters (from `{flag}`)",
                hint=f"{flag} NAME",
            )
    if policy.queue_priority and not policy.queue:
        raise InputError(
            f"cannot use --queue-priority {policy.queue_priority} without --queue: it is the job's priority in a queue of Kueue",
            hint="--queue NAME; --priority-class NAME is the priority of the pods",
        )
    for flag, text in {"--ttl": policy.ttl, "--deadline": policy.deadline}.items():
        if text is not None:
            parse_duration(text, flag)
    if not 0 <= policy.backoff <= 100:
        raise InputError(f"cannot use --backoff {policy.backoff}: it must be 0 to 100", hint="--backoff 3")


def check_texts(flag: str, texts: Iterable[str]) -> None:
    """Reject texts with secrets, as manifests are widely readable. Raises: InputError that names only the flag."""
    if any(holds_secret(text) for text in texts):
        raise _unfit(flag)


def check_known(owner: object) -> None:
    """Reject options with known secrets of this process, such as a token from the environment. Raises: InputError, as above."""
    for field in dataclasses.fields(owner):  # type: ignore[arg-type]  # any group of options
        value = getattr(owner, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, Overlay):
            check_known(value)
        texts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(text, str) and holds_known(text) for text in texts):
            raise _unfit(_FLAGS.get(field.name, flag_of(field.name)))


def _unfit(flag: str) -> InputError:
    return InputError(
        f"cannot put the value into a manifest, which many users can read: it contains a login, a key or a token (from `{flag}`)",
        hint="use Secrets for credentials: --s3-secret NAME, --env-from-secret NAME=SECRET:KEY",
    )


def pair(entry: str) -> tuple[str, str]:
    """Split `KEY=VALUE`."""
    key, _, value = entry.partition("=")
    return key, value


def toleration_parts(entry: str) -> tuple[str, str | None, str | None]:
    """Key, value and effect of a toleration; None matches any. Raises: InputError."""
    rest, colon, effect = entry.partition(":")
    key, equals, value = rest.partition("=")
    if not _LABEL_KEY.fullmatch(key) or (colon and effect not in _EFFECTS) or not _LABEL_VALUE.fullmatch(value):
        raise InputError(
            f"cannot use `{on_one_line(entry)}` as a toleration: it must be KEY[=VALUE][:EFFECT], EFFECT one of "
            f"{', '.join(_EFFECTS)} (from `--toleration`)",
            hint="--toleration nvidia.com/gpu:NoSchedule",
        )
    return key, value if equals else None, effect or None


def check_object_name(flag: str, name: str) -> None:
    """Reject a text that is no name of a Kubernetes object. Raises: InputError."""
    if not _OBJECT_NAME.fullmatch(name):
        raise InputError(
            f"cannot use `{on_one_line(name)}` as a name: it must consist of a-z, 0-9, `-` and `.` (from `{flag}`)",
            hint=f"{flag} NAME",
        )


def check_object_names(given: dict[str, str | None]) -> None:
    """Reject texts that are no names of Kubernetes objects, by flag. Raises: InputError."""
    for flag, name in given.items():
        if name is not None:
            check_object_name(flag, name)


def _check_secret_names(given: dict[str, str | None]) -> None:
    for flag, name in given.items():
        if name is not None and not _OBJECT_NAME.fullmatch(name):
            raise InputError(  # without the value: it may be the secret itself
                f"cannot use the value as the name of a Secret: it must consist of a-z, 0-9, `-` and `.` (from `{flag}`)",
                hint=f"{flag} NAME; create it with `kubectl create secret generic NAME --from-literal=…`",
            )


def _check_variable(entry: str) -> None:
    name, equals, _ = entry.partition("=")
    if not equals or not _VARIABLE.fullmatch(name):
        raise InputError(
            f"cannot use {_shown(name)} as a variable: it must be NAME=VALUE (from `--env`)", hint="--env NAME=VALUE"
        )
    _check_no_secret(name, "--env")
    if holds_secret(entry):
        raise InputError(
            f"cannot put the value of `{name}` into a manifest, which many users can read: it contains a login, a key or a token (from `--env`)",
            hint=f"--env-from-secret {name}=SECRET:KEY",
        )
    _check_not_ours(name, "--env")


def _shown(name: str) -> str:
    """The invalid name for a message, unless it may be the secret itself, such as `API_KEY:…` or a bare value."""
    is_word = name.isascii() and name.isidentifier() and not re.search(r"\d", name)
    return f"`{on_one_line(name)}`" if is_word or not is_distinctive(name) else "the value"


def _check_no_secret(name: str, flag: str) -> None:
    if is_secret_name(name):
        raise InputError(
            f"cannot put `{on_one_line(name)}` into a manifest, which many users can read: by its name it is a secret (from `{flag}`)",
            hint=f"--env-from-secret {on_one_line(name)}=SECRET:KEY",
        )


def _check_from_secret(entry: str) -> None:
    name, equals, source = entry.partition("=")
    secret, colon, key = (source if equals else name).partition(":")
    good = _VARIABLE.fullmatch(name) and colon and key if equals else not colon
    if not good or not _OBJECT_NAME.fullmatch(secret) or not re.fullmatch(r"[-._A-Za-z0-9]*", key):
        raise InputError(
            # Without the text after the name: it may be the secret itself.
            f"cannot use the value for `{on_one_line(name)}`: it must be NAME=SECRET:KEY or SECRET (from `--env-from-secret`)",
            hint="--env-from-secret NAME=SECRET:KEY",
        )
    if equals:
        _check_not_ours(name, "--env-from-secret")


def _check_not_ours(name: str, flag: str) -> None:
    if _OURS.match(name):
        raise InputError(
            f"cannot set `{name}`: the launcher, the operator or torchrun sets it (from `{flag}`)",
            hint="for buckets, use --s3-endpoint and --s3-region",
        )


def _check_label(entry: str, flag: str, *, reserved: Sequence[str]) -> None:
    key, equals, value = entry.partition("=")
    if not equals or not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
        raise InputError(
            f"cannot use `{on_one_line(entry)}` as a label: it must be KEY=VALUE (from `{flag}`)",
            hint=f"{flag} team=radiology",
        )
    if key.startswith(tuple(reserved)):
        raise InputError(
            f"cannot set the label `{key}`: its prefix is reserved (from `{flag}`)", hint=f"{flag} team=radiology"
        )
