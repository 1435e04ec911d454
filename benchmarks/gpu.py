"""How fast DenseNet-121 trains on this accelerator: as public code does, as fast as a bare loop can, and with our loop. One table.

    python benchmarks/gpu.py --all --to FOLDER

Rows for batches of 256, 64 and 1024 images of 224 pixels:

- fp32: eager, NCHW, Adam, the loss read in each step, as public CheXNet repositories train, without their loading of images
- amp: eager, in the device's own precision (bf16), channels_last, fused Adam
- bar: a bare loop, compiled, in that precision and format, over one batch that stays on the device
- ours: `trainer.training.loop` on a pack, with gathering, copies, augmentation, clipping, the check of gradients, logs and metrics; a
  round is an epoch, from its first batch to the last loss on the host, and the rounds of ours and of the bar take turns

and inference of a batch on the device, without and with compilation. The memory's bandwidth is that of a copy in the same run, and the
bound that follows from it is the bytes of benchmarks/roofline.py. The images are drawn.

Each row is a process of its own, so that one that needs more memory than there is ends alone. It is printed when it is there, and FOLDER
has all rows until then as `gpu.md` and `gpu.jsonl`. A row that no longer fits into `--minutes` is left out and named. On a machine
without an accelerator, `--tiny` runs the whole on a small network.
"""

import argparse
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from arguments import numbers, positive
from gpu_row import FINDINGS, Result, Row, Sizes, is_out_of_memory, measured
from roofline import SHAPES, bound_images_per_s, image_bytes

from trainer.data.synthetic import write_phantoms
from trainer.errors import KnownError
from trainer.models import architectures
from trainer.runtime.cores import usable_cores

HERE = Path(__file__).parent
"""Rows start with `-c`: the processes that decode images load the program that they were started from, and need no torch."""

AIM = 0.97
"""Of the bar: what our loop may cost."""

DRAWN = 64
"""Images that those of training repeat."""
EVALUATED = 16
"""Images of validation and of test, each of its own; no row evaluates them."""

FIRST_GUESS_S = 30.0
"""How long a row takes, before one of its kind has been measured."""

LEAST_S = 60.0
"""A row may take half of the time that is left, so that one that hangs does not take all of it, or this long."""

Measure = Callable[[Row, Sizes, Path, float], Iterator[Result]]
"""The results of a row as they come, in at most this many seconds."""


def rows_of(batches: Sequence[int], inferred: Sequence[int]) -> list[Row]:
    """All rows, the most important ones first; the first batch matters most."""
    first, *others = batches
    rows = [Row("bandwidth", 0), *(Row(kind, first) for kind in ("ours", "amp", "fp32"))]
    rows += [Row("ours", batch) for batch in others]
    rows += [Row("inference", inferred[0])] if inferred else []
    rows += [Row(kind, batch) for batch in others for kind in ("fp32", "amp")]
    return rows + [Row("inference", batch) for batch in inferred[1:]]


@dataclass
class Report:
    """What has been measured so far."""

    sizes: Sizes
    folder: Path | None
    results: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Print a result, and keep it in the folder."""
        self.results.append(result)
        print(line_of(result, self), flush=True)
        if self.folder is not None:
            with (self.folder / "gpu.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(dataclasses.asdict(result)) + "\n")
            draft = self.folder / "gpu.md.draft"
            draft.write_text(as_markdown(self), encoding="utf-8")
            draft.replace(self.folder / "gpu.md")

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth of the memory; 0 where it was not measured."""
        return max((each.bytes_per_s for each in self.results), default=0.0)

    def to_fp32(self, result: Result) -> float | None:
        """The rate of a training as a multiple of that of public code with this batch."""
        plain = [each for each in self.results if each.what == "fp32" and each.batch == result.batch and each.seconds]
        if not plain or not result.seconds or result.what.startswith("inference"):
            return None
        return statistics.median(result.rates) / statistics.median(plain[0].rates)

    def of_bound(self, result: Result) -> float | None:
        """The rate as a share of what the memory's bandwidth allows."""
        if not self.bytes_per_s or not result.seconds:
            return None
        return statistics.median(result.rates) / bound_of(result, self.sizes, self.bytes_per_s)


def bound_of(result: Result, sizes: Sizes, bytes_per_s: float) -> float:
    """Images per second that memory of this bandwidth allows."""
    network = architectures.build(sizes.model, "linear", len(FINDINGS))
    return bound_images_per_s(
        SHAPES[sizes.model],
        sizes.px,
        batch=result.batch,
        parameters=sum(each.numel() for each in network.parameters()),
        value_bytes=2 if result.precision == "bf16" else 4,
        training=not result.what.startswith("inference"),
        bytes_per_s=bytes_per_s,
    )


