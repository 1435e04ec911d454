"""Trials of runs that are kept in a directory, whose folder goes while they train."""

import shutil
import subprocess
import time

from disk_trials import DiskTrial
from moments import Moment, Stage
from trials import COMES_BACK_CODES, HANGS_S, ROOT, Outcome, Site, Trial

GONE = "cannot continue the run at"
"""How a run begins to say that its folder is no longer its own."""


class FolderTrial(Trial):
    """A run in a directory, whose folder goes while it trains: it ends and says so, and one that is started under its name is well."""

    def __init__(self, site: Site, moment: Moment) -> None:
        super().__init__(site, moment)
        self._output = str(self._folder / "runs")
        self._prefix = self._folder / "runs" / moment.name
        self._second: subprocess.Popen[bytes] | None = None

    def _run(self) -> None:
        code = self._start()
        self._look_at_first(code)
        if self._second is None:
            self._start_second()
        assert self._second is not None
        try:
            self._outcome.codes.append(self._second.wait(HANGS_S))
        except subprocess.TimeoutExpired:
            self._outcome.losses.append("the second run hangs")

    def _act(self, stage: Stage, group: int) -> None:
        shutil.rmtree(self._prefix)
        if stage.kind == "second":
            self._start_second()
            until_s = time.monotonic() + HANGS_S
            while not (self._prefix / ".lock").exists() and time.monotonic() < until_s:
                time.sleep(0.05)

    def _start_second(self) -> None:
        """Start a run of the same name, which nothing disturbs."""
        nobody_listens = {"CHAOS_SOCKET": str(self._folder / "no-ear")}
        environment = self._environment() | {"PET_RDZV_ID": f"{self._moment.name}-second"} | nobody_listens
        with (self._folder / "output.log").open("ab") as log:
            self._second = subprocess.Popen(
                self._command(), cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def _look_at_first(self, code: int) -> None:
        if not self._moment.stages or self._stages:
            return
        if code in {0, *COMES_BACK_CODES}:
            self._outcome.losses.append(f"a run whose folder was {self._moment.stages[0].kind} ended with {code}")
        if GONE not in (self._folder / "output.log").read_text(errors="replace"):
            self._outcome.losses.append("a run whose folder was gone did not say so")
        if self._second is None and self._prefix.exists():
            self._outcome.losses.append(
                f"a part of a run was made: {sorted(path.name for path in self._prefix.iterdir())}"
            )


def outcome(site: Site, moment: Moment) -> Outcome:
    """How a run goes in which this moment comes."""
    return {"folder": FolderTrial, "disk": DiskTrial}.get(moment.phase, Trial)(site, moment).outcome()
