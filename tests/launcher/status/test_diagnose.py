"""One sentence for each way in which a job does not run: files of objects, and what is said about them."""

import copy
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.cluster.dra import DeviceObjects
from launcher.status.diagnose import Diagnosis, diagnose, reason
from launcher.status.diagnose.facts import moment
from launcher.status.diagnose.log_tail import read_tail
from launcher.status.diagnose.signatures import SIGNATURES, signature_of
from launcher.status.diagnose.termination_message import read_message
from launcher.status.diagnose.wording import lasting, quoted
from launcher.status.snapshot import Snapshot

FOLDER = Path(__file__).parent / "snapshots"
CASES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
LONGEST = 700
"""Characters of a sentence that still reads as one."""


def read(name):
    return yaml.load(
        (FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )


def snapshot_of(case):
    """The snapshot that a file describes; every field of it but `expected`."""
    fields = {
        key: tuple(value) if isinstance(value, list) else value for key, value in case.items() if key != "expected"
    }
    devices = {key: tuple(value) for key, value in case.get("devices", {}).items()}
    fields["devices"] = DeviceObjects(**devices | {"denied": frozenset(devices.get("denied", ()))})
    return Snapshot(**fields | {"now": moment(case["now"]), "denied": frozenset(case.get("denied", ()))})


@pytest.mark.parametrize("name", CASES)
def test_diagnosis_of_each_snapshot(name):
    """What a user reads, word for word."""
    case = read(name)
    expected = Diagnosis(**case["expected"]) if case["expected"] else None
    assert diagnose(snapshot_of(case)) == expected


@pytest.mark.parametrize("name", CASES)
def test_diagnosis_is_one_printable_line(name):
    """A terminal and a table show it as it is, whatever a log or an event holds."""
    said = diagnose(snapshot_of(read(name)))
    for text in (said.sentence, said.next_step) if said else ():
        assert text.isprintable()
        assert 0 < len(text) <= LONGEST


def test_every_diagnosis_code_has_a_snapshot():
    """A cause without a file of objects would be told untested."""
    told = {said.code for name in CASES if (said := diagnose(snapshot_of(read(name))))}
    in_source = set()
    for path in (Path(__file__).parents[3] / "launcher/status/diagnose").glob("*.py"):
        in_source |= set(re.findall(r'code="([a-z-]+)"', path.read_text(encoding="utf-8")))
    assert in_source - told == UNSEEN


UNSEEN = {"no-scheduler", "container-config"}
"""Tried with changed objects below."""


def a_pod(**changes):
    """The first pod of a running job, with other fields of its status."""
    pod = copy.deepcopy(read("running")["pods"][0])
    pod["status"] |= changes
    return pod


def container(**state):
    return {"name": "pytorch", "image": "i", "restartCount": 0, "state": state}


@pytest.mark.parametrize(
    ("pod", "word"),
    [
        pytest.param(a_pod(), "Running", id="runs"),
        pytest.param(
            a_pod(containerStatuses=[container(waiting={"reason": "ContainerCreating"})]),
            "ContainerCreating",
            id="waits",
        ),
        pytest.param(
            a_pod(containerStatuses=[container(terminated={"exitCode": 137, "reason": "OOMKilled"})]),
            "OOMKilled",
            id="ended",
        ),
        pytest.param(
            a_pod(containerStatuses=[container(terminated={"exitCode": 3})]), "ExitCode:3", id="ended without a word"
        ),
        pytest.param(a_pod(containerStatuses=[container(terminated={"exitCode": 139})]), "Signal:11", id="signal"),
        pytest.param(a_pod(phase="Pending", containerStatuses=None), "Pending", id="pending"),
        pytest.param(a_pod(phase="Failed", reason="Evicted", containerStatuses=None), "Evicted", id="evicted"),
        pytest.param(
            a_pod(initContainerStatuses=[{"name": "wait", "state": {"running": {}}}], containerStatuses=None),
            "Init:0/1",
            id="init",
        ),
        pytest.param(
            a_pod(initContainerStatuses=[{"name": "wait", "state": {"waiting": {"reason": "ErrImagePull"}}}]),
            "Init:ErrImagePull",
            id="init fails",
        ),
        pytest.param(
            a_pod(initContainerStatuses=[{"name": "wait", "state": {"terminated": {"exitCode": 0}}}]),
            "Running",
            id="init is done",
        ),
        pytest.param(
            a_pod() | {"metadata": {"name": "p", "deletionTimestamp": "2026-11-23T15:25:32Z"}}, "Terminating", id="goes"
        ),
        pytest.param({"metadata": {"name": "p"}}, "Unknown", id="nothing known"),
    ],
)
def test_pod_phase_is_one_word_as_kubectl_shows_it(pod, word):
    """As kubectl's STATUS column shows it, so that both tell the same."""
    assert reason(pod) == word


def changed(name, **minutes):
    """A case some time later."""
    case = read(name)
    return case | {"now": (moment(case["now"]) + timedelta(**minutes)).isoformat()}


def code_of(case):
    said = diagnose(snapshot_of(case))
    return said and said.code


def test_a_job_without_conditions_is_given_thirty_seconds():
    """A job that was submitted this moment is no reason for alarm."""
    assert [code_of(changed("just-created", seconds=age)) for age in (0, 11, 12)] == [None, None, "no-operator"]


def test_a_pod_that_nobody_schedules_names_the_scheduler():
    """A wrong `schedulerName` leaves a pod pending without a word from anybody."""
    case = changed("accelerators-busy", minutes=1)
    pod = case["pods"][0]
    pod["status"]["conditions"] = []
    pod["spec"]["schedulerName"] = "volcano"
    said = diagnose(snapshot_of(case))
    assert said.code == "no-scheduler"
    assert "`volcano`" in said.sentence


def test_other_configuration_errors_are_quoted():
    """What has no rule of its own is still told in the kubelet's words."""
    case = read("secret-missing")
    for pod in case["pods"]:
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"] = "stat /run/secrets: not a directory"
    said = diagnose(snapshot_of(case))
    assert said.code == "container-config"
    assert "stat /run/secrets: not a directory" in said.sentence


def test_a_job_that_is_being_deleted_is_not_missing_its_pods():
    """Its pods go one after the other; one that stays too long is told before those that still may."""
    case = read("pods-missing")
    case["job"]["metadata"]["deletionTimestamp"] = "2026-11-23T15:30:00Z"
    assert diagnose(snapshot_of(case)).sentence == "being deleted for 60s: worker-0 must end first"
    stuck = read("finalizer")
    stuck["job"]["metadata"]["deletionTimestamp"] = "2026-11-23T15:30:00Z"
    assert code_of(stuck) == "stuck-terminating"


@pytest.mark.parametrize("state", ["Succeeded", "Failed"])
def test_a_job_that_has_ended_may_be_deleted_too(state):
    """Then that is what happens to it."""
    case = read("deleting")
    case["job"]["status"]["conditions"] = [{"type": state, "status": "True"}]
    assert code_of(case) == "deleting"


def test_pods_that_may_not_be_seen_are_not_gone():
    case = read("deleting-services")
    said = diagnose(snapshot_of(case | {"denied": ["pods"]}))
    assert said.sentence.endswith("objects that it owns are deleted first, including its pods, which you may not read")


def test_queue_position_reported_by_kueue_is_preferred_to_a_counted_one():
    """It knows of the jobs of other namespaces."""
    told, counted = read("queued-told"), read("queued-counted")
    assert diagnose(snapshot_of(told | {"workloads": counted["workloads"]})).sentence == told["expected"]["sentence"]
    elsewhere = [{"metadata": {"name": "another"}, "positionInLocalQueue": 0}]
    both = diagnose(snapshot_of(counted | {"waiting": elsewhere}))
    assert both.sentence == counted["expected"]["sentence"]


def test_preemptor_of_another_namespace_is_named_by_its_queue():
    """Its Workload can't be seen, but Kueue names its ClusterQueue."""
    said = diagnose(snapshot_of(read("queue-preempted-trainjob") | {"workloads": [], "waiting": []}))
    assert (
        "Kueue preempted it for a job of ClusterQueue clinic: reclamation within the cohort; it waits" in said.sentence
    )


def test_requeued_job_waits_for_quota_again_once_its_back_off_is_over():
    case = read("queue-backoff")
    case["workload"]["status"]["requeueState"]["requeueAt"] = case["now"]
    said = diagnose(snapshot_of(case))
    assert said.code == "queue-evicted"
    assert said.sentence.count("PodsReady timeout") == 1


def test_failed_mount_of_an_earlier_pod_is_not_reported():
    """Pods that are made anew have the names of those before them."""
    case = read("mount-wrong-bucket")
    case["pods"][0]["metadata"]["creationTimestamp"] = case["now"]
    case["pods"][0]["status"]["conditions"] = []
    assert diagnose(snapshot_of(case)) is None


def test_a_pod_that_was_deleted_by_hand_is_not_out_of_memory():
    """Its exit code is that of a kill, too."""
    case = read("killed-and-started-again")
    case["events"].append(
        {
            "involvedObject": {"kind": "Pod", "name": "running-worker-1"},
            "reason": "Killing",
            "message": "Stopping container pytorch",
        }
    )
    assert code_of(case) == "restarted"


def test_no_shortage_is_counted_where_pods_may_not_be_read():
    """Without the pods of others every node looks free."""
    case = read("gang-incomplete") | {"node_pods": [], "denied": ["pods"]}
    said = diagnose(snapshot_of(case))
    assert said.code == "unschedulable-accelerators"
    assert "largest free" not in said.sentence


LINES = [
    ("RuntimeError: synStatus=26 [Generic failure] Device acquire failed.", "gaudi-acquire-failed"),
    ("RuntimeError: synStatus=20 [Device already acquired] Device acquire failed.", "gaudi-already-acquired"),
    ("RuntimeError: synStatus=8 [Device not found] Device acquire failed.", "gaudi-device-not-found"),
    ("Device acquire failed. No devices found.", "gaudi-no-devices"),
    ("AssertionError: There is not enough devices available for training.", "gaudi-too-few-devices"),
    ("FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed for size::1073741824", "gaudi-memory"),
    ("Compile-time minor PyTorch version 2.6 differs from run-time 2.7", "gaudi-torch-mismatch"),
    ("RuntimeError: Get HCCL UniqueId Error", "hccl-init"),
    ("RuntimeError: collective nonSFG is not supported during HCCL recipe; request failed", "hccl-error"),
    ("Watchdog caught collective operation timeout: WorkNCCL(SeqNum=4)", "collective-timeout"),
    (
        "RuntimeError: [../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv",
        "collective-timeout",
    ),
    ("NCCL WARN Bootstrap : no socket interface found", "nccl-init"),
    ("torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690", "nccl-error"),
    (
        "RuntimeError: DataLoader worker is killed by signal: Bus error. insufficient shared memory (shm)",
        "shared-memory",
    ),
    ("worker 2 failed with signal 7", "shared-memory"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "gpu-memory"),
    ("RuntimeError: The NVIDIA driver version is insufficient for CUDA runtime version", "gpu-driver"),
    ("error: cannot continue training: the deadline is over at step 7, 8h after the run's first start", "deadline"),
    ("exec /usr/bin/python: exec format error", "exec-format"),
    (
        "error: preflight failed on node `gpu-7`: device: the trial of hpu failed with exit code 1: synStatus=26 Device acquire failed.",
        "preflight",
    ),
]
"""A line of each kind. Source: the vendors' issue trackers and torch's own texts."""


@pytest.mark.parametrize(("line", "code"), LINES)
def test_log_lines_with_a_known_failure_signature(line, code):
    """The same error is told in one way, whichever program printed it."""
    found = signature_of(["[rank 0] epoch=1 step=13 train_loss=0.4660 images_per_s=73.9", line])
    assert found
    assert (found[0].code, found[1]) == (code, line)


def test_every_failure_signature_has_an_example_line():
    """One that matches nothing would be dead."""
    assert {signature.code for signature in SIGNATURES} == {code for _, code in LINES}


@pytest.mark.parametrize(
    ("tail", "rank", "line", "is_a_consequence"),
    [
        pytest.param("", "", "", True, id="nothing"),
        pytest.param("error: cannot read `x`\nhint: look", "", "cannot read `x`", False, id="one worker"),
        pytest.param(
            "[rank 2] error: cannot read `x`\nworker 2 failed with exit code 2",
            "2",
            "cannot read `x`",
            False,
            id="rank",
        ),
        pytest.param(
            "[rank 0] error: cannot continue: a peer was lost (x)\n[rank 3] error: cannot read `x`\nworker 3 failed with exit code 2",
            "3",
            "cannot read `x`",
            False,
            id="the rank that the gang names",
        ),
        pytest.param("worker 1 failed with signal 9", "1", "", False, id="killed without a word"),
        pytest.param(
            "error: cannot bring the workers together: timed out",
            "",
            "cannot bring the workers together: timed out",
            True,
            id="rendezvous",
        ),
        pytest.param(
            '2026-11-23T15:25:33.123456789Z [rank 1] Traceback (most recent call last):\n2026-11-23T15:25:33Z [rank 1]   File "x.py"\n'
            "2026-11-23T15:25:33Z [rank 1] trainer.errors.PackError: bad shard\n",
            "1",
            "trainer.errors.PackError: bad shard",
            False,
            id="traceback with times",
        ),
        pytest.param(
            "Traceback (most recent call last):\n  File 'x'\nAssertionError\nbye",
            "",
            "AssertionError",
            False,
            id="bare exception",
        ),
    ],
)
def test_first_failed_rank_and_its_error_are_read_from_a_log_tail(tail, rank, line, is_a_consequence):
    """Of many workers that end, the first to fail is the one to look at."""
    told = read_tail(tail)
    assert (told.rank, told.line, told.is_a_consequence) == (rank, line, is_a_consequence)


@pytest.mark.parametrize(
    ("message", "rank", "line", "hint", "is_a_consequence"),
    [
        pytest.param("failed: rank 2: cannot read `x`; hint: look", "2", "cannot read `x`", "look", False, id="cause"),
        pytest.param("failed: no room", "", "no room", "", False, id="of the entrypoint itself"),
        pytest.param(
            "stopped: rank 2: rank 0 failed first, in another pod",
            "2",
            "rank 0 failed first, in another pod",
            "",
            True,
            id="consequence",
        ),
        pytest.param(
            "failed: rank 2: bug: RuntimeError: Timed out waiting 1800ms for recv operation to complete; hint: --debug",
            "2",
            "RuntimeError: Timed out waiting 1800ms for recv operation to complete",
            "",
            True,
            id="a lost peer that the trainer does not know",
        ),
        pytest.param(
            "[rank 2] error: cannot read `x`\n[rank 2] hint: look\nworker 2 failed with exit code 2\n",
            "2",
            "cannot read `x`",
            "look",
            False,
            id="last lines of the log",
        ),
        pytest.param(
            "[rank 0] failed: rank 1: cannot read `x`\n", "", "", "", True, id="a line of the log that looks like it"
        ),
    ],
)
def test_termination_message_is_parsed_into_rank_line_and_hint(message, rank, line, hint, is_a_consequence):
    """The entrypoint's line, or what the kubelet puts in its place."""
    told = read_message(message)
    assert (told.rank, told.line, told.hint, told.is_a_consequence) == (rank, line, hint, is_a_consequence)


def test_a_pod_of_which_nothing_is_known_counts_before_one_that_lost_its_peer():
    """It may have been killed, and the other says that it only followed."""
    case = read("message-first-failing-rank")
    ended = case["pods"][1]["status"]["containerStatuses"][0]["state"]["terminated"]
    del ended["message"]
    assert diagnose(snapshot_of(case)).sentence == "worker-1 Error 36s ago: exit code 3 (the job failed)"
    ended["message"] = "stopped: rank 1: rank 7 failed first, in another pod"
    assert diagnose(snapshot_of(case)).sentence.startswith("worker-0 ")


def test_a_reported_exception_keeps_the_advice_of_its_signature():
    """The trainer knows no better one for what it does not know."""
    tail = "[rank 3] error: bug: RuntimeError: Device acquire failed.\n[rank 3] \n[rank 3] hint: run again with --debug"
    told = read_tail(tail)
    assert (told.signature.code, told.hint) == ("gaudi-acquire-failed", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_799, "47h"),
        (172_800, "2d"),
    ],
)
def test_durations_are_formatted_as_kubectls_age(seconds, text):
    """As kubectl's AGE column, and a clock that is behind does no harm."""
    now = moment("2026-11-23T15:25:33Z")
    assert lasting(now - timedelta(seconds=seconds), now) == text


