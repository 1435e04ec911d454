"""`launcher scale`: one job at several sizes, in order, once, and what is told of them."""

import dataclasses
import sys
from pathlib import Path

import pytest
from apiserver import Fault
from finished import leave_results

import launcher.commands.scale
import launcher.scale.queue
from launcher.__main__ import main
from launcher.cluster.client import open_cluster
from launcher.jobs.find import settings_of
from launcher.kinds.pytorchjob import ROLE_LABEL, index_label, job_label
from launcher.scale.members import ScaleSpec, members
from launcher.scale.results import Reach
from trainer.config import from_argv
from trainer.data.synthetic import write_phantoms
from trainer.storage import NoProxyError, UnreachableError

PLACE = "/apis/kubeflow.org/v1/namespaces/team-a/pytorchjobs"
JOB = ["--accelerator=cpu", "--image=i", "--data=s3://cxr/nih", "--data-access=api", "--name=chest"]
RECIPE = ["--", "--preset", "smoke", "--epochs", "3"]


class Operator:
    """In place of sleeping, every job in the cluster goes on by one state; its run ends with it."""

    def __init__(self, api, output):
        self.api, self.output = api, output
        self.ends: dict[str, str] = {}
        """How jobs end that do not succeed."""
        self.stays: list[str] = []
        """States in which jobs stay for one more look."""
        self.interrupt = False
        self.most = 0
        """So many jobs were there at once that were not over."""

    def __call__(self, seconds):
        if self.interrupt:
            raise KeyboardInterrupt
        alive = [path for path in self.api.state.objects if path.startswith(PLACE) and not self.state(path)[2:]]
        self.most = max(self.most, len(alive))
        for path in alive:
            self.go_on(path)

    def state(self, path):
        return [each["type"] for each in self.api.state.objects[path].get("status", {}).get("conditions", [])]

    def go_on(self, path):
        job, states = self.api.state.objects[path], self.state(path)
        if states[-1:] and states[-1] in self.stays:
            self.stays.remove(states[-1])
            return
        name = job["metadata"]["name"]
        states.append(["Created", "Running", self.ends.get(name, "Succeeded")][len(states)])
        if states[-1] == "Succeeded":
            [replica] = job["spec"]["pytorchReplicaSpecs"].values()
            args = replica["template"]["spec"]["containers"][0]["args"]
            flags = args[next(index for index, word in enumerate(args) if word.startswith("--data=")) :]
            leave_results(self.output, name, from_argv(flags), int(settings_of(job).get("workers", 1)))
        conditions = [{"type": each, "status": "True"} for each in states]
        self.api.state.put(path, dict(job) | {"status": {"conditions": conditions}})
        if states[-1] == "Gone":
            self.api.state.remove(path)


def waiting_by(operator, cluster):
    """The cluster, whose waiting is the operator's work."""
    return dataclasses.replace(cluster, connection=dataclasses.replace(cluster.connection, sleep=operator))


PYTHON = f"""#!{sys.executable}
import pathlib, sys
sys.path[:0] = [{str(Path(__file__).parents[3])!r}, {str(Path(__file__).parents[1])!r}]
if "--format" in sys.argv:
    from trainer.__main__ import main
    sys.exit(main(sys.argv[sys.argv.index("report"):]))
pathlib.Path(__file__).with_name("calls").open("a").write(" ".join(sys.argv[1:]) + "\\n")
print("said by the program")
if "report" in sys.argv:
    if pathlib.Path(__file__).with_name("no-plots").exists():
        sys.exit(2)
    start = sys.argv.index("--out")
    out = pathlib.Path(sys.argv[start + 1])
    runs = [name.rpartition("/")[2] for name in sys.argv[sys.argv.index("report") + 1 : start]]
    lines = [",".join([name, name.split("-")[1], name.rpartition("-w")[2]]) for name in runs]
    (out / "scaling.csv").write_text("\\n".join(["run,model,workers", *lines]))
    for page in ("index.html", "scaling.png"):
        (out / page).write_text("x")
else:
    from finished import leave_results
    from trainer.config import from_argv
    start = next(index for index, word in enumerate(sys.argv) if word.startswith("--data="))
    config = from_argv(sys.argv[start:])
    if "w2" in config.name and pathlib.Path(__file__).with_name("no-w2").exists():
        sys.exit(2)
    leave_results(config.output, config.name, config, int(config.name.rpartition("w")[2]))
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
    """A program in place of the interpreter that trains and plots; the folder where it notes what it was called with."""
    folder = tmp_path / "python"
    folder.mkdir()
    (folder / "python").write_text(PYTHON, encoding="utf-8")
    (folder / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return folder


@pytest.fixture
def output(tmp_path):
    (tmp_path / "runs").mkdir()
    return str(tmp_path / "runs")


@pytest.fixture
def operator(api, output):
    return Operator(api, output)


@pytest.fixture
def scale(api, kubeconfig, operator, output, python, capfd, tmp_path, monkeypatch):
    """Run the command against the double, whose jobs go on whenever it waits: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launcher.commands.scale, "open_cluster", lambda on: waiting_by(operator, open_cluster(on)))

    def run(*flags, recipe=RECIPE, job=JOB):
        usual = [f"--output={output}", "--to=all", *job]
        given = {flag.partition("=")[0] for flag in flags}
        usual = [flag for flag in usual if flag.partition("=")[0] not in given]
        code = main(["scale", f"--kubeconfig={kubeconfig}", *usual, *flags, *recipe])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def created(api):
    """Names of the jobs that were made, in order."""
    return [body["metadata"]["name"] for _, kind, path, body in api.state.changes if kind == "ADDED" and PLACE in path]


