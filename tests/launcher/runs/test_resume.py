"""`launcher resume`: the job that is over once more, on the same run."""

import json
import re
from types import SimpleNamespace

import pytest
import yaml
from apiserver import Fault
from finished import TRAIN_FLAGS, record, write_run

from launcher.__main__ import main
from launcher.cluster.resources import PYTORCH_JOBS, QUEUE_LABEL, QUEUE_PRIORITY_LABEL
from launcher.kinds.lookup import get as get_job
from launcher.runs import resume as run_resume
from launcher.spec.metadata import SETTINGS
from trainer.config import from_argv
from trainer.errors import TimeLimitError
from trainer.runs.record import decisive_settings
from trainer.storage import open_storage

JOB_PATH = "/apis/kubeflow.org/v1/namespaces/team-a/pytorchjobs/demo"
FLAGS = ["--accelerator=cpu", "--image=i", "--data=s3://cxr/nih", "--workers=2", "--data-access=api"]


@pytest.fixture
def launch(kubeconfig, capsys, tmp_path, monkeypatch):
    """Run a command against the double, where nothing else gives settings: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(command, *flags):
        code = main([command, f"--kubeconfig={kubeconfig}", *flags])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def output(tmp_path):
    return str(tmp_path / "runs")


@pytest.fixture
def submitted(launch, output, s3):
    """A job `demo` on the double."""
    code, _, err = launch("submit", *FLAGS, f"--output={output}", "--name=demo", "--backoff=7", "--", *TRAIN_FLAGS)
    assert code == 0, err


@pytest.fixture
def ended(submitted, api):
    """That job, once it has failed."""
    set_state(api, "Failed")


def set_state(api, *conditions):
    statuses = [{"type": condition, "status": "True"} for condition in conditions]
    api.state.put(JOB_PATH, dict(api.state.objects[JOB_PATH]) | {"status": {"conditions": statuses}})


def settings(cluster):
    return json.loads(get_job(cluster, "demo")["metadata"]["annotations"][SETTINGS])


def test_same_job_is_made_again_in_place_of_the_one_that_is_over(launch, api, cluster, ended, output):
    """Its settings are in the object, and today's do not count."""
    write_run(output, scored=False)
    before, old = settings(cluster), api.state.objects[JOB_PATH]["metadata"]["uid"]
    code, out, err = launch("resume", "demo")
    assert (code, out) == (0, "pytorchjob.kubeflow.org/demo\n")
    assert "resumes from step 30" in err
    assert "removed pytorchjob.kubeflow.org/demo" in err
    assert settings(cluster) == before
    assert api.state.objects[JOB_PATH]["metadata"]["uid"] != old
    assert "status" not in api.state.objects[JOB_PATH]


def test_job_that_kueue_would_not_hold_keeps_its_finished_job(launch, api, ended, output):
    """What Kueue manages may have changed since the job was created; nothing is deleted before the new job is accepted."""
    write_run(output, scored=False)
    api.state.serve_kueue()
    code, _, err = launch("resume", "demo", "-y", "--set", "queue=research")
    assert code == 4
    assert "cannot use --queue research: Kueue does not manage PyTorchJobs in namespace `team-a`" in err
    assert api.state.asked("DELETE") == []
    assert JOB_PATH in api.state.objects
    api.state.serve_kueue(PYTORCH_JOBS)
    code, _, err = launch("resume", "demo", "-y", "--set", "queue=research", "--set", "queue_priority=urgent")
    assert code == 0, err
    labels = api.state.objects[JOB_PATH]["metadata"]["labels"]
    assert (labels[QUEUE_LABEL], labels[QUEUE_PRIORITY_LABEL]) == ("research", "urgent")


def test_current_settings_do_not_change_a_resumed_job(launch, cluster, ended, output, monkeypatch):
    write_run(output, scored=False)
    monkeypatch.setenv("LAUNCHER_BACKOFF", "1")
    assert launch("resume", "demo")[0] == 0
    assert settings(cluster)["backoff"] == "7"


