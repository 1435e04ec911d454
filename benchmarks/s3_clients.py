"""What the benchmarks of S3 clients share: a server on this machine, latency on the way to it, and what a client takes."""

import json
import os
import random
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RCLONE = Path(sys.executable).with_name("rclone")
PIPE_BYTES = 1 << 20


@contextmanager
def served(folder: Path, etag: str = "MD5", delay_s: float = 0.0) -> Iterator[dict[str, str]]:
    """Rclone as S3 server over the folder, behind a relay if there is a delay; the variables by which a client uses it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    key, secret = "benchmark", secrets.token_hex(20)
    options = ["--addr", address, "--auth-key", f"{key},{secret}", "--etag-hash", etag, "--config", os.devnull]
    server = subprocess.Popen([RCLONE, "serve", "s3", *options, folder], stderr=subprocess.DEVNULL)
    try:
        wait_for(address)
        with delayed(address, delay_s) if delay_s else nullcontext(address) as reached:
            yield _environment(reached, key, secret)
    finally:
        server.kill()
        server.wait()


def _environment(address: str, key: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "Rclone",
        "RCLONE_CONFIG_S3_ENDPOINT": f"http://{address}",
        "RCLONE_CONFIG_S3_ACCESS_KEY_ID": key,
        "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": secret,
    }


def wait_for(address: str) -> None:
    """Return once the server listens."""
    host, _, port = address.partition(":")
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, int(port))).close()
        except OSError:
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.05)
        else:
            return


@dataclass(frozen=True)
class Cost:
    """What one client took."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def cost(command: Sequence[str], environment: Mapping[str, str], folder: Path, files: int) -> Cost:
    """Run a client in a child that measures it; it must leave at least this many files below the folder."""
    code = (
        "import json, resource, subprocess, sys, time; start = time.perf_counter();"
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
        "took = time.perf_counter() - start; used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps([took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert len(found) >= files, f"{command}: {len(found)} files"
    return Cost(*json.loads(done.stdout))


def told(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


@contextmanager
def delayed(address: str, delay_s: float) -> Iterator[str]:
    """Address of a relay to `address` that passes each piece of a request on after `delay_s`, and answers at once.

    So each round trip takes `delay_s` longer, and the bandwidth is that of the machine: answers are spliced by the kernel.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, _, port = address.partition(":")

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    server = socket.create_connection((host, int(port)))
                    for pass_on in (
                        lambda a=client, b=server: _late(a, b, delay_s),
                        lambda a=server, b=client: _spliced(a, b),
                    ):
                        threading.Thread(target=pass_on, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _late(client: socket.socket, server: socket.socket, delay_s: float) -> None:
    """Pass on what the client sends, each piece after the delay, until it closes."""
    with suppress(OSError):
        while content := client.recv(1 << 16):
            time.sleep(delay_s)
            server.sendall(content)
    with suppress(OSError):
        server.shutdown(socket.SHUT_WR)


def _spliced(server: socket.socket, client: socket.socket) -> None:
    """Pass on what the server sends, without copying it to this process."""
    read, write = os.pipe()
    with suppress(OSError):
        while moved := os.splice(server.fileno(), write, PIPE_BYTES):
            while moved:
                moved -= os.splice(read, client.fileno(), moved)
    os.close(read)
    os.close(write)
    for end in (client, server):
        end.close()


def compared(
    commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], target: Path, *, files: int, rounds: int
) -> dict[str, list[Cost]]:
    """What each client takes, in turns whose order changes from round to round; each starts without the target."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name in random.Random(number).sample(sorted(commands), len(commands)):
            shutil.rmtree(target, ignore_errors=True)
            used = cost(commands[name], environment | {"PYTHONPATH": str(ROOT)}, target, files)
            print(f"round {number} {name}: {used}", file=sys.stderr)
            if number:  # the first warms caches
                costs[name].append(used)
    return costs


def print_costs(costs: Mapping[str, Sequence[Cost]], ours: str) -> None:
    """Print each client's costs, and the ratios of ours to the others."""
    for name, each in costs.items():
        wall, cpu = told([one.wall_s for one in each]), told([one.cpu_s for one in each])
        print(f"{name:14} wall {wall} s, cpu {cpu} s, {max(one.peak_mib for one in each):.0f} MiB")
    for name, each in costs.items():
        if name != ours:
            wall_ratios = [one.wall_s / other.wall_s for one, other in zip(costs[ours], each, strict=True)]
            cpu_ratios = [one.cpu_s / other.cpu_s for one, other in zip(costs[ours], each, strict=True)]
            print(f"{ours} / {name}: wall {told(wall_ratios)}, cpu {told(cpu_ratios)}")
