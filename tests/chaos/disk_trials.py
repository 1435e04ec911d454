"""Trials of runs that are kept in a directory, whose disk has no room any more while they train."""

import re
from signal import SIGKILL

import victims
from moments import Moment, Stage
from trials import Site, Trial

from trainer.errors import InputError

CONTINUES = re.compile(r"hint: free space on that disk; .* continues from step (\d+)")
"""What a run that ends for want of room says of the next start."""

CONTINUED = re.compile(r"continuing from step (\d+)")


class DiskTrial(Trial):
    """A run in a directory: on a full disk it ends soon and says what is so; once there is room it ends like the unbroken one."""

    def __init__(self, site: Site, moment: Moment) -> None:
        super().__init__(site, moment)
        self._output = str(self._folder / "runs")
        self._prefix = self._folder / "runs" / moment.name
        self._full = self._folder / "full"

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"CHAOS_FULL": str(self._full)}

    def _run(self) -> None:
        code = self._start()
        if self._full.exists():
            self._look_at_full(code)
            self._full.unlink()
        if code != 0:
            self._start()

    def _act(self, stage: Stage, group: int) -> None:
        if stage.kind == "killed":
            victims.kill_all(self._job)
            return
        whole = self._folder if stage.kind == "full" else self._folder / "runs"
        self._full.with_suffix(".new").write_text(str(whole))
        self._full.with_suffix(".new").rename(self._full)

    def _look_at_full(self, code: int) -> None:
        said = self._said()
        if code != InputError.exit_code:
            self._outcome.losses.append(f"a run on a full disk ended with {code}")
        if "no space left on device" not in said or "make room" not in said:
            self._outcome.losses.append("a run on a full disk did not say so")
        if said.count("[rank 0] error:") > 1:  # workers that find a verdict leave without a word
            self._outcome.losses.append("a run on a full disk met it more than once")

    def _look(self) -> None:
        said = self._said()
        told, done = CONTINUES.search(said), CONTINUED.search(said)
        if told and (done is None or told[1] != done[1]):
            self._outcome.losses.append(
                f"a run said that it continues from step {told[1]}, and did from {done and done[1]}"
            )
        if self._moment.stages[0].kind == "killed" and self._outcome.codes[0] != -SIGKILL:
            self._outcome.losses.append(f"a run that was killed ended with {self._outcome.codes[0]}")
        super()._look()

    def _said(self) -> str:
        return (self._folder / "output.log").read_text(errors="replace")
