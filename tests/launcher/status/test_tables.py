"""What `list`, `status` and `events` print, for people and for programs."""

import json
from datetime import datetime, timedelta, timezone

import pytest
import yaml
from cluster_objects import BORN, event, job, pod

from launcher.status.diagnose import Diagnosis
from launcher.status.snapshot import Snapshot
from launcher.status.tables import age, events, job_list, job_status, table

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)


def listed(form, jobs, pods=(), everywhere=False):
    return job_list(jobs, pods, form, everywhere=everywhere, now=NOW)


def test_a_job_that_is_being_deleted_is_shown_so_wherever_it_is_shown():
    """The operator goes on calling it Running until its last pod has gone."""
    leaving = job()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T11:59:00Z"
    assert listed("table", [leaving]).splitlines()[1].split()[:2] == ["t1", "Deleting"]
    assert listed("wide", [leaving]).splitlines()[1].split()[:2] == ["t1", "Deleting"]
    assert json.loads(listed("json", [leaving]))["jobs"][0]["state"] == "Deleting"
    snapshot = Snapshot(job=leaving, now=NOW)
    assert "state     Deleting, 5m old\n" in job_status(snapshot, None, "", "table")
    assert json.loads(job_status(snapshot, None, "", "json"))["state"] == "Deleting"


def test_list_shows_each_job_with_its_pods_and_accelerators():
    """Who looks for free cards wants the sum of a job's pods; adapters and huge pages are no cards."""
    old = job("old", "Succeeded", replicas=1, created="2025-12-01T00:00:00Z")
    assert listed("table", [old, job()], [pod(0), pod(1, phase="Pending")]).splitlines() == [
        "NAME   STATE       RUNNING   ACCELERATORS         AGE",
        "t1     Running     1/2       16 habana.ai/gaudi   5m",
        "old    Succeeded   0/1       8 habana.ai/gaudi    31d",
    ]


def test_list_of_all_namespaces_counts_pods_by_namespace():
    other = job(namespace="team-b")
    lines = listed("table", [job(), other], [pod(0), pod(1)], everywhere=True).splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["team-a", "t1", "Running", "2/2"],
        ["team-b", "t1", "Running", "0/2"],
    ]


def test_wide_list_adds_restarts_queue_and_image():
    labels = {"kueue.x-k8s.io/queue-name": "gaudi"}
    header, line = listed("wide", [job(**labels)], [pod(0, restarts=3)]).splitlines()
    assert header.split()[-3:] == ["RESTARTS", "QUEUE", "IMAGE"]
    assert line.split()[-3:] == ["3", "gaudi", "i:1"]


def test_list_of_names_can_be_passed_to_kubectl():
    assert listed("name", [job(), job("t2")]) == "pytorchjob.kubeflow.org/t1\npytorchjob.kubeflow.org/t2\n"


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_list_for_programs_has_numbers_and_a_version(form, read):
    """`1/2` and `5m` would have to be taken apart again."""
    assert read(listed(form, [job()], [pod(0)])) == {
        "schema": 1,
        "jobs": [
            {
                "namespace": "team-a",
                "name": "t1",
                "api": "pytorchjob",
                "state": "Running",
                "pods": 2,
                "running": 1,
                "restarts": 0,
                "accelerators": {"habana.ai/gaudi": 16},
                "queue": None,
                "image": "i:1",
                "created": BORN,
            }
        ],
    }


def test_empty_list_is_a_message_as_a_table_and_an_empty_list_in_json():
    assert listed("table", []) == "no jobs\n"
    assert json.loads(listed("json", []))["jobs"] == []
    assert listed("name", []) == ""


DIAGNOSIS = Diagnosis(sentence="worker-1 is Pending", next_step="wait", code="accelerators-busy")


def snapshot(**changes):
    fields = {"job": job(), "now": NOW, "pods": (pod(0), pod(1, restarts=2)), "events": (event("again", 7),)}
    return Snapshot(**fields | changes)


def test_status_shows_state_reason_pods_and_events():
    """In this order: what is, why, and what it is seen from."""
    assert job_status(snapshot(), DIAGNOSIS, "epoch 1/3", "table") == (
        "job       team-a/t1\n"
        "state     Running, 5m old\n"
        "progress  epoch 1/3\n"
        "\n"
        "worker-1 is Pending\n"
        "next: wait\n"
        "\n"
        "CONDITION   IS     SINCE   REASON\n"
        "Running     True   4m      Because\n"
        "\n"
        "POD        STATUS    RESTARTS   AGE   NODE\n"
        "worker-0   Running   0          5m    node-a\n"
        "worker-1   Running   2          5m    node-a\n"
        "\n"
        "AGO        TYPE      REASON    ABOUT             MESSAGE\n"
        "60s (x7)   Warning   BackOff   pod/t1-worker-0   again\n"
    )


def test_status_of_a_job_without_conditions_says_what_is_missing():
    new = snapshot(job=job() | {"status": {}}, pods=(), events=(), denied=frozenset({"events"}))
    shown = job_status(new, None, "", "table")
    for text in ("state     Pending", "no conditions", "no pods", "no events", "not permitted to read: events"):
        assert text in shown
    assert "progress" not in shown


def test_status_shows_the_last_events_and_events_all_of_them():
    many = tuple(event(f"message {number}") for number in range(9))
    assert "message 3" not in job_status(snapshot(events=many), None, "", "table")
    assert "message 0" in events(snapshot(events=many), "table")
    assert len(json.loads(events(snapshot(events=many), "json"))["events"]) == 9


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_status_for_programs_holds_times_and_numbers(form, read):
    told = read(job_status(snapshot(), DIAGNOSIS, "", form))
    assert told["schema"] == 1
    assert told["state"] == "Running"
    assert told["progress"] is None
    assert told["diagnosis"] == {"code": "accelerators-busy", "sentence": "worker-1 is Pending", "next_step": "wait"}
    assert told["pods"][1]["restarts"] == 2
    assert told["pods"][1]["created"] == BORN
    assert told["conditions"][0]["is"] is True
    assert told["events"][0]["last"] == "2026-01-01T11:59:00Z"


def test_control_characters_in_cluster_text_are_escaped():
    """Messages of events and lines of logs are anybody's."""
    shown = job_status(snapshot(events=(event("red \x1b[31m\nand more"),)), None, "epoch \x1b[2J", "table")
    assert "\x1b" not in shown
    assert "\\x1b[31m and more" in shown


def test_every_row_of_a_table_is_one_line():
    assert table([{"a": "x\ny", "b": "z"}], empty="").splitlines() == ["A      B", "x\\ny   z"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (7 * 3600 + 1860, "7h31m"),
        (8 * 3600 + 1860, "8h"),
        (48 * 3600, "2d"),
        (8 * 86_400 - 1, "7d23h"),
        (8 * 86_400, "8d"),
        (729 * 86_400, "729d"),
        (730 * 86_400, "2y"),
    ],
)
def test_ages_are_formatted_as_kubectls(seconds, shown):
    """Values taken from kubectl's own function."""
    assert age((NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ"), NOW) == shown


def test_age_takes_parts_of_seconds_and_nothing():
    """Events have both kinds of time, and new objects none."""
    assert age("2026-01-01T11:59:30.123456Z", NOW) == "29s"
    assert age(None, NOW) == ""
