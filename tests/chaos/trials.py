"""One run with something killed in it: started again as the cluster would, until it is done, and looked at then."""

import os
import shutil
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM

import boto3
import remains
import victims
from botocore.config import Config
from moments import Moment, Stage
from rclone_server import RcloneServer
from warm import Warm, forked

from trainer.data.synthetic import write_phantoms
from trainer.errors import TryAgainError
from trainer.layout import JOB
from trainer.runtime.entrypoint import TERMINATED

ROOT = Path(__file__).parents[2]
HOOK = Path(__file__).with_name("hook")
LOADED = ("trainer.commands.train", "torch.distributed.run", "torch.utils.tensorboard", "boto3")
BUCKET = "cxr"

RECIPE = {
    "--preset": "smoke",
    "--model": "densenet_tiny",
    "--pack-side": "36",
    "--crop-px": "32",
    "--batch-size": "4",
    "--epochs": "3",
    "--checkpoint-every-steps": "2",
    "--device": "cpu",
}
"""21 steps, validated after 7, 14 and 21; the second validation is the best, so that best and newest are different states."""

MOST_STARTS = 6
HANGS_S = 150.0
"""A start takes ten seconds; who takes so long hangs."""

COMES_BACK_CODES = {TERMINATED, TryAgainError.exit_code, -SIGKILL}
"""With these a start may end, to be followed by another."""

LONGEST_AWAY_S = 30.0


@dataclass
class Outcome:
    """How a moment went."""

    met: bool = False
    """Whether the run got to the moment at all, and the victim was there."""
    codes: list[int] = field(default_factory=list)
    """Exit codes, one a start."""
    worker_starts: int = 0
    """How often rank 0 was started; several times within one start of the gang, where torchrun starts it again."""
    losses: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def restarts(self) -> int:
        return max(self.worker_starts, len(self.codes)) - 1


class Site:
    """A server, a data set, and the unbroken run."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python
        self.server = RcloneServer(folder / "buckets")
        (self.server.folder / BUCKET).mkdir(parents=True)
        self.data = folder / "data"
        write_phantoms(self.data, images=90, side=48)
        self.server.start()
        done = Trial(self, Moment("unbroken", "none", []), {"--keep-last": "100"}).outcome()
        assert done.codes == [0], (self.folder / "unbroken/output.log").read_text()
        self.unbroken = remains.of(self.prefix("unbroken"))

    def prefix(self, name: str) -> Path:
        return self.server.folder / BUCKET / "runs" / name

    def unfinished_uploads(self, name: str) -> list[str]:
        """Keys of uploads in parts that nobody has ended."""
        client = boto3.client(
            "s3",
            endpoint_url=self.server.endpoint,
            aws_access_key_id=self.server.key,
            aws_secret_access_key=self.server.secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        try:
            answer = client.list_multipart_uploads(Bucket=BUCKET, Prefix=f"runs/{name}/")
        except client.exceptions.NoSuchUpload:  # how this server says that there are none
            return []
        return [upload["Key"] for upload in answer.get("Uploads", ())]


@contextmanager
def site() -> Iterator[Site]:
    """A site for the block, whose files are gone after it."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        made, warm = None, Warm(Path(folder), *LOADED, PYTHONPATH=str(HOOK), CHAOS_SOCKET="")
        try:
            made = Site(Path(folder), warm.python)
            yield made
        finally:
            warm.close()
            if made:
                made.server.kill()


