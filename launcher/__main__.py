"""The launcher's commands; the one place of this package that prints and maps errors to exit codes."""

import dataclasses
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import App, CycloptsError, Parameter

from launcher.loglines import LogOptions
from launcher.settings import Sources, apply_settings
from launcher.spec import JobSpec
from launcher.target import Access, Target
from trainer import __version__
from trainer.config import parse_duration, usage_problem
from trainer.errors import EXIT_CODE_HELP, InputError, InterruptedByUser, JobFailedError, KnownError

if TYPE_CHECKING:
    from launcher.cluster import Cluster
    from launcher.snapshot import State

USAGE: Final = "Usage: launcher {} --accelerator gaudi|cuda|cpu [OPTIONS] [-- TRAINER FLAGS]"

WATCH_EVERY_S: Final = 2.0

_AGE: Final = re.compile(r" *\b(\d+[smhdy])+\b *")
"""What changes by itself is no change."""

Job = Annotated[JobSpec, Parameter(name="*")]
From = Annotated[Sources, Parameter(name="*")]
Through = Annotated[Access, Parameter(name="*")]
On = Annotated[Target, Parameter(name="*")]
Name = Annotated[str, Parameter(help="Name of the job.")]
Form = Annotated[Literal["table", "wide", "json", "yaml", "name"], Parameter(name="-o", help="How to print it.")]
Timeout = Annotated[str | None, Parameter(help="How long to wait at most: `90s`, `30m`, `8h`.", show_default=False)]
Switch = Annotated[bool, Parameter(negative=(), show_default=False)]

app = App(
    name="launcher",
    help=(
        "Train chest X-ray classifiers on Kubernetes. What follows `--` are flags of `python -m trainer train`. "
        "--debug shows the traceback of an error."
    ),
    help_epilogue=EXIT_CODE_HELP,
    help_format="plaintext",
    version=__version__,
    config=[apply_settings],
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main tells of Ctrl-C
)