def line_of(result: Result, report: Report) -> str:
    """A line of the table."""
    rates, to_fp32, share = result.rates, report.to_fp32(result), report.of_bound(result)
    cells = [
        str(result.batch or ""),
        result.what,
        result.precision,
        f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})" if rates else "",
        "" if to_fp32 is None else f"{to_fp32:.2f}",
        _span(result.to_bar),
        f"{result.peak_bytes / 2**30:.1f}" if result.peak_bytes is not None else "",
        "" if share is None else f"{share:.2f}",
        result.remark or (f"{result.bytes_per_s / 1e9:,.0f} GB/s" if result.bytes_per_s else ""),
    ]
    return f"| {' | '.join(cells)} |"


def _span(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})" if ratios else ""


HEAD = (
    "| batch | row | precision | images/s | x fp32 | of the bar | GiB at most | of the bound | |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def as_markdown(report: Report) -> str:
    """The table so far, by batch, below what it was measured on."""
    order = ("bandwidth", "fp32", "amp", "bar", "ours", "inference")

    def place(result: Result) -> tuple[bool, int, int]:
        kind = next(number for number, each in enumerate(order) if result.what.startswith(each))
        return kind == len(order) - 1, result.batch, kind

    lines = [line_of(each, report) for each in sorted(report.results, key=place)]
    return "\n".join([*described(report), "", HEAD, *lines, "", aim(report)]) + "\n"


def described(report: Report) -> list[str]:
    """Hardware, software and the bound."""
    sizes = report.sizes
    hardware = next((each.hardware for each in report.results if each.hardware), "unknown hardware")
    moved = {
        name: image_bytes(SHAPES[sizes.model], sizes.px, value_bytes=size, training=True) / 1e6
        for name, size in (("bf16", 2), ("fp32", 4))
    }
    measured_on = f"{hardware}, torch {torch.__version__}, {sizes.model} at {sizes.px} px"
    lines = [
        f"{measured_on}; median (range) of {sizes.rounds} rounds of up to {sizes.images:,} images.",
        f"An image moves {moved['bf16']:,.1f} MB in bf16 and {moved['fp32']:,.1f} MB in fp32, counted by hand.",
    ]
    if report.bytes_per_s:
        rates = (f"{report.bytes_per_s / (1e6 * each):,.0f} images/s in {name}" for name, each in moved.items())
        lines.append(f"Memory: {report.bytes_per_s / 1e9:,.0f} GB/s in a copy, so at most {' and '.join(rates)}.")
    return lines


def aim(report: Report) -> str:
    """Whether our loop reaches its share of the bar."""
    shares = {each.batch: statistics.median(each.to_bar) for each in report.results if each.to_bar}
    if not shares:
        return f"Aim: ours at least {AIM} of the bar; not measured."
    words = (
        f"{share:.3f} with batch {batch}{'' if share >= AIM else ' (missed)'}"
        for batch, share in sorted(shares.items())
    )
    remark = "" if report.sizes.model == "densenet121" else "; a small network says nothing about it"
    return f"Aim: ours at least {AIM} of the bar; {', '.join(words)}{remark}."


def run_all(rows: Sequence[Row], report: Report, data: Path, *, ends_s: float, measure: Measure) -> None:
    """Measure the rows in this order until this moment of the monotonic clock."""
    took_s = dict[str, float]()
    for row in rows:
        start_s = time.monotonic()
        left_s = ends_s - start_s
        if left_s < took_s.get(row.kind, FIRST_GUESS_S):
            report.add(Result(row.kind, row.batch, remark=f"left out: only {max(left_s, 0):.0f} s were left"))
            continue
        for result in measure(row, report.sizes, data, max(left_s / 2, min(left_s, LEAST_S))):
            report.add(result)
        took_s[row.kind] = time.monotonic() - start_s


def in_this_process(row: Row, sizes: Sizes, data: Path, _limit_s: float) -> Iterator[Result]:
    """The results of a row; out of memory is one."""
    try:
        yield from measured(row, sizes, data)
    except (RuntimeError, KnownError) as problem:
        if not is_out_of_memory(problem):
            raise
        yield Result(row.kind, row.batch, remark="out of memory")


def in_a_process(row: Row, sizes: Sizes, data: Path, limit_s: float) -> Iterator[Result]:
    """The results of a row from a process of its own; how it failed is one."""
    described = json.dumps([dataclasses.asdict(each) for each in (row, sizes)])
    argv = [sys.executable, "-c", f"import sys; sys.path.append({str(HERE)!r}); import gpu; sys.exit(gpu.main())"]
    argv += ["--row", described, str(data)]
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(data / "compiled")}
    environment.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(usable_cores()))  # no other worker compiles
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True) as process:
        try:
            out, remark = process.communicate(timeout=limit_s)[0], ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, remark = process.communicate()[0], f"cut off after {limit_s:.0f} s"
        finally:  # Ctrl-C reaches this process alone
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    yield from (_parsed(each) for each in out.splitlines() if each.startswith("{"))
    if not remark and process.returncode:
        remark = f"failed with exit code {process.returncode}, see above"
    if remark:
        yield Result(row.kind, row.batch, remark=remark)