def table(out):
    """The rows of the printed table, each a list of cells."""
    return [line.split() for line in out.splitlines()[1:]]


def test_jobs_run_one_after_the_other_the_smallest_first(scale, api, operator):
    """Two at once would slow each other down, and the times would compare nothing."""
    code, out, err = scale("--workers=4,1,2", "--models=densenet121,vgg16")
    assert code == 0, err
    names = [f"chest-{model}-w{size}" for model in ("densenet121", "vgg16") for size in (1, 2, 4)]
    assert created(api) == names
    assert operator.most == 1
    assert table(out)[1] == ["densenet121", "2", "16", "62.50", "1.60", "0.80", "-", "-", "0.8000", "-", "-"]
    assert err.index("chest-vgg16-w2: Running") < err.index("chest-vgg16-w4: submitted")


def test_jobs_run_at_once_when_asked_for(scale, api, operator):
    code, _, err = scale("--workers=1,2,4", "--parallel=2")
    assert code == 0, err
    assert operator.most == 2
    assert len(created(api)) == 3


def test_results_are_gathered_and_plotted_by_the_trainer(scale, python, tmp_path):
    """One folder for each run; stdout holds the table alone."""
    code, out, err = scale("--workers=1,2")
    assert code == 0, err
    folders = [f"all/chest-densenet121-w{size}" for size in (1, 2)]
    assert all((tmp_path / folder / "results.json").is_file() for folder in folders)
    assert (python / "calls").read_text() == f"-m trainer report {' '.join(folders)} --out all\n"
    assert "said by the program" not in out
    assert err.endswith("all/index.html\nall/scaling.png\n")


def test_single_run_is_not_compared(scale, python):
    """It has a report of its own, and what an earlier call compared stays."""
    assert scale("--workers=1,2")[0] == 0
    (python / "calls").unlink()
    code, out, err = scale("--workers=2")
    assert (code, len(table(out))) == (0, 1)
    assert not (python / "calls").exists()
    assert "scaling.png" not in err
    assert err.endswith("all/chest-densenet121-w2/report/index.html\n")


@pytest.mark.parametrize("name", ["scaling.csv", "index.html", "scaling.png"])
def test_pages_are_not_written_through_links(scale, api, tmp_path, name):
    """A link may lead to another's file, whether that is there or not."""
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / name).symlink_to(tmp_path / "theirs")
    code, out, err = scale("--workers=1,2")
    assert (code, out) == (2, "")
    assert f"it holds `{name}`" in err
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ({"scaling.csv": "run,model,workers\nlung-vgg16-w1,vgg16,1\n"}, "`lung-vgg16-w1`"),
        ({"scaling.csv": "run,model,workers\nchest-2-vgg16-w1,vgg16,1\n"}, "`chest-2-vgg16-w1`"),
        ({"scaling.csv": "a,b\n1,2\n"}, "`scaling.csv`"),
        ({"index.html": "somebody's"}, "`index.html`"),
        ({"scaling.png": "somebody's"}, "`scaling.png`"),
    ],
)
def test_pages_of_others_are_not_written_over(scale, api, tmp_path, left, words):
    """Two comparisons in one directory would have one page, and it may be no comparison at all."""
    (tmp_path / "all").mkdir()
    for name, content in left.items():
        (tmp_path / "all" / name).write_text(content, encoding="utf-8")
    code, out, err = scale("--workers=1,2")
    assert (code, out) == (2, "")
    assert f"cannot gather runs in `all`: it holds {words}, which is not part of `chest` (from `--to`)" in err
    assert {path.name: path.read_text() for path in (tmp_path / "all").iterdir()} == left
    assert created(api) == []