def test_quoted_text_is_printable_and_of_bounded_length():
    """A log may hold terminal escapes and megabytes."""
    assert quoted("a\x1b[31m\nb\u202e") == "a\\x1b[31m b\\u202e"
    assert len(quoted("x" * 10_000)) == 240
    assert len(quoted("\x00" * 10_000)) == 240


GIVEN = {"metadata", "name", "pytorchReplicaSpecs", "type"}
"""What the API server guarantees."""


def removable(found, path=()):
    """Where a field may be missing."""
    if isinstance(found, dict):
        for key, value in found.items():
            if key not in GIVEN and (*path, key) not in {("job",), ("now",), ("job", "spec"), ("expected",)}:
                yield (*path, key)
            yield from removable(value, (*path, key))
    elif isinstance(found, list):
        for number, value in enumerate(found):
            yield from removable(value, (*path, number))


def without(case, paths):
    case = copy.deepcopy(case)
    for path in sorted(paths, key=len, reverse=True):
        found = case
        for key in path[:-1]:
            found = found[key]
        if path[-1] == "status" and isinstance(found["status"], str):
            found["status"] = "Unknown"
        else:
            del found[path[-1]]
    return case


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_objects_with_missing_fields_never_raise(data):
    """Other versions of Kubernetes, and other controllers, leave fields out; `status` must work when all else fails."""
    case = read(data.draw(st.sampled_from(CASES)))
    paths = list(removable(case))
    removed = data.draw(st.sets(st.sampled_from(paths), max_size=12))
    snapshot = snapshot_of(without(case, removed))
    said = diagnose(snapshot)
    assert said is None or (said.sentence and said.next_step and said.code)
    assert all(reason(pod) for pod in snapshot.pods)