@app.command
def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print what completes commands and flags in a shell; `source <(launcher completion bash)` uses it.

    Parameters
    ----------
    shell
        Which shell.
    """
    sys.stdout.write(app.generate_completion(prog_name="launcher", shell=shell))


@app.command
def init(
    *assignments: Annotated[str, Parameter(help="KEY=VALUE, a setting to write; as often as needed.")],
    yes: Annotated[bool, Parameter(name=("--yes", "-y"), negative=(), show_default=False)] = False,
) -> None:
    """Ask for the settings that stay, and write them to `launcher.yaml` here; print its path.

    Parameters
    ----------
    yes
        Ask nothing, and replace a file that is there; without a terminal nobody is asked.
    """
    from pathlib import Path

    from launcher import init as first
    from launcher.settings import PROJECT_FILE, read_file, standing

    path = Path(PROJECT_FILE)
    before = first.as_settings(read_file(path).values) if path.is_file() else {}
    asked = None if yes or not sys.stdin.isatty() else _ask
    known = {key: texts[0] for source in reversed(standing()) for key, texts in source.values.items() if texts}
    settings = first.answers(asked, known, assignments)
    first.check(before | settings, _job_of)
    first.write(path, first.as_yaml(before | settings), replace=yes)
    sys.stdout.write(f"{PROJECT_FILE}\n")
    _tell("next: python -m launcher doctor --workers 1")


@app.command
def config(*, form: Annotated[Literal["table", "json", "yaml"], Parameter(name="-o")] = "table") -> None:
    """Print each setting that has a value without flags, and where it comes from.

    Parameters
    ----------
    form
        How to print them.
    """
    from launcher import show
    from launcher.settings import effective

    rows = [{"setting": key, "value": value, "from": origin} for key, value, origin in effective()]
    sys.stdout.write(
        show.table(rows, empty="no settings") if form == "table" else show.document({"settings": rows}, form)
    )


@app.command(usage=USAGE.format("render"))
def render(
    *,
    job: Job,
    sources: From = Sources(),  # noqa: ARG001, B008 - read by apply_settings; frozen
    form: Annotated[Literal["yaml", "json", "name"], Parameter(name="-o")] = "yaml",
) -> None:
    """Print the Kubernetes objects of a job; talks to nobody.

    Parameters
    ----------
    form
        How to print them.
    """
    from launcher import manifest

    forms = {"yaml": manifest.to_yaml, "json": manifest.to_json, "name": manifest.to_name}
    sys.stdout.write(forms[form](manifest.render(job)))


@app.command(usage=USAGE.format("submit"))
def submit(
    *,
    job: Job,
    sources: From = Sources(),  # noqa: ARG001, B008 - read by apply_settings; frozen
    access: Through = Access(),  # noqa: B008 - frozen
    local: Switch = False,
    dry_run: Literal["none", "client", "server"] = "none",
    wait: Switch = False,
    follow: Switch = False,
    timeout: Timeout = None,
) -> None:
    """Create a job, and print its name; with `--local`, run it here and print where its run lies.

    Submitting a job that is there already, with the same spec, changes nothing and is no error.

    Parameters
    ----------
    local
        Run it on this machine, without a cluster: a process for each pod. Needs no image.
    dry_run
        `client` prints the objects; `server` asks the cluster whether it would take them.
    wait
        Wait until the job is over; its outcome is the exit code.
    follow
        Follow the log until the job is over; its outcome is the exit code.
    """
    from launcher import manifest

    _check_submit(local=local, dry_run=dry_run, wait=wait, follow=follow, timeout=timeout)
    if local:
        _run_here(job)
    elif dry_run == "client":
        sys.stdout.write(manifest.to_yaml(manifest.render(job)))
    else:
        cluster = _open(Target(namespace=job.namespace, context=access.context, kubeconfig=access.kubeconfig))
        _create(cluster, job, access, dry_run=dry_run == "server")
        if dry_run == "none" and follow:
            _follow(cluster, job.name, LogOptions(follow=True))
        elif dry_run == "none" and wait:
            _wait(cluster, job.name, timeout)


def _check_submit(*, local: bool, dry_run: str, wait: bool, follow: bool, timeout: str | None) -> None:
    """Refuse what could only be ignored, before anything is spent. Raises: InputError."""
    _seconds(timeout)
    given = {"--dry-run": dry_run != "none", "--wait": wait, "--follow": follow, "--timeout": timeout is not None}
    ignored = [flag for flag, there in given.items() if there and local]
    if ignored:
        raise InputError(
            f"cannot use {', '.join(ignored)} with --local: it runs here until it is over", hint="leave it out"
        )
    if wait and follow:
        raise InputError(
            "cannot use both --wait and --follow: both end with the job", hint="--follow prints its log too"
        )
    if timeout is not None and not wait:
        raise InputError("cannot use --timeout without --wait", hint="--wait --timeout 8h")


def _run_here(job: JobSpec) -> None:
    from launcher import local, manifest

    local.check(job)
    local.run(manifest.render(job), scratch=local.cache_of(job), tell=_tell, python=sys.executable)
    sys.stdout.write(f"{job.run}\n")


def _create(cluster: "Cluster", job: JobSpec, access: Access, *, dry_run: bool) -> None:
    from launcher import jobs, manifest
    from launcher.logs import kubectl_logs_command

    job = _with_claim(cluster, job)
    for name in [] if dry_run else jobs.sweep(cluster):
        _tell(f"removed the volume {name}, whose job is gone")
    objects = manifest.render(job)
    submitted = jobs.submit(cluster, objects, dry_run=dry_run)
    sys.stdout.write(manifest.to_name(objects))
    sys.stdout.flush()
    _tell(f"{submitted.outcome} in {cluster.namespace}; the run goes to {job.run}")
    if not dry_run:
        place = f" -n {cluster.namespace}"
        kubectl = kubectl_logs_command(
            objects[-1], cluster.namespace, context=access.context, kubeconfig=access.kubeconfig
        )
        _tell(
            "next:\n"
            f"  python -m launcher status {job.name}{place}\n"
            f"  {kubectl}\n"
            f"  python -m launcher delete {job.name}{place}"
        )


def _with_claim(cluster: "Cluster", job: JobSpec) -> JobSpec:
    """The job, on the claim that an administrator made for its data set, where there is one."""
    from launcher import jobs

    claim = jobs.claim_for(cluster, job.data) if job.mounts_bucket else None
    if not claim:
        return job
    _tell(f"{job.data} is read through the claim {claim}")
    return dataclasses.replace(job, s3=dataclasses.replace(job.s3, claim=claim))


@app.command(usage=USAGE.format("doctor"))
def doctor(
    *,
    job: Job,
    sources: From = Sources(),  # noqa: ARG001, B008 - read by apply_settings; frozen
    access: Through = Access(),  # noqa: B008 - frozen
    in_cluster: Switch = False,
    form: Annotated[Literal["table", "json"], Parameter(name="-o")] = "table",
) -> None:
    """Check whether a job would run, before anything is spent: a row for each thing that has stopped one.

    Parameters
    ----------
    in_cluster
        Look at buckets, labels and weights from a short pod with the job's account, in place of from here.
    form
        How to print the rows.
    """
    from launcher import doctor as preflight

    cluster = _open(Target(namespace=job.namespace, context=access.context, kubeconfig=access.kubeconfig))
    rows = preflight.doctor(_with_claim(cluster, job), cluster, in_cluster=in_cluster)
    sys.stdout.write(preflight.as_json(rows) if form == "json" else preflight.as_table(rows))
    sys.stdout.flush()
    preflight.check_passed(rows)


@app.command(name="list")
def list_(
    *,
    on: On = Target(),  # noqa: B008 - frozen
    everywhere: Annotated[bool, Parameter(name=("--all-namespaces", "-A"), negative=(), show_default=False)] = False,
    selector: Annotated[str, Parameter(name=("--selector", "-l"), show_default=False)] = "",
    watch: Annotated[bool, Parameter(name=("--watch", "-w"), negative=(), show_default=False)] = False,
    form: Form = "table",
) -> None:
    """Print the jobs of a namespace, the newest first.

    Parameters
    ----------
    everywhere
        Of all namespaces.
    selector
        Only jobs with these labels: `team=radiology,stage!=test`.
    watch
        Print them again whenever they have changed.
    """
    from launcher import jobs, show

    cluster = _open(on)

    def look() -> str:
        found, pods = jobs.all_jobs(cluster, everywhere=everywhere, labels=selector)
        return show.job_list(found, pods, form, everywhere=everywhere, now=datetime.now(timezone.utc))

    _print(look, watch=watch)


@app.command
def status(
    name: Name,
    *,
    on: On = Target(),  # noqa: B008 - frozen
    watch: Annotated[bool, Parameter(name=("--watch", "-w"), negative=(), show_default=False)] = False,
    form: Form = "table",
) -> None:
    """Print how a job is: conditions, pods, last events, progress, and why it does not run.

    Parameters
    ----------
    watch
        Print it again whenever it has changed.
    """
    from launcher import observe, show
    from launcher.diagnose import diagnose

    cluster = _open(on)

    def look() -> str:
        snapshot = observe.observe(cluster, name)
        return show.job_status(snapshot, diagnose(snapshot), observe.progress(cluster, snapshot), form)

    _print(look, watch=watch)


@app.command
def events(name: Name, *, on: On = Target(), form: Form = "table") -> None:  # noqa: B008 - frozen
    """Print what the cluster noted about a job, its pods and its claim, the oldest first."""
    from launcher import observe, show

    sys.stdout.write(show.events(observe.observe(_open(on), name), form))


@app.command
def wait(
    name: Name,
    *,
    on: On = Target(),  # noqa: B008 - frozen
    until: Annotated[Literal["Succeeded", "Failed", "Running", "Suspended"] | None, Parameter(name="--for")] = None,
    timeout: Timeout = None,
) -> None:
    """Wait until a job is over, and print its state; its outcome is the exit code.

    Parameters
    ----------
    until
        Wait for this state instead; it is an error when the job ends in another.
    """
    _wait(_open(on), name, timeout, until)


@app.command
def delete(
    *names: Name,
    on: On = Target(),  # noqa: B008 - frozen
    yes: Annotated[bool, Parameter(name=("--yes", "-y"), negative=(), show_default=False)] = False,
    timeout: Timeout = "5m",
) -> None:
    """End jobs and remove them, with their pods, Services, claims and volumes; the runs in the output stay.

    Parameters
    ----------
    yes
        Do not ask; without a terminal nobody is asked.
    """
    from launcher import jobs

    if not names:
        raise InputError("cannot delete: no job is named", hint="launcher delete NAME; launcher list shows them")
    cluster = _open(on)
    if not yes and sys.stdin.isatty() and not _agreed(f"delete {', '.join(names)} in {cluster.namespace}? [y/N] "):
        raise InterruptedByUser("nothing deleted")
    problems: list[KnownError] = []
    for name in names:
        try:
            for removed in jobs.delete(cluster, name, timeout_s=_seconds(timeout) or 300):
                sys.stdout.write(f"{removed}\n")
                sys.stdout.flush()
        except KnownError as problem:
            problems.append(problem)
    for earlier in problems[:-1]:
        _tell(str(earlier))
    if problems:
        raise problems[-1]


@app.command
def clone(
    source: Annotated[str, Parameter(help="Name of the job to clone.")],
    *,
    changes: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set", negative=(), show_default=False, help="KEY=YAML, a setting to change; as often as needed."
        ),
    ] = (),
    name: str | None = None,
    on: On = Target(),  # noqa: B008 - frozen
    dry_run: Literal["none", "client", "server"] = "none",
) -> None:
    """Submit a new job, and so a new run, with the settings of another.

    Parameters
    ----------
    name
        Name of the new job; made up unless given.
    dry_run
        `client` prints the objects; `server` asks the cluster whether it would take them.
    """
    import tempfile

    import yaml

    from launcher import jobs
    from launcher.settings import nothing_standing

    cluster = _open(on)
    settings = jobs.settings_of(jobs.get(cluster, source))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file, nothing_standing():
        yaml.safe_dump(settings, file)
        file.flush()
        flags = ["--file", file.name, "--namespace", cluster.namespace, "--dry-run", dry_run]
        flags += [f"--name={name}"] if name else []
        flags += [f"--context={on.context}"] if on.context else []
        flags += [f"--kubeconfig={on.kubeconfig}"] if on.kubeconfig else []
        _dispatch(["submit", *flags, *(f"--set={change}" for change in changes)])


@app.command
def logs(
    name: Name,
    *,
    on: On = Target(),  # noqa: B008 - frozen
    options: Annotated[LogOptions, Parameter(name="*")] = LogOptions(),  # noqa: B008 - frozen
) -> None:
    """Print the log of a job: all its pods, each line with its rank, else with its pod.

    With `-f` go on until the job is over, across restarts; its outcome is the exit code.
    """
    from launcher import logs as joblog

    cluster = _open(on)
    if options.follow:
        _follow(cluster, name, options)
    else:
        colour = joblog.wants_colour(sys.stdout, os.environ)
        joblog.write(cluster, name, options, out=sys.stdout, tell=_tell, colour=colour)


def _open(on: Target) -> "Cluster":
    from launcher.cluster import open_cluster

    return open_cluster(on)


def _wait(cluster: "Cluster", name: str, timeout: str | None, until: "State | None" = None) -> None:
    from launcher import jobs

    state = jobs.wait(cluster, name, until=until, timeout_s=_seconds(timeout))
    sys.stdout.write(f"{state}\n")


def _follow(cluster: "Cluster", name: str, options: LogOptions) -> None:
    """Follow the log; how the job ended is how this ends."""
    from launcher import logs as joblog
    from launcher import observe
    from launcher.cluster import NotFoundError
    from launcher.diagnose import diagnose

    def waiting(what: str) -> None:
        found = diagnose(observe.observe(cluster, name))
        _tell(what + (f" ({found.sentence})" if found else ""))

    colour = joblog.wants_colour(sys.stdout, os.environ)
    try:
        ending = joblog.follow(cluster, name, options, out=sys.stdout, tell=_tell, waiting=waiting, colour=colour)
    except KeyboardInterrupt:
        raise InterruptedByUser(
            f"no longer following `{name}`; the job goes on", hint=f"launcher logs {name} -f follows it again"
        ) from None
    if ending.state == "Deleted":
        raise NotFoundError(f"the job `{name}` was deleted while its log was followed", hint="launcher list")
    if ending.state == "Failed":
        raise JobFailedError(f"the job `{name}` failed", hint=f"launcher status {name}")


def _seconds(timeout: str | None) -> float | None:
    return None if timeout is None else parse_duration(timeout, "--timeout")


def _ask(question: str, usual: str) -> str:
    sys.stderr.write(f"{question}{f' [{usual}]' if usual else ''}: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() or usual


def _job_of(flags: list[str]) -> JobSpec:
    """The job that these flags of `render` make."""
    try:
        _, bound, _ = app.parse_args(["render", *flags], exit_on_error=False, print_error=False)
    except CycloptsError as problem:
        raise InputError(usage_problem(problem), hint="--help lists commands and flags") from problem
    job = bound.arguments["job"]
    assert isinstance(job, JobSpec)
    return job


def _agreed(question: str) -> bool:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _print(look: Callable[[], str], *, watch: bool) -> None:
    """Print what `look` sees, with `watch` again whenever it is another."""
    seen = look()
    sys.stdout.write(seen)
    while watch:
        sys.stdout.flush()
        time.sleep(WATCH_EVERY_S)
        before, seen = seen, look()
        if _AGE.sub("", seen) != _AGE.sub("", before):
            sys.stdout.write(f"\n{seen}")


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code."""
    if list(argv) == ["--version"]:  # not worth a parser's start
        sys.stdout.write(f"{__version__}\n")
        return 0
    flags, train_flags = _split(argv)
    debug = "--debug" in flags
    try:
        _dispatch([*(flag for flag in flags if flag != "--debug"), *(f"--train-flags={flag}" for flag in train_flags)])
        sys.stdout.flush()
    except KnownError as problem:
        if debug:
            sys.excepthook(type(problem), problem, problem.__traceback__)
        else:
            _tell(str(problem))
        return problem.exit_code
    except KeyboardInterrupt:
        _tell(str(InterruptedByUser("interrupted by Ctrl-C", hint="jobs that run go on: launcher list")))
        return InterruptedByUser.exit_code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as bug:
        if debug:
            raise
        _tell(f"error: bug: {type(bug).__name__}: {bug}\n\nhint: run again with --debug for the traceback")
        return 1
    return 0


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launcher's flags, and the trainer's after `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:end]), list(argv[end + 1 :])


def _dispatch(argv: list[str]) -> None:
    try:
        app(argv, exit_on_error=False, print_error=False)
    except CycloptsError as problem:
        raise InputError(usage_problem(problem), hint="--help lists commands and flags") from problem


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def script() -> None:
    """The command `launcher`."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    script()