class Trial:
    """One run in which a moment comes."""

    def __init__(self, site: Site, moment: Moment, flags: dict[str, str] | None = None) -> None:
        self._site, self._moment, self._flags = site, moment, flags or {}
        self._folder = site.folder / moment.name
        (self._folder / "tmp").mkdir(parents=True)
        self._cache = self._folder / "cache"
        self._output = f"s3://{BUCKET}/runs"
        self._prefix = site.prefix(moment.name)
        if moment.phase not in {"none", "load", "pack"}:  # others need not decode again
            shutil.copytree(site.folder / "unbroken/cache/packs", self._cache / "packs")
        self._job = f"chaos-{moment.name}-{os.getpid()}"
        self._stages = list(moment.stages)
        self._calls = 0
        self._hit = True
        self._lock = threading.Lock()
        self._group: subprocess.Popen[bytes] | None = None
        self._outcome = Outcome()
        self._returns: threading.Timer | None = None
        self._is_away = False

    def outcome(self) -> Outcome:
        """Run to the end, and look at what is left."""
        begun_s = time.monotonic()
        try:
            with _heard(self._folder / "ear", self._hear):
                self._run()
                self._outcome.losses += self._left_processes()
        finally:
            victims.kill_all(self._job)
            self._bring_server_back()
        self._outcome.met = self._hit and not self._stages
        self._look()
        self._outcome.seconds = time.monotonic() - begun_s
        return self._outcome

    def _run(self) -> None:
        timed = [stage.seconds for stage in self._stages if stage.point is None]
        timers = [threading.Timer(seconds, self._strike_timed) for seconds in timed]
        for timer in timers:
            timer.start()
        while self._start() in COMES_BACK_CODES and len(self._outcome.codes) < MOST_STARTS:
            self._outcome.losses += [f"{problem} (before the restart)" for problem in self._broken_commits()]
        for timer in timers:
            timer.cancel()
            timer.join()

    def _start(self) -> int:
        with (self._folder / "output.log").open("ab") as log:
            self._group = subprocess.Popen(
                self._command(), cwd=ROOT, env=self._environment(), stdout=log, stderr=log, start_new_session=True
            )
        try:
            code = self._group.wait(HANGS_S)
        except subprocess.TimeoutExpired:
            self._outcome.losses.append("hangs")
            victims.kill_all(self._job)
            self._group.wait()
            code = 1
        with self._lock:  # until a kill that is under way is over: it must not reach the next start
            self._outcome.codes.append(code)
        return code

    def _command(self) -> list[str]:
        flags = {
            "--data": self._site.data,
            "--output": self._output,
            "--name": self._moment.name,
            "--cache-dir": self._cache,
            **RECIPE,
            **self._flags,
        }
        words = ["--no-report", *(str(word) for flag in flags.items() for word in flag)]
        return [
            str(self._site.python),
            "-m",
            "trainer.runtime.entrypoint",
            "--max-restarts=3",
            "-m",
            "trainer",
            "train",
            *words,
        ]

    def _environment(self) -> dict[str, str]:
        """That of a pod, as the launcher's manifest makes it."""
        rendezvous = {
            "PET_NPROC_PER_NODE": "2",
            "PET_RDZV_BACKEND": "c10d",
            "PET_RDZV_ENDPOINT": "127.0.0.1:0",
            "PET_RDZV_ID": self._moment.name,
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        ours = {
            "CHAOS_SOCKET": str(self._folder / "ear"),
            "PYTHONPATH": str(HOOK),
            "TMPDIR": str(self._folder / "tmp"),
            "OMP_NUM_THREADS": "1",
            JOB: self._job,
        }
        parts = {"CHAOS_PARTS": "1"} if self._moment.in_parts else {}
        return {**os.environ, **self._site.server.environment, **rendezvous, **ours, **parts}

    def _hear(self, point: str, rank: str) -> None:
        """A process has come to a point, and waits."""
        with self._lock:
            self._outcome.worker_starts += (point, rank) == ("worker starts", "0")
            stage = self._stages[0] if self._stages else None
            if stage is None or stage.point != point or stage.told_by not in {None, int(rank) if rank != "-" else -1}:
                return
            self._calls += 1
            if self._calls == stage.nth:
                self._calls = 0
                self._strike(stage)

    def _strike_timed(self) -> None:
        with self._lock:
            if self._stages:
                self._strike(self._stages[0])

    def _strike(self, stage: Stage) -> None:
        group = self._group
        assert group is not None
        if group.returncode is not None:
            return
        self._stages.pop(0)
        self._act(stage, forked(group.pid))
        if stage.kind != "server" and self._returns is not None:
            self._bring_server_back()
        self._outcome.losses += [f"{problem} (at once)" for problem in self._broken_commits()]

    def _act(self, stage: Stage, group: int) -> None:
        deeds = {
            "server": self._end_server,
            "rank": self._end_rank,
            "forks": self._end_fork_server,
            "pack": self._damage_pack,
            "nothing": lambda *_: None,
        }
        deeds.get(stage.kind, self._end_gang)(stage, group)

    def _end_gang(self, stage: Stage, group: int) -> None:
        if stage.kind == "all":
            victims.kill_all(self._job)
        else:
            with suppress(ProcessLookupError):
                os.kill(group, SIGTERM if stage.kind == "term" else SIGKILL)

    def _damage_pack(self, _stage: Stage, _group: int) -> None:
        """End all, and zero what they have decoded, as a power cut may: size and time of the file stay."""
        victims.kill_all(self._job)
        for shard in sorted(self._cache.glob("packs/*/shard-*.bin"))[:1]:
            status = shard.stat()
            shard.write_bytes(bytes(status.st_size))
            os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _end_rank(self, stage: Stage, group: int) -> None:
        """End one worker, as soon as it is there."""
        until_s = time.monotonic() + 20
        while (process := victims.worker(self._job, group, stage.rank)) is None and time.monotonic() < until_s:
            time.sleep(0.05)
        if process is not None:
            victims.kill(process)
        else:
            self._hit = False

    def _end_fork_server(self, _stage: Stage, group: int) -> None:
        """End what forks the workers: they end with it, and the next ones start by themselves."""
        process = victims.fork_server(self._job, group)
        if process is not None:
            victims.kill(process)
        else:
            self._hit = False

    def _end_server(self, stage: Stage, _group: int) -> None:
        self._site.server.kill()
        away_s = LONGEST_AWAY_S if stage.away_s is None else stage.away_s
        self._returns, self._is_away = threading.Timer(away_s, self._server_returns), True
        self._returns.start()

    def _server_returns(self) -> None:
        self._site.server.start()
        self._is_away = False

    def _bring_server_back(self) -> None:
        if self._returns is not None:
            timer, self._returns = self._returns, None
            timer.cancel()
            timer.join()
            if self._is_away:
                self._server_returns()

    def _broken_commits(self) -> list[str]:
        problems = remains.broken_commits(self._prefix)
        # A store keeps the old object until the new one is whole; this one, killed, leaves what it had.
        return [one for one in problems if not self._is_away or "no JSON" not in one]

    def _left_processes(self) -> list[str]:
        """Workers that have lost their gang end by themselves."""
        until_s = time.monotonic() + 60
        while (left := victims.alive(self._job)) and time.monotonic() < until_s:
            time.sleep(0.1)
        names = [Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ")[:150] for process in left]
        return [f"a process is left: {name.decode()}" for name in names]

    def _look(self) -> None:
        codes, text = self._outcome.codes, (self._folder / "output.log").read_text(errors="replace")
        if codes[-1] != 0:
            self._outcome.losses.append(f"ended with {codes}")
        self._outcome.losses += [f"output has `{word}`" for word in ("Traceback", "bug:") if word in text]
        self._outcome.losses += remains.left_on_node(self._cache)
        if codes[-1] == 0 and self._moment.stages:
            self._outcome.losses += remains.losses(self._prefix, self._site.unbroken)
            uploads = self._site.unfinished_uploads(self._moment.name)
            self._outcome.losses += [f"the upload of {key} is unfinished" for key in uploads]


@contextmanager
def _heard(address: Path, on_line: Callable[[str, str], None]) -> Iterator[None]:
    """Listen to tests/chaos/hook for the block."""

    class Line(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            point, _, rank = self.rfile.readline().decode().strip().rpartition(" ")
            on_line(point, rank)
            with suppress(OSError):  # it may be the victim
                self.wfile.write(b"\n")

    class Ear(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        request_queue_size = 128

    with Ear(str(address), Line) as ear:
        thread = threading.Thread(target=ear.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            ear.shutdown()
            thread.join()