def test_resume_changes_the_settings_given_as_flags(launch, cluster, ended, output):
    """A longer deadline, for a run that ended by it."""
    write_run(output, scored=False)
    assert launch("resume", "demo", "--set", "deadline=16h")[0] == 0
    assert settings(cluster)["deadline"] == "16h"


@pytest.mark.parametrize("condition", ["Running", "Suspended", "Created"])
def test_job_that_is_not_over_is_left_alone(launch, api, submitted, condition):
    set_state(api, condition)
    code, _, err = launch("resume", "demo")
    assert code == 2
    assert f"its state is {condition}" in err
    assert JOB_PATH in api.state.objects


def test_job_that_is_being_deleted_is_left_alone(launch, api, ended):
    api.state.objects[JOB_PATH]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    code, _, err = launch("resume", "demo")
    assert code == 2
    assert "is being deleted" in err


def test_job_stays_when_the_server_would_not_take_another(launch, api, ended, output):
    """Its settings are nowhere else."""
    write_run(output, scored=False)
    api.state.faults.append(
        Fault("POST", "pytorchjobs", lambda handler: handler.refuse(403, "exceeded quota"), query="dryRun=All")
    )
    code, _, err = launch("resume", "demo")
    assert code == 4
    assert "exceeded quota" in err
    assert JOB_PATH in api.state.objects


def test_settings_are_printed_when_the_job_is_lost_nevertheless(launch, api, ended, output):
    """A quota that is used up between the question and the deed; they are nowhere else."""
    write_run(output, scored=False)
    asked = Fault("POST", "pytorchjobs", lambda handler: handler.serve(), times=2)  # for a trial, and by submit
    made = Fault("POST", "pytorchjobs", lambda handler: handler.refuse(403, "too late"))
    api.state.faults.extend([asked, made])
    code, _, err = launch("resume", "demo")
    assert code == 4
    assert JOB_PATH not in api.state.objects
    assert 'backoff: "7"' in err


@pytest.mark.parametrize(
    ("form", "expected"), [("client", "kind: PyTorchJob"), ("server", "pytorchjob.kubeflow.org/demo")]
)
def test_dry_run_changes_nothing(launch, api, ended, output, form, expected):
    write_run(output, scored=False)
    before = dict(api.state.objects)
    code, out, _ = launch("resume", "demo", f"--dry-run={form}")
    assert code == 0
    assert expected in out
    assert api.state.objects == before


def test_run_that_has_reached_its_end_is_not_started_again(launch, api, ended, output):
    """It could only end at once."""
    write_run(output)
    code, _, err = launch("resume", "demo")
    assert code == 2
    assert "nothing left to train, it has reached its last step 30" in err
    assert "launcher pull demo" in err
    assert JOB_PATH in api.state.objects


def test_run_that_was_stopped_before_its_scores_is_started_again(launch, ended, output):
    write_run(output, scored=False)
    assert launch("resume", "demo")[0] == 0


def test_other_settings_are_refused_here_and_not_by_the_trainer(launch, api, ended, output):
    """After a pod has pulled an image and read the labels."""
    write_run(output, scored=False)
    code, _, err = launch("resume", "demo", "--set", "train_flags=[--preset, smoke, --epochs, 8, --batch-size, 4]")
    assert code == 2
    assert "epochs: 3 in the run, 8 now" in err
    assert "launcher clone demo" in err
    code, _, err = launch("resume", "demo", "--set", "workers=4")
    assert code == 2
    assert "global_batch: 8 in the run, 16 now" in err
    assert JOB_PATH in api.state.objects


