"""What a job is: the user's flags, complete and checked; no Kubernetes types."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Final

from cyclopts import App, Argument, ArgumentCollection, CycloptsError, Parameter, Token

from launcher.spec.accelerators import Accelerator, AcceleratorName, Efa, Generation, hardware
from launcher.spec.options import PodOptions, PolicyOptions, S3Options, check_known, check_texts
from trainer.config import TrainConfig, flag_of, parse_flags, usage_problem
from trainer.errors import InputError, on_one_line
from trainer.layout import check_name
from trainer.location import Location
from trainer.redaction import without_login

DATA_MOUNT: Final = "/data"
OUTPUT_MOUNT: Final = "/output"
CACHE_MOUNT: Final = "/cache"

LABELS: Final = {"app.kubernetes.io/name": "chexnet", "app.kubernetes.io/managed-by": "chexnet-launcher"}
"""On every object that the launcher makes."""

OWNED_FLAGS: Final = frozenset(
    flag_of(field) for field in ("data", "output", "name", "device", "cache_dir", "deadline")
)
"""Trainer flags that the launcher sets itself."""

USUAL_NODE: Final = 8
"""Most accelerators of a usual node."""

MAX_WORKERS: Final = 4096
"""More are a typing error: 512 usual nodes."""

MAX_SERVICE_NAME: Final = 63
"""Characters of a Service's name; the operator makes one for each pod, named like it."""

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_S3 = re.compile(r"s3://([a-z0-9][-.a-z0-9]*)(?:/(\S*))?")
_IMAGE = re.compile(r"[!-?A-~]+(@sha256:[0-9a-f]{64})?", re.ASCII)
_ELASTIC = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One job, complete and checked.

    Raises: InputError, on construction, for what no cluster could run.
    """

    accelerator: AcceleratorName
    """What to train on."""

    gaudi_generation: Generation = "2"
    """Generation of Gaudi: 1 is DL1."""

    workers: int = 1
    """Training processes, each with one accelerator."""

    workers_per_node: int | None = None
    """Workers in one pod; the largest divisor of WORKERS up to 8 unless given. Gaudi takes 1, 2, 4 or 8."""

    elastic: str | None = None
    """MIN:MAX nodes: go on with fewer, down to MIN. MAX is what WORKERS make. Needs `--global-batch-size` after `--`."""

    efa: int | None = None
    """Elastic Fabric Adapters of each node, for several nodes with Gaudi 1 (DL1) or NVIDIA (p4, p5)."""

    image: str
    """Container image with the trainer; there is no default."""

    data: Annotated[str, Parameter(required=False)] = ""
    """Data set: `s3://BUCKET/PREFIX`, or a directory that every node has. Not needed with `--data-pvc`."""

    output: str
    """Where runs are kept: `s3://BUCKET/PREFIX`, or a directory that every node has."""

    name: Annotated[str, Parameter(required=False)]
    """Name of job and run: a-z, 0-9 and `-`, at most 53 characters; made up unless given."""

    namespace: Annotated[str, Parameter(name=("--namespace", "-n"))] = "default"
    """Namespace of the job."""

    s3: Annotated[S3Options, Parameter(name="*", group="Buckets")] = field(default_factory=S3Options)
    pod: Annotated[PodOptions, Parameter(name="*", group="Pods")] = field(default_factory=PodOptions)
    policy: Annotated[PolicyOptions, Parameter(name="*", group="Queues and limits")] = field(
        default_factory=PolicyOptions
    )

    train_flags: Annotated[tuple[str, ...], Parameter(negative=(), show=False)] = ()
    """Flags of `python -m trainer train`; on the command line what follows `--`."""

    @classmethod
    def from_settings(
        cls, settings: Mapping[str, Sequence[str]], origin_of: Callable[[str], str] = lambda _: "settings"
    ) -> "JobSpec":
        """The job of these settings: for each key its texts, of which there are several in a list only.

        `origin_of` names the source of a key's value in errors.

        Raises: InputError for values that don't convert, and as the constructor.
        """

        def fill(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:  # noqa: ARG001 - cyclopts' signature
            flags = {key_of(argument): argument for argument in arguments}
            for key, texts in settings.items():
                fill_argument(flags[key], texts, origin_of(key))

        parser = App(config=[fill], help_flags=(), version_flags=())
        parser.default(_same)
        try:
            _, bound, _ = parser.parse_args([], exit_on_error=False, print_error=False)
        except CycloptsError as problem:
            raise InputError(usage_problem(problem), hint="correct the setting") from problem
        job: JobSpec = bound.arguments["job"]
        return job

    def __post_init__(self) -> None:
        check_known(self)
        check_name(self.name)
        self._check_words()
        self._check_places()
        check_texts("--image", [self.image])
        check_texts("the trainer's flags", self.train_flags)
        self._check_workers()
        self._check_efa()
        self._check_pod_names()
        self._check_flags()
        self._check_batch()

    @property
    def hardware(self) -> Accelerator:
        """The accelerator's row in the table."""
        return hardware(self.accelerator, self.gaudi_generation)

    @property
    def adapters(self) -> Efa | None:
        """What its Elastic Fabric Adapters need, None without them."""
        return self.hardware.efa if self.efa else None

    @property
    def data_at(self) -> Location:
        """The data set; an empty one stands on a claim."""
        return Location(self.data)

    @property
    def output_at(self) -> Location:
        """Where runs are kept."""
        return Location(self.output)

    @property
    def mounts_bucket(self) -> bool:
        """Whether the job gets a volume of its own on the data set's bucket."""
        return self.data_at.is_bucket and self.s3.claim is None and self.s3.access == "mount"

    @property
    def reads_bucket(self) -> bool:
        """Whether the trainer itself downloads the data set."""
        return self.data_at.is_bucket and self.s3.claim is None and self.s3.access == "api"

    @property
    def per_node(self) -> int:
        """Workers in one pod."""
        return self.workers_per_node or max(_divisors(self.workers, self._node_sizes()))

    @property
    def nodes(self) -> int:
        """Pods; the most of them where the job is elastic."""
        return self.workers // self.per_node

    @property
    def fewest_nodes(self) -> int:
        """Pods with which the job still trains."""
        return int(self.elastic.split(":")[0]) if self.elastic else self.nodes

    @property
    def run(self) -> str:
        """Where this run's files go."""
        return f"{self.output.rstrip('/')}/{self.name}"

    @cached_property
    def train(self) -> TrainConfig:
        """The configuration of each worker, with the paths that its container sees; parsed once, on construction."""
        return self.parse_train_flags()[0]

    def parse_train_flags(self) -> tuple[TrainConfig, frozenset[str]]:
        """The configuration of each worker, and the fields of it that the user's flags set.

        Raises: InputError for flags that the trainer does not take.
        """
        owned = {
            "data": self.data if self.reads_bucket else DATA_MOUNT,
            "output": self.output if self.output_at.is_bucket else OUTPUT_MOUNT,
            "name": self.name,
            "device": self.hardware.device,
            "cache_dir": CACHE_MOUNT,
            "deadline": self.policy.deadline,
        }
        given = (f"{flag_of(field)}={value}" for field, value in owned.items() if value is not None)
        config, fields = parse_flags([*given, *self.train_flags])
        return config, fields - owned.keys()

    def _node_sizes(self) -> Sequence[int]:
        return self.hardware.node_sizes or range(1, USUAL_NODE + 1)

    def _check_words(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise InputError(
                f"cannot use `{on_one_line(self.namespace)}` as a namespace: it holds at most 63 of a-z, 0-9 and `-` (from `--namespace`)",
                hint="--namespace default",
            )
        if not _IMAGE.fullmatch(self.image):
            shown = "that" if "@" in self.image else f"`{on_one_line(self.image)}`"
            raise InputError(
                f"cannot use {shown} as an image: it must be ASCII without spaces, and without a login (from `--image`)",
                hint="--image REGISTRY/NAME:TAG, or …@sha256:DIGEST; --image-pull-secret NAME for the registry's login",
            )

    def _check_places(self) -> None:
        if self.data or self.s3.claim is None:
            _check_place("data", self.data)
        _check_place("output", self.output)
        if self.s3.claim is not None and self.s3.access == "api":
            raise InputError(
                "cannot take data from two places: got --data-pvc and --data-access api", hint="leave one of them out"
            )
        if self.s3.access == "api" and not self.data_at.is_bucket:
            raise InputError(
                f"cannot download `{self.data}`: it is in no bucket (`--data-access api`)",
                hint="--data s3://BUCKET/PREFIX",
            )

    def _check_efa(self) -> None:
        if self.efa is None:
            return
        if self.hardware.efa is None or self.nodes == 1:
            reason = "the job has one node" if self.hardware.efa else f"{self.accelerator} does not use them"
            raise InputError(
                f"cannot use --efa {self.efa}: {reason}",
                hint="leave --efa out; it is for several nodes with Gaudi 1 (--gaudi-generation 1) or NVIDIA",
            )
        if not 1 <= self.efa <= self.hardware.efa.most:
            raise InputError(
                f"cannot use --efa {self.efa}: it must be 1 to {self.hardware.efa.most}",
                hint=f"--efa {self.hardware.efa.most}",
            )

    def _check_workers(self) -> None:
        if not 1 <= self.workers <= MAX_WORKERS:
            raise InputError(
                f"cannot use --workers {self.workers}: it must be 1 to {MAX_WORKERS}",
                hint=f"--workers {min(max(self.workers, 1), MAX_WORKERS)}",
            )
        given = self.workers_per_node
        if given is None:
            return
        sizes = self.hardware.node_sizes or range(1, MAX_WORKERS + 1)
        hint = f"--workers-per-node {max(_divisors(self.workers, [size for size in sizes if size <= max(given, 1)]))}"
        if given not in sizes:
            allowed = ", ".join(map(str, sizes)) if self.hardware.node_sizes else f"1 to {MAX_WORKERS}"
            raise InputError(
                f"cannot use --workers-per-node {given} on {self.accelerator}: it must be {allowed}", hint=hint
            )
        if self.workers % given:
            raise InputError(
                f"cannot share {_workers(self.workers)} (`--workers`) among nodes of {given} (`--workers-per-node`) evenly",
                hint=hint,
            )

    def _check_pod_names(self) -> None:
        last = f"{self.name}-worker-{self.nodes - 1}"
        if len(last) > MAX_SERVICE_NAME:
            raise InputError(
                f"cannot use `{self.name}` as a name: its last pod would be `{last}`, {len(last)} characters of at most "
                f"{MAX_SERVICE_NAME}",
                hint=f"--name {self.name[: len(self.name) + MAX_SERVICE_NAME - len(last)].rstrip('-')}",
            )

    def _check_flags(self) -> None:
        given = [flag.partition("=")[0].replace("_", "-") for flag in self.train_flags]
        owned = [flag for flag in dict.fromkeys(given) if flag in OWNED_FLAGS]
        if owned:
            raise InputError(
                f"cannot take {', '.join(f'`{flag}`' for flag in owned)} after `--`: "
                f"the launcher sets {'this' if len(owned) == 1 else 'these'} for the container",
                hint="--accelerator, --data, --output, --name and --deadline before `--` decide these",
            )

    def _check_batch(self) -> None:
        if self.elastic is None:
            self.train.batch_per_worker(self.workers)
            return
        self._check_elastic(self.elastic)
        if self.train.global_batch_size is None:
            raise InputError(
                f"cannot use --elastic {self.elastic} without a global batch: with fewer nodes each worker takes more of it",
                hint="-- --global-batch-size N",
            )
        worlds = [nodes * self.per_node for nodes in range(self.fewest_nodes, self.nodes + 1)]
        if any(self.train.global_batch_size % world for world in worlds):
            common = math.lcm(*worlds)
            raise InputError(
                f"cannot share a global batch of {self.train.global_batch_size} (`--global-batch-size`) evenly among "
                f"{', '.join(map(str, worlds))} workers (`--elastic {self.elastic}`)",
                hint=f"-- --global-batch-size {-(-self.train.global_batch_size // common) * common}",
            )

    def _check_elastic(self, elastic: str) -> None:
        match = _ELASTIC.fullmatch(elastic)
        if not match or int(match[1]) > int(match[2]):
            raise InputError(
                f"cannot use --elastic {on_one_line(elastic)}: it is MIN:MAX nodes, MIN at most MAX",
                hint=f"--elastic 1:{self.nodes}",
            )
        if int(match[2]) != self.nodes or self.nodes == 1:
            raise InputError(
                f"cannot use --elastic {elastic}: {_workers(self.workers)}, {self.per_node} to a node, make {self.nodes} "
                f"node{'s' if self.nodes > 1 else ''}",
                hint=f"--workers {max(int(match[2]), 2) * self.per_node} --workers-per-node {self.per_node}",
            )


def key_of(argument: Argument) -> str:
    """The key of the setting that fills an argument: the flag's long name in snake_case."""
    name = next((name for name in argument.names if name.startswith("--")), argument.names[0])
    return name.removeprefix("--").replace("-", "_")


def fill_argument(argument: Argument, texts: Sequence[str], origin: str) -> None:
    """Give an argument these texts, as if flags had."""
    for index, text in enumerate(texts):
        argument.append(Token(keyword=flag_of(key_of(argument)), value=text, source=origin, index=index))


def _same(job: Annotated[JobSpec, Parameter(name="*")]) -> JobSpec:
    return job


def labels(spec: JobSpec) -> dict[str, str]:
    """Labels of every object of the job."""
    return LABELS | {"app.kubernetes.io/instance": spec.name}


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _divisors(number: int, candidates: Sequence[int]) -> list[int]:
    return [candidate for candidate in candidates if number % candidate == 0]


def _check_place(field: str, place: str) -> None:
    if _S3.fullmatch(place):
        check_texts(flag_of(field), [place])
        return
    if Location(place).is_bucket or not PurePosixPath(place).is_absolute():
        raise InputError(
            f"cannot use `{without_login(on_one_line(place))}`: neither `s3://BUCKET/PREFIX` nor a directory (from `{flag_of(field)}`)",
            hint=f"{flag_of(field)} s3://BUCKET/PREFIX",
        )