def with_job(name, **parts):
    """A snapshot's case with other fields of its job."""
    case = read(name)
    for key, change in parts.items():
        case["job"][key] |= change
    return case


def test_pods_of_a_job_without_its_runtime_are_named_only_if_they_run():
    """A suspended job has none."""
    case = read("trainjob-runtime-missing")
    for pods, are_named in ((case["pods"], False), (copy.deepcopy(case["pods"]), True), ([], False)):
        for pod in pods if are_named else ():
            del pod["metadata"]["deletionTimestamp"]
        said = diagnose(snapshot_of(case | {"pods": pods}))
        assert said.code == "runtime-missing"
        assert said.sentence.endswith("; its pods continue") is are_named


def test_missing_runtime_of_an_administrator_is_not_created_by_submit():
    case = with_job("trainjob-runtime-missing", spec={"runtimeRef": {"kind": "TrainingRuntime", "name": "chexnet"}})
    assert diagnose(snapshot_of(case)).next_step.startswith(
        "ask an administrator to create the TrainingRuntime chexnet again"
    )


NEVER_READY = {"jobsStatus": [{"active": 2, "failed": 0, "name": "node", "ready": 0, "succeeded": 0, "suspended": 0}]}


def event(reason, at):
    return {"involvedObject": {"kind": "Pod", "name": "dead-node-0-0-bqpbl"}, "reason": reason, "lastTimestamp": at}


@pytest.mark.parametrize(
    ("changes", "never_ran"),
    [
        pytest.param({}, True, id="pods waited for a node"),
        pytest.param({"events": [event("Started", "2026-11-29T06:23:40Z")]}, False, id="a container was started"),
        pytest.param({"events": [event("FailedScheduling", "2026-11-29T07:23:40Z")]}, False, id="first events expired"),
        pytest.param({"events": [], "denied": ["events"]}, False, id="events may not be read"),
    ],
)
def test_deadline_of_a_train_job_that_never_ran_says_so(changes, never_ran):
    """Trainer's limit also counts waiting for nodes, images and volumes; said only if it is certain."""
    case = with_job("trainjob-deadline", status=NEVER_READY | read("trainjob-deadline")["job"]["status"])
    assert "has run" not in diagnose(snapshot_of(case)).sentence
    case["job"]["status"] |= NEVER_READY
    said = diagnose(snapshot_of(case | changes))
    assert said.sentence.endswith("; no pod of it has run") is never_ran
    assert said.next_step == "python -m launcher resume dead -n team-a --set deadline=…"