def test_path_that_a_run_has_redacted_is_no_other_setting():
    """The trainer would go on with it."""
    weights = "/data/api_key=abc123def/w.pt"
    train = from_argv(["--data", "d", "--output", "o", "--name", "demo", "--weights", weights])
    job = SimpleNamespace(train=train, workers=1)
    recorded = decisive_settings(train, precision="fp32", global_batch=train.batch_per_worker(1))
    for before in ("/data/api_key=***", weights):
        assert run_resume.differences(job, {"identity": recorded | {"weights": before}}) == []
    assert run_resume.differences(job, {"identity": recorded | {"weights": "/data/w.pt"}}) != []


def test_positive_class_is_that_of_the_run_unless_another_is_named():
    """A record of an earlier version has none: that run took the last by name."""
    flags = ["--data", "d", "--output", "o", "--name", "demo", "--preset", "pneumonia"]
    train = from_argv(flags)
    recorded = decisive_settings(train, precision="fp32", global_batch=64) | {"findings": ["Abnormal", "Normal"]}
    for identity, kept, other in (
        (recorded, "Normal", "Abnormal"),
        (recorded | {"positive_class": "Abnormal"}, "Abnormal", "Normal"),
    ):
        record = {"identity": identity}
        jobs = [
            SimpleNamespace(train=from_argv([*flags, *more]), workers=1)
            for more in ((), ("--positive-class", kept), ("--positive-class", other))
        ]
        assert [run_resume.differences(job, record) for job in jobs] == [
            [],
            [],
            [f"positive_class: {kept} in the run, {other} now"],
        ]


@pytest.mark.parametrize(
    ("recorded", "kept"),
    [
        ({}, {}),
        ({"gaudi_mode": "lazy"}, {}),
        ({"gaudi_mode": "compile"}, {"gaudi_mode": "compile"}),
        ({"gaudi_mode": "eager"}, {"gaudi_mode": "eager"}),
        ({"gaudi_mode": ["x"]}, {}),
        ({"gaudi_mode": "\x1b"}, {}),
    ],
)
def test_job_made_from_a_record_has_the_mode_of_the_run(recorded, kept):
    """Otherwise the default would change it; the default itself stays unsaid, so that another accelerator can be chosen."""
    earlier = run_resume.EarlierRun(
        "s3://cxr/runs/demo", record() | {"device": "hpu"} | recorded, None, is_scored=False
    )
    settings = run_resume.settings_of("demo", earlier)
    assert settings["accelerator"] == "gaudi"
    assert {key: value for key, value in settings.items() if key == "gaudi_mode"} == kept


def test_job_made_from_a_record_has_the_choices_of_labels_of_the_run():
    """Without them the trainer would refuse to resume; JSON has lists where flags are given several times."""
    chosen = ("--uncertain=ignore", "--uncertain=Edema=ones", "--rename=Fluid=Effusion", "--blank=zeros")
    written = json.loads(json.dumps(record(*chosen)))
    earlier = run_resume.EarlierRun("s3://cxr/runs/demo", written, None, is_scored=False)
    flags = run_resume.settings_of("demo", earlier)["train_flags"]
    assert [flag for flag in flags if flag in chosen] == [chosen[2], chosen[0], chosen[1], chosen[3]]
    assert not any(flag.startswith("--projection") for flag in flags)


def test_settings_are_compared_as_the_trainer_compares_them(launch, api, ended, output):
    """What the trainer would refuse in the pod is refused before the job is replaced."""
    storage = write_run(output, scored=False)
    record = json.loads(storage.read("run.json"))
    del record["identity"]["optimizer"]
    storage.write("run.json", json.dumps(record).encode())
    code, _, err = launch("resume", "demo")
    assert code == 2
    assert "optimizer: None in the run, adam now" in err
    assert JOB_PATH in api.state.objects


def test_run_without_a_checkpoint_starts_from_the_beginning(launch, ended, output):
    """Its job failed before the first one."""
    open_storage(f"{output}/demo").write("starts.json", b"{}")
    code, _, err = launch("resume", "demo")
    assert code == 0
    assert "has no checkpoint and starts from the beginning" in err


