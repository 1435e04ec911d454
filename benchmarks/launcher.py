"""What the launcher costs: its start, and `list` and `status` against kubectl, taking turns in one run.

    python benchmarks/launcher.py                       start-up only
    KUBECONFIG=… python benchmarks/launcher.py --pods 1000   and 200 jobs of 5 simulated pods each (the cluster tool's `nodes`)

The yardstick for commands that talk to the cluster is `kubectl get -o json` of the same objects plus the time in which
Python imports the kubernetes client, the least that a launcher written in Python can take.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ROUNDS = 7
PODS_PER_JOB = 5
NAMESPACE = "launcher-benchmark"

RENDER = [
    "render",
    "--accelerator",
    "gaudi",
    "--workers",
    "8",
    "--image",
    "i",
    "--data",
    "s3://b/d",
    "--output",
    "s3://b/o",
]
LAUNCHER = [sys.executable, "-m", "launcher"]
CLIENT = [sys.executable, "-c", "from kubernetes import client, config"]


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    cpu_s: float
    wall_s: float
    peak_mib: float


def cost(command: Sequence[str]) -> Cost:
    """Run a command in a child that measures it, so that one command's peak memory is not another's."""
    measure = (
        "import json, resource, subprocess, sys, time; start = time.perf_counter();"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode;"
        "took = time.perf_counter() - start; used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps([code, used.ru_utime + used.ru_stime, took, used.ru_maxrss / 1024]))"
    )
    done = subprocess.run([sys.executable, "-c", measure, *command], capture_output=True, text=True, check=True)
    code, cpu_s, wall_s, peak_mib = json.loads(done.stdout)
    assert code == 0, f"{command}: {done.stderr}"
    return Cost(cpu_s, wall_s, peak_mib)


def in_turns(commands: dict[str, Sequence[str]]) -> dict[str, list[Cost]]:
    """Costs of each command, the commands taking turns."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            costs[name].append(cost(command))
    return costs


def show(costs: dict[str, list[Cost]]) -> None:
    """Medians, the spread of processor time, peak memory."""
    for name, each in costs.items():
        cpu = sorted(one.cpu_s for one in each)
        wall = statistics.median(one.wall_s for one in each)
        peak = max(one.peak_mib for one in each)
        print(
            f"{name:42} cpu {statistics.median(cpu):.3f} s ({cpu[0]:.3f}-{cpu[-1]:.3f})  wall {wall:.3f} s  peak {peak:.0f} MiB"
        )


def ratio(costs: dict[str, list[Cost]], command: str, *parts: str, of: str = "wall_s") -> None:
    """Median over the rounds of the command's time by that of its parts together; `of` is the field of `Cost`."""
    ratios = sorted(
        getattr(one, of) / sum(getattr(costs[part][number], of) for part in parts)
        for number, one in enumerate(costs[command])
    )
    time = {"wall_s": "wall time", "cpu_s": "processor time"}[of]
    print(
        f"{command} / ({' + '.join(parts)}): {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}), {time}"
    )


def start_up() -> None:
    """Commands that need no cluster, and how many times a bare interpreter they take (docs/decisions/0016)."""
    bare = "python -c pass"
    commands = {
        "launcher --version": [*LAUNCHER, "--version"],
        "launcher --help": [*LAUNCHER, "--help"],
        "launcher render": [*LAUNCHER, *RENDER],
        "launcher completion bash": [*LAUNCHER, "completion", "bash"],
    }
    costs = in_turns({bare: [sys.executable, "-c", "pass"], **commands})
    show(costs)
    for name in commands:
        ratio(costs, name, bare, of="cpu_s")


def kubectl(*argv: str, stdin: str | None = None) -> str:
    """What kubectl prints."""
    return subprocess.run(["kubectl", *argv], input=stdin, capture_output=True, text=True, check=True).stdout


def simulated_job(number: int) -> dict[str, object]:
    """A job whose pods only simulated nodes take."""
    container = {"name": "pytorch", "image": "simulated", "resources": {"requests": {"cpu": "100m"}}}
    pod = {
        "nodeSelector": {"type": "simulated"},
        "tolerations": [{"key": "simulated", "operator": "Exists"}],
        "containers": [container],
    }
    worker = {"replicas": PODS_PER_JOB, "restartPolicy": "Never", "template": {"spec": pod}}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": f"job-{number}", "labels": {"app.kubernetes.io/managed-by": "chexnet-launcher"}},
        "spec": {"nprocPerNode": "1", "pytorchReplicaSpecs": {"Worker": worker}},
    }


def populate(pods: int) -> None:
    """Make the jobs, and wait until their pods run."""
    kubectl("create", "namespace", NAMESPACE)
    items = [simulated_job(number) for number in range(pods // PODS_PER_JOB)]
    kubectl(
        "-n", NAMESPACE, "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    )
    start = time.monotonic()
    while (
        running := kubectl("-n", NAMESPACE, "get", "pods", "-o", "name", "--field-selector=status.phase=Running").count(
            "\n"
        )
    ) < pods:
        print(f"{running} of {pods} pods run", file=sys.stderr)
        assert time.monotonic() - start < 900, "the pods do not start: are there simulated nodes?"
        time.sleep(10)


def against_kubectl() -> None:
    """`list` and `status` with what kubectl needs for the same objects."""
    get = ["kubectl", "-n", NAMESPACE, "get", "-o", "json"]
    one = ["-l", "training.kubeflow.org/job-name=job-0"]
    costs = in_turns(
        {
            "import of the client": CLIENT,
            "kubectl get pytorchjobs,pods": [*get, "pytorchjobs,pods"],
            "launcher list": [*LAUNCHER, "list", "-n", NAMESPACE],
            "kubectl get of one job": [
                "bash",
                "-c",
                f"{' '.join(get)} pytorchjob job-0 && {' '.join(get)} pods,events {' '.join(one)}",
            ],
            "launcher status": [*LAUNCHER, "status", "job-0", "-n", NAMESPACE],
        }
    )
    show(costs)
    ratio(costs, "launcher list", "kubectl get pytorchjobs,pods", "import of the client")
    ratio(costs, "launcher status", "kubectl get of one job", "import of the client")


def with_cluster(pods: int, act: Callable[[], None]) -> None:
    """Run `act` with the jobs there; they are gone afterwards."""
    nodes = str(pods // 100 + 1)
    tool = os.environ.get("CLUSTER_TOOL")
    if tool:
        subprocess.run([tool, "nodes", nodes, "0", "0"], check=True)
    try:
        populate(pods)
        act()
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false", "--ignore-not-found")
        if tool:
            kubectl("delete", "node", "-l", "type=simulated")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=0, help="simulated pods to list, five to a job")
    pods = parser.parse_args().pods
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # no settings file of a project
        os.environ.setdefault("KUBECONFIG", f"{folder}/none")  # nor a context, whose file takes time to read
        start_up()
        if pods:
            with_cluster(pods, against_kubectl)


if __name__ == "__main__":
    main()