def test_comparison_in_its_directory_grows_with_further_sizes(scale):
    """Fewer sizes, more sizes and other models are the same comparison."""
    for flags in (["--workers=1,2"], ["--workers=1,2,4"], ["--workers=2,4", "--models=densenet121,vgg16"]):
        code, _, err = scale(*flags)
        assert code == 0, err


def test_table_is_printed_where_no_plot_can_be_made(scale, python):
    (python / "no-plots").touch()
    code, out, err = scale("--workers=1,2")
    assert code == 2
    assert len(table(out)) == 2
    assert "cannot plot: `trainer report` failed with exit code 2" in err


def test_every_job_is_checked_before_the_first_is_created(scale, api):
    """The second is refused after hours otherwise."""
    refused = Fault("POST", "pytorchjobs", lambda handler: handler.refuse(403, "exceeded quota"), query="dryRun=All")
    asked = Fault("POST", "pytorchjobs", lambda handler: handler.serve(), query="dryRun=All")
    api.state.faults.extend([asked, refused])
    code, _, err = scale("--workers=1,2")
    assert code == 4
    assert "exceeded quota" in err
    assert created(api) == []


def test_repeated_call_starts_nothing(scale, api, operator):
    """Also where the jobs are gone from the cluster: the runs tell it."""
    assert scale("--workers=1,2")[0] == 0
    for path in [path for path in api.state.objects if path.startswith(PLACE)]:
        api.state.remove(path)
    before = len(api.state.requests)
    code, out, err = scale("--workers=1,2")
    assert (code, len(table(out)), len(api.state.requests)) == (0, 2, before)
    assert "chest-densenet121-w2: it already has results" in err


def test_interrupt_leaves_the_job_and_the_same_call_follows_it(scale, api, operator):
    operator.interrupt = True
    code, out, err = scale("--workers=1,2")
    assert (code, out) == (130, "")
    assert "no longer following `chest-densenet121-w1`: it continues" in err
    assert "hint: run the same command again to resume; launcher delete chest-densenet121-w1 --kubeconfig " in err
    assert created(api) == ["chest-densenet121-w1"]
    operator.interrupt = False
    code, _, err = scale("--workers=1,2")
    assert code == 0, err
    assert created(api) == ["chest-densenet121-w1", "chest-densenet121-w2"]
    assert "w1: submitted" not in err


def test_failed_job_is_named_and_the_others_continue(scale, api, operator):
    operator.ends["chest-densenet121-w1"] = "Failed"
    code, out, err = scale("--workers=1,2,4")
    assert code == 3
    assert "1 of 3 runs have no results:\n  chest-densenet121-w1: " in err
    assert "next: python -m launcher logs chest-densenet121-w1" in err
    assert [row[3:6] for row in table(out)] == [["-", "-", "-"], ["62.50", "1.00", "1.00"], ["50.00", "1.25", "0.62"]]


def test_long_wait_is_reported_with_its_reason(scale, api, operator, monkeypatch):
    """Somebody sits before it, for hours."""
    monkeypatch.setattr(launcher.scale.queue, "REPORT_EVERY_S", 0.0)
    name = "chest-densenet121-w1"
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    labels = {job_label: name, ROLE_LABEL: "master", index_label: "0"}
    pod = {
        "metadata": {"name": f"{name}-master-0", "namespace": "team-a", "labels": labels},
        "spec": {"containers": [{"name": "pytorch", "image": "i"}]},
        "status": {"phase": "Pending", "conditions": [unscheduled]},
    }
    api.state.put(f"/api/v1/namespaces/team-a/pods/{name}-master-0", pod)
    operator.stays = ["Created"]
    code, _, err = scale("--workers=1")
    assert code == 0, err
    assert f"{name}: Created\n{name}: Created, master-0 Pending" in err


def test_unreachable_server_ends_scale_while_jobs_continue(scale, api, operator, monkeypatch):
    monkeypatch.setattr(launcher.scale.queue, "AWAY_S", 0.0)
    go_on = operator.go_on

    def leave(path):
        go_on(path)
        api.state.fail("GET", path, 503, "etcd is away", times=99)

    operator.go_on = leave
    code, out, err = scale("--workers=1,2")
    assert (code, out) == (4, "")
    assert "run the same command again to resume" in err
    assert created(api) == ["chest-densenet121-w1"]