def test_run_that_this_machine_cannot_read_is_resumed_nevertheless(launch, api, ended):
    """The trainer looks again; only the nodes may see its output."""
    code, _, err = launch("resume", "demo")
    assert code == 0
    assert "the run was not checked" in err


def test_job_with_resume_never_is_resumed(launch, api, cluster, output, s3):
    """`--resume never` was for its first start."""
    launch("submit", *FLAGS, f"--output={output}", "--name=demo", "--", *TRAIN_FLAGS, "--resume", "never")
    set_state(api, "Failed")
    write_run(output, scored=False)
    assert launch("resume", "demo")[0] == 0
    assert settings(cluster)["train_flags"] == TRAIN_FLAGS


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        (["--resume", "never", "--epochs", "3"], ["--epochs", "3"]),
        (["--epochs", "3", "--resume=never"], ["--epochs", "3"]),
        (["--resume=auto"], None),
        ([], None),
    ],
)
def test_resume_flag_is_removed_from_the_trainer_flags(flags, left):
    assert run_resume.without_resume_flag({"train_flags": flags, "workers": "2"}) == (
        {"workers": "2"} | ({"train_flags": left} if left else {})
    )


def test_job_that_is_gone_is_made_from_what_the_run_tells_and_todays_settings(launch, cluster, tmp_path, s3):
    """The run tells accelerator, workers and recipe; image and data stand in launcher.yaml."""
    write_run("s3://cxr/runs", scored=False)
    (tmp_path / "launcher.yaml").write_text(
        f"image: r/c:2\ndata: s3://cxr/nih\noutput: s3://cxr/runs\ns3_endpoint: {s3}\ntrain_flags: [--epochs, 9]\n",
        encoding="utf-8",
    )
    code, out, err = launch("resume", "demo")
    assert (code, out) == (0, "pytorchjob.kubeflow.org/demo\n"), err
    assert "resumes from step 30" in err
    made = settings(cluster)
    assert (made["accelerator"], made["workers"], made["image"]) == ("cpu", "2", "r/c:2")
    assert made["s3_endpoint"] == s3
    args = get_job(cluster, "demo")["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0][
        "args"
    ]
    config = from_argv(args[args.index("train") + 1 :])
    assert (config.epochs, config.preset, config.batch_size) == (3, "smoke", 4)


def test_all_missing_settings_are_named(launch, s3):
    """At once, not one after the other."""
    write_run("s3://cxr/runs", scored=False)
    code, _, err = launch("resume", "demo", "--output", "s3://cxr/runs")
    assert code == 2
    assert "`image`, `data`" in err
    assert "--set image=REGISTRY/NAME:TAG" in err
    flags = ["--set", "image=i", "--set", "data=s3://cxr/nih"]
    assert launch("resume", "demo", "--output", "s3://cxr/runs", *flags)[0] == 0


def test_without_job_and_run_json_nothing_is_resumed(launch, output):
    """There is nothing to go on with."""
    code, _, err = launch("resume", "demo", "--output", output)
    assert code == 2
    assert "no record of the run" in err
    assert "launcher submit --name demo" in err


def test_without_job_and_output_the_error_names_both_ways(launch):
    code, _, err = launch("resume", "demo")
    assert code == 4
    assert "there is no job `demo`" in err
    assert "--output" in err


def test_run_json_of_another_version_is_reported(launch, output):
    """Its flags may mean something else."""
    storage = open_storage(f"{output}/demo")
    other = record()
    other["config"]["new_in_2"] = True
    storage.write("run.json", json.dumps(other).encode())
    code, _, err = launch("resume", "demo", "--output", output)
    assert code == 2
    assert "another version" in err


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"config": 3, "identity": {}}'])
def test_invalid_run_json_is_reported(launch, output, content):
    """Not a traceback."""
    open_storage(f"{output}/demo").write("run.json", content)
    code, _, err = launch("resume", "demo", "--output", output)
    assert code == 2
    assert "not a valid record of a run" in err