def _parsed(text: str) -> Result:
    fields: dict[str, Any] = json.loads(text)
    return Result(**{name: tuple(each) if isinstance(each, list) else each for name, each in fields.items()})


def be_a_row(text: str, data: Path) -> None:
    """Measure a row in this process, and print its results for `in_a_process`."""
    row, sizes = json.loads(text)
    for result in in_this_process(Row(**row), Sizes(**sizes), data, 0.0):
        print(json.dumps(dataclasses.asdict(result)), flush=True)


def draw_data(folder: Path, sizes: Sizes) -> None:
    """A data set of few drawn images under many names, already of the pack's side."""
    write_phantoms(folder / "drawn", images=DRAWN + 2 * EVALUATED, side=sizes.side)
    pictures = sorted((folder / "drawn/images").iterdir())
    (folder / "data/images").mkdir(parents=True)
    splits = ["train"] * sizes.images + ["val"] * EVALUATED + ["test"] * EVALUATED
    lines = [f"Image Index,split,{','.join(FINDINGS)}"]
    for number, split in enumerate(splits):
        name = f"{number:08d}_000.png"
        picture = pictures[number % DRAWN if split == "train" else DRAWN + number - sizes.images]
        os.link(picture, folder / "data/images" / name)
        labels = (str(int(number % period == 0)) for period in range(2, 2 + len(FINDINGS)))
        lines.append(",".join([name, split, *labels]))
    (folder / "data/labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Training and inference on this accelerator beside a bare loop.")
    parser.add_argument("--all", action="store_true", help="measure all rows")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="write gpu.md and gpu.jsonl there after each row")
    parser.add_argument("--minutes", type=float, default=9, help="leave out rows that take longer in all (default 9)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "hpu"])
    parser.add_argument("--compile", default="auto", choices=["auto", "on", "off"], help="of bar, ours and inference")
    parser.add_argument("--batches", type=numbers, default="256,64,1024", help="the most important one first")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--images", type=positive, default=8192, help="training images; an epoch is a round")
    parser.add_argument("--tiny", action="store_true", help="a small network, batches of 4 and 2 images of 32 pixels")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    return parser


def sizes_of(args: Any) -> tuple[Sizes, list[Row]]:  # noqa: ANN401 - argparse's namespace
    """What to measure."""
    sizes = Sizes(
        device=args.device,
        compile=args.compile,
        model="densenet121",
        px=224,
        images=args.images,
        rounds=args.rounds,
        copied_bytes=2**31,
    )
    batches, inferred = args.batches, [256, 64, 1]
    if args.tiny:
        sizes = replace(sizes, model="densenet_tiny", px=32, images=16, rounds=2, copied_bytes=2**22)
        batches, inferred = [4, 2], [2]
    return sizes, rows_of(batches, inferred)


def main(argv: Sequence[str] | None = None, *, measure: Measure = in_a_process) -> int:
    """Measure and print; 1 where a row failed otherwise than for want of memory or time."""
    parser = _arguments()
    args = parser.parse_args(argv)
    if args.row:
        be_a_row(args.row[0], Path(args.row[1]))
        return 0
    if not args.all:
        parser.error("give --all")
    if args.to is not None:
        args.to.mkdir(parents=True, exist_ok=True)
        (args.to / "gpu.jsonl").unlink(missing_ok=True)
    ends_s, (sizes, rows) = time.monotonic() + 60 * args.minutes, sizes_of(args)
    report = Report(sizes, args.to)
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        draw_data(Path(folder), sizes)
        run_all(rows, report, Path(folder), ends_s=ends_s, measure=measure)
    print(f"\n{as_markdown(report)}", flush=True)
    return 1 if any(each.remark.startswith("failed") for each in report.results) else 0


if __name__ == "__main__":
    sys.exit(main())