def test_job_that_has_failed_is_made_again_by_the_same_call(scale, api, operator):
    """Its run goes on from its newest checkpoint, as with `launcher resume`."""
    operator.ends["chest-densenet121-w1"] = "Failed"
    assert scale("--workers=1,2")[0] == 3
    operator.ends.clear()
    code, _, err = scale("--workers=1,2")
    assert code == 0, err
    assert "chest-densenet121-w1: finished without results, is created again" in err
    assert created(api) == [f"chest-densenet121-w{size}" for size in (1, 2, 1)]


def test_finished_job_that_is_deleted_is_no_failure(scale, api, operator, output):
    """`--ttl` removes those that succeeded."""
    operator.ends["chest-densenet121-w2"] = "Gone"
    code, _, err = scale("--workers=1,2")
    assert code == 3
    assert "chest-densenet121-w2: the job `chest-densenet121-w2` was deleted meanwhile" in err

    def finish_and_go(path, go_on=operator.go_on):
        go_on(path)
        if operator.state(path)[2:]:
            api.state.remove(path)

    operator.ends.clear()
    operator.go_on = finish_and_go
    code, _, err = scale("--workers=1,2")
    assert code == 0, err


def test_job_refused_later_does_not_stop_the_others(scale, api, operator):
    """A quota that was used up meanwhile."""
    served = Fault("POST", "pytorchjobs", lambda handler: handler.serve(), times=4)  # asked twice each, then made
    api.state.faults.extend([served, Fault("POST", "pytorchjobs", lambda handler: handler.refuse(403, "used up"))])
    code, out, err = scale("--workers=1,2")
    assert code == 3
    assert "used up" in err
    assert len(created(api)) == 1
    assert len(table(out)) == 2


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (["--", "--preset", "smoke", "--epochs", "4"], "epochs: 3 in the run, 4 now"),
        (
            ["--", "--preset", "smoke", "--epochs", "3", "--global-batch-size", "8"],
            "global_batch: 16 in the run, 8 now",
        ),
    ],
)
def test_runs_of_other_settings_are_not_compared(scale, api, recipe, words):
    """Neither as results nor by going on with them."""
    assert scale("--workers=1,2")[0] == 0
    before = created(api)
    code, out, err = scale("--workers=1,2", recipe=recipe)
    assert (code, out) == (2, "")
    assert words in err
    assert created(api) == before


def test_results_of_fewer_steps_are_ignored(scale, api):
    """A trial of ten steps is no training."""
    assert scale("--workers=1", recipe=[*RECIPE, "--max-steps", "10"])[0] == 0
    code, _, err = scale("--workers=1")
    assert code == 0, err
    assert created(api) == ["chest-densenet121-w1"] * 2