def test_user_must_confirm_before_the_old_job_is_removed(launch, api, ended, output, monkeypatch):
    """A terminal is one who may say no."""
    write_run(output, scored=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: "n\n", raising=False)
    code, _, err = launch("resume", "demo")
    assert code == 130
    assert "remove the finished job demo in team-a and submit it again?" in err
    assert JOB_PATH in api.state.objects
    assert launch("resume", "demo", "-y")[0] == 0


def test_resume_wait_exits_as_the_job_ends(launch, api, ended, output):
    """As with submit."""
    write_run(output, scored=False)

    def made_and_over(handler):
        handler.serve()
        set_state(api, "Failed")

    passed = Fault("POST", "pytorchjobs", lambda handler: handler.serve(), times=2)
    api.state.faults.extend([passed, Fault("POST", "pytorchjobs", made_and_over)])
    assert launch("resume", "demo", "--wait")[0] == 3


def test_flags_that_do_not_go_together_are_refused_before_anything(launch, api, ended):
    assert launch("resume", "demo", "--wait", "--follow")[0] == 2
    assert launch("resume", "demo", "--timeout", "3s")[0] == 2
    assert JOB_PATH in api.state.objects


def test_submit_over_a_finished_job_suggests_resume(launch, ended, output):
    """Which is what most want."""
    code, _, err = launch("submit", *FLAGS, f"--output={output}", "--name=demo", "--backoff=7", "--", *TRAIN_FLAGS)
    assert code == 2
    assert "launcher resume demo" in err
    assert "launcher clone demo" in err


def test_resumed_job_shows_as_yaml(launch, ended, output):
    write_run(output, scored=False)
    job = list(yaml.safe_load_all(launch("resume", "demo", "--dry-run=client")[1]))[-1]
    assert job["metadata"]["name"] == "demo"


def lost_after_delete(api, kind):
    """The server takes a trial, removes the job, and from then on is of no use."""

    def gone(handler):
        api.state.faults.append(Fault("GET", "pytorchjobs", lambda each: each.refuse(500, "etcd down"), times=99))
        handler.refuse(500, "etcd down")

    def taken(handler):
        api.state.put(JOB_PATH, {"metadata": {"name": "demo"}, "spec": {}})
        handler.refuse(409, "already exists")

    last = {"server": gone, "name": taken}[kind]
    tried = Fault("POST", "pytorchjobs", lambda handler: handler.serve(), times=2)
    api.state.faults.extend([tried, Fault("POST", "pytorchjobs", last, times=99)])


@pytest.mark.parametrize("kind", ["server", "name"])
def test_settings_are_printed_whatever_the_server_answers_once_the_job_is_removed(launch, api, ended, output, kind):
    """They are nowhere else, and a server that fails can't be asked whether the job is there."""
    write_run(output, scored=False)
    lost_after_delete(api, kind)
    code, _, err = launch("resume", "demo")
    assert code in {2, 4}
    assert 'backoff: "7"' in err


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), TimeLimitError("gave up waiting for a pod")])
def test_settings_are_printed_when_waiting_for_the_old_pods_ends_early(
    launch, api, ended, output, monkeypatch, problem
):
    """By Ctrl-C, or after five minutes: the job is on its way out by then."""
    write_run(output, scored=False)

    def stuck(*_):
        raise problem

    monkeypatch.setattr("launcher.jobs.delete._wait_until_gone", stuck)
    code, _, err = launch("resume", "demo")
    assert code in {124, 130}
    assert JOB_PATH not in api.state.objects
    assert 'backoff: "7"' in err


def test_printed_settings_recreate_the_job(launch, api, ended, output, cluster, tmp_path):
    """That is what they are told for."""
    write_run(output, scored=False)
    before = settings(cluster)
    api.state.faults.extend(
        [
            Fault("POST", "pytorchjobs", lambda handler: handler.serve(), times=2),
            Fault("POST", "pytorchjobs", lambda handler: handler.refuse(403, "too late")),
        ]
    )
    _, _, err = launch("resume", "demo")
    told = (
        err.partition("launcher submit --name demo -n team-a --file FILE ")[2].partition("`:\n")[2].partition("\n\n")[0]
    )
    (tmp_path / "told.yaml").write_text(told, encoding="utf-8")
    assert launch("submit", "--file=told.yaml", "--name=demo", "--namespace=team-a")[0] == 0
    assert settings(cluster) == before


def spoil_all(storage):
    """Every manifest cut short."""
    for key in storage.keys("checkpoints/"):
        if key.endswith("manifest.json"):
            storage.write(key, b"{")


def spoil_record(storage):
    storage.write("run.json", b"{")


def write_other_format(storage):
    storage.write("checkpoints/step-00000040/manifest.json", json.dumps({"format": 99}).encode())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_all, "all its checkpoints are damaged"),
        (spoil_record, "not a valid record of a run"),
        (write_other_format, "its format is 99"),
    ],
)
def test_job_is_kept_when_its_run_cannot_be_resumed(launch, api, ended, output, spoil, reason):
    """The trainer would refuse, and the old job with its log would be gone."""
    spoil(write_run(output, scored=False))
    code, _, err = launch("resume", "demo")
    assert code == 2
    assert reason in err
    assert JOB_PATH in api.state.objects


def test_damaged_newest_checkpoint_is_reported_and_the_one_before_is_used(launch, ended, output):
    write_run(output, scored=False).write("checkpoints/step-00000030/manifest.json", b"{")
    code, _, err = launch("resume", "demo")
    assert code == 0
    assert "step-00000030/manifest.json`, which is damaged" in err
    assert "resumes from step 20" in err


def test_output_that_is_not_the_jobs_is_refused(launch, api, ended, output, tmp_path):
    """What was looked at would not be what goes on."""
    write_run(output, scored=False)
    write_run(f"{tmp_path}/other", scored=False)
    code, _, err = launch("resume", "demo", "--output", f"{tmp_path}/other")
    assert code == 2
    assert f"the run of its job is in `{output}`" in err
    assert JOB_PATH in api.state.objects
    assert launch("resume", "demo", "--output", "runs/")[0] == 0, "the job's own, named otherwise"


def test_output_that_only_nodes_see_is_read_where_it_is_mounted_here(launch, ended, tmp_path):
    """By no other name would this machine find it."""
    write_run(f"{tmp_path}/mounted", scored=False)
    code, _, err = launch("resume", "demo", "--output", f"{tmp_path}/mounted")
    assert code == 0
    assert "resumes from step 30" in err


def test_endpoint_of_this_machine_does_not_reach_the_pods(launch, cluster, s3):
    """A tunnel's end here would stand in every pod."""
    write_run("s3://cxr/runs", scored=False)
    flags = ["--output=s3://cxr/runs", f"--s3-endpoint={s3}", "--s3-region=us-east-1"]
    given = ["--set", "image=i", "--set", "data=s3://cxr/nih", "--set", "data_access=api"]
    code, _, err = launch("resume", "demo", *flags, *given)
    assert code == 0
    assert not {"s3_endpoint", "s3_region"} & settings(cluster).keys()
    assert "set that of the job with --set s3_endpoint=URL" in err
    launch("delete", "demo", "-y")
    assert launch("resume", "demo", *flags, *given, "--set", "s3_endpoint=http://minio.s3:9000")[0] == 0
    assert settings(cluster)["s3_endpoint"] == "http://minio.s3:9000"