@pytest.mark.parametrize(
    ("flags", "recipe", "words"),
    [
        (["--workers=1,3"], RECIPE, "cannot divide a global batch of 16 (the preset's batch) evenly among 3 workers"),
        (["--workers=1,3"], RECIPE, "hint: -- --global-batch-size 18"),
        (["--workers=2,5"], [*RECIPE, "--global-batch-size", "32"], "32 (--global-batch-size) evenly among 5 workers"),
        (["--workers=1,2"], [*RECIPE, "--batch-size", "8"], "hint: -- --global-batch-size 8; or --weak"),
        (
            ["--workers=1", "--weak"],
            [*RECIPE, "--global-batch-size", "8"],
            "cannot use --weak, with which the global batch grows",
        ),
        (["--workers=1,1"], RECIPE, "`1` is given twice"),
        (["--workers=1", "--workers=2"], RECIPE, "cannot use --workers more than once\n\nhint: --workers 1,2"),
        (["--workers=1", "--models=vgg16", "--models=resnet50"], RECIPE, "hint: --models vgg16,resnet50"),
        (["--workers=1,"], RECIPE, "it has an empty part"),
        (["--workers=0,1"], RECIPE, "each size must be 1 to 4096, got `0`"),
        (["--workers=1,two"], RECIPE, "got `two`"),
        (["--workers=1,99999999999999999999"], RECIPE, "each size must be 1 to 4096"),
        (["--workers=1", "--models=vgg16,vgg16"], RECIPE, "`vgg16` is given twice"),
        (["--workers=1", "--models=vgg"], RECIPE, 'for --model. Choose from: "densenet121'),
        (["--workers=1", "--models=vgg16"], [*RECIPE, "--model", "resnet50"], "--model resnet50 after `--`"),
        (
            ["--workers=1,2", "--workers-per-node=2"],
            RECIPE,
            "cannot divide 1 worker (`--workers`) evenly among nodes of 2",
        ),
        (["--workers=1,2", "--elastic=1:2"], RECIPE, "cannot compare sizes with --elastic 1:2"),
        (["--workers=1", "--parallel=0"], RECIPE, "cannot use --parallel 0"),
        (["--workers=1", "--parallel=2", "--local"], RECIPE, "cannot use --parallel with --local"),
        (["--workers=1", "--to="], RECIPE, "it is not a directory"),
        (["--workers=1", "--to=runs"], RECIPE, "cannot gather runs in `runs`: it is the output of the runs"),
        (["--workers=1", "--to=kubeconfig"], RECIPE, "cannot write to `kubeconfig`"),
        (["--workers=1", "--output=/no/such"], RECIPE, "only the cluster's nodes can read that directory"),
        (["--workers=1", f"--name=x{'y' * 40}"], RECIPE, f"hint: --name x{'y' * 37}"),
        (["--workers=1"], [*RECIPE, "--resume", "never"], "cannot compare sizes with --resume never"),
        (["--workers=1"], [*RECIPE, "--epoch", "3"], "Did you mean --epochs?"),
    ],
)
def test_bad_input_is_refused_before_any_job_is_created(scale, api, flags, recipe, words):
    """It is named before anything is made, anywhere."""
    code, out, err = scale(*flags, recipe=recipe)
    assert (code, out) == (2, ""), err
    assert words in err
    assert [method for method, _, _ in api.state.requests if method != "GET"] == []


def test_name_must_be_given(scale):
    """With one that is made up the same call would find no run."""
    code, _, err = scale("--workers=1", job=[flag for flag in JOB if not flag.startswith("--name")])
    assert code == 2
    assert "`--name` not given" in err


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale") / "cxr"
    write_phantoms(folder, images=30, side=32)
    return folder


def here(phantoms):
    return ["--accelerator=cpu", f"--data={phantoms}", "--name=chest", "--local"]


def test_only_failed_local_runs_are_started_again(scale, python, phantoms, api):
    """Without a word to a cluster, and with nothing but the table on stdout."""
    (python / "no-w2").touch()
    code, out, err = scale("--workers=1,2", job=here(phantoms))
    assert code == 3
    assert "chest-densenet121-w2: the job failed: pod `chest-densenet121-w2-master-0` ended with exit code 2" in err
    assert [row[3] for row in table(out)] == ["100.00", "-"]
    assert "said by the program" in err
    (python / "no-w2").unlink()
    (python / "calls").unlink()
    code, out, err = scale("--workers=1,2", job=here(phantoms))
    assert code == 0, err
    assert len((python / "calls").read_text().splitlines()) == 2  # one run, one report
    assert [row[3] for row in table(out)] == ["100.00", "62.50"]
    assert api.state.requests == []


def test_results_are_read_from_the_endpoint_this_machine_reaches(scale, s3, operator):
    """A server in the cluster has another address outside it, and the jobs keep theirs."""
    operator.output = "s3://cxr/runs"
    places = ["--output=s3://cxr/runs", "--s3-endpoint=http://127.0.0.1:9"]
    code, out, err = scale("--workers=1,2", *places, f"--s3-endpoint-here={s3}")
    assert code == 0, err
    assert len(table(out)) == 2


def test_unreachable_s3_server_is_reported_with_the_flag_to_set(s3):
    """The hint for a typed `--s3-endpoint` would change the jobs."""
    [job] = members(ScaleSpec(accelerator="cpu", image="i", data="s3://b/d", output="s3://cxr/r", name="t", sizes=(1,)))
    with pytest.raises(UnreachableError) as caught, Reach().opened(job):
        raise UnreachableError("cannot read: no answer")
    assert "--s3-endpoint-here URL" in str(caught.value.hint)


def test_dead_proxy_keeps_its_own_hint(s3):
    """No address of a server makes it answer."""
    [job] = members(ScaleSpec(accelerator="cpu", image="i", data="s3://b/d", output="s3://cxr/r", name="t", sizes=(1,)))
    with pytest.raises(NoProxyError) as caught, Reach().opened(job):
        raise NoProxyError("cannot read: no connection", hint="check HTTP_PROXY")
    assert caught.value.hint == "check HTTP_PROXY"