def test_dry_run_of_a_run_whose_output_is_typed_needs_no_cluster(capsys, tmp_path, monkeypatch):
    """As that of submit."""
    monkeypatch.chdir(tmp_path)
    write_run("runs", scored=False)
    given = ["--set", "image=i", "--set", "data=/data", "-n", "team-b"]
    assert main(["resume", "demo", "--output=runs", "--dry-run=client", *given]) == 0
    out, err = capsys.readouterr()
    assert "assuming that the job does not exist" in err
    assert yaml.safe_load(out)["metadata"]["namespace"] == "team-b"
    assert main(["resume", "demo", "--output=runs", "--dry-run=server", *given]) != 0


@pytest.mark.parametrize("change", ["name=other", "namespace=team-b", "output=s3://cxr/other"])
def test_name_and_output_cannot_be_changed(launch, api, ended, output, change):
    """It would be ignored, or begin another run."""
    write_run(output, scored=False)
    code, _, err = launch("resume", "demo", "--set", change)
    assert code == 2
    assert f"cannot change `{change.partition('=')[0]}`" in err
    assert JOB_PATH in api.state.objects


def test_train_job_is_resumed_as_one_and_moved_to_it_on_request(launch, api, cluster, ended, output):
    """A migration: the run goes on under the other kind, and stays there."""
    api.state.serve_trainer()
    write_run(output, scored=False)
    before = settings(cluster)
    code, out, err = launch("resume", "demo", "--set", "api=trainjob")
    assert (code, out) == (0, "trainjob.trainer.kubeflow.org/demo\n")
    assert "removed pytorchjob.kubeflow.org/demo" in err
    assert settings(cluster) == before | {"api": "trainjob"}
    place = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainjobs/demo"
    complete = {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}
    api.state.put(place, dict(api.state.objects[place]) | {"status": complete})
    code, out, err = launch("resume", "demo")
    assert (code, out) == (0, "trainjob.trainer.kubeflow.org/demo\n")
    assert "removed trainjob.trainer.kubeflow.org/demo" in err
    assert "status" not in api.state.objects[place]


TRAIN_JOB_PATH = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainjobs/demo"


@pytest.mark.parametrize("flag", ["--api=trainjob", "--set=api=trainjob"])
def test_job_of_the_other_kind_is_resumed_as_the_kind_of_the_flag(launch, api, ended, output, flag):
    """`--api` must be neither ignored nor hide the job."""
    api.state.serve_trainer()
    write_run(output, scored=False)
    code, out, err = launch("resume", "demo", flag)
    assert (code, out) == (0, "trainjob.trainer.kubeflow.org/demo\n"), err
    assert JOB_PATH not in api.state.objects


def test_kind_of_a_deleted_job_is_that_of_the_flag(launch, api, tmp_path, s3):
    """The cluster's usual kind would change it back."""
    api.state.serve_trainer()
    write_run("s3://cxr/runs", scored=False)
    words = ["resume", "demo", "--output=s3://cxr/runs", "--set=image=i", "--set=data=s3://cxr/nih", "--api=trainjob"]
    code, _, err = launch(*words, "--set=api=pytorchjob")
    assert code == 2
    assert "cannot make a job with --api trainjob and --set api=pytorchjob" in err
    code, out, err = launch(*words)
    assert (code, out) == (0, "trainjob.trainer.kubeflow.org/demo\n"), err


@pytest.mark.parametrize("flags", [["--api=pytorchjob"], ["--api=pytorchjob", "--set=api=trainjob"]])
def test_job_beside_one_of_the_other_kind_is_not_deleted(launch, api, ended, output, flags):
    """The new job would be refused after the deletion: it would share the run of the other one."""
    api.state.serve_trainer()
    write_run(output, scored=False)
    api.state.put(TRAIN_JOB_PATH, {"metadata": {"name": "demo", "namespace": "team-a"}, "spec": {"trainer": {}}})
    before = dict(api.state.objects)
    code, _, err = launch("resume", "demo", *flags)
    assert code == 2
    assert "cannot resume `demo`: there is a PyTorchJob and a TrainJob of this name" in err
    assert re.search("launcher delete demo .*--api trainjob deletes the TrainJob", err)
    assert api.state.objects == before
