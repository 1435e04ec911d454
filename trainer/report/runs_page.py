"""Page of several runs: table, curves and scaling."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trainer.errors import on_one_line
from trainer.report import history_figures, scaling_figures
from trainer.report.documents import Documents
from trainer.report.drawing import as_png
from trainer.report.forest import Row, both
from trainer.report.formatting import NONE, count, duration, interval, number, percent, proportion, size
from trainer.report.page import Block, Plots, Section, Table, Text, page
from trainer.report.sizes import Size, as_csv, scaled
from trainer.storage import Storage

PAGE: Final = "index.html"
PLOT: Final = "scaling.png"
TABLE: Final = "scaling.csv"
FILES: Final = (TABLE, PAGE, PLOT)

HEAD: Final = (
    "Run",
    "Model",
    "Workers",
    "Global batch",
    "Elapsed",
    "Images/s",
    "Speed-up",
    "Efficiency",
    "Accuracy (95 %)",
    "Mean AUROC (95 %)",
    "Peak device memory",
    "Device in use",
)


_SCORES: Final = ("Accuracy (95 %)", "Mean AUROC (95 %)")

DIFFERENT: Final = "These runs were evaluated on different images: compare accuracy and AUROC within a table only."

_NO_INTERVAL: Final = (
    "A mean AUROC has no interval where the run has not been evaluated, or a finding has fewer than five patients with it, or without "
    "it: the page of the run names them."
)


def write_comparison(storage: Storage, runs: Sequence[Documents]) -> None:
    """Write page, table and plot of these runs.

    Raises: as the storage.
    """
    rows = scaled(runs)
    storage.write(TABLE, as_csv(rows).encode())  # first, as `launcher scale` recognises its own pages by it
    storage.write(PAGE, html(runs, rows).encode())
    storage.write(PLOT, as_png(scaling_figures.scaling(points(rows))))


def html(runs: Sequence[Documents], rows: Sequence[Size]) -> str:
    title = f"{len(runs)} runs compared"
    models = ", ".join(dict.fromkeys(row.model for row in rows))
    return page(title, models, [_table(rows), _scaling(rows), _curves(runs, alike=len(_by_images(rows)) < 2)])


def cells(row: Size) -> list[str]:
    """A row of the table, formatted."""
    return [
        row.run,
        row.model,
        f"{row.workers} x {row.device}" if row.workers else NONE,
        count(row.global_batch),
        duration(row.elapsed_s),
        number(row.images_per_s, 1),
        number(row.speed_up, 2),
        percent(row.efficiency, 0),
        proportion(row.accuracy) if row.accuracy else NONE,
        interval(row.mean_auroc) if row.mean_auroc else NONE,
        size(row.peak_device_memory_bytes),
        percent(row.utilisation),
    ]


def points(rows: Sequence[Size]) -> dict[str, list[tuple[int, float]]]:
    """Workers and elapsed seconds by model, for the plots; without rows that lack either."""
    models: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row.workers and row.elapsed_s:
            models.setdefault(row.model, []).append((row.workers, row.elapsed_s))
    return {model: sorted(values) for model, values in models.items()}


def _table(rows: Sequence[Size]) -> Section:
    words = "Speed-up is relative to the run with the fewest workers that did the same work; efficiency is speed-up divided by the ratio of workers."
    groups = _by_images(rows)
    blocks: list[Block] = [Text([DIFFERENT])] if len(groups) > 1 else []
    for group in groups:
        blocks += _forest(group)
        blocks.append(Table(f"Evaluated on {_evaluated_on(group[0])}.", *_scores_first(*_filled(group))))
    if any(row.mean_auroc and row.mean_auroc["value"] is not None and row.mean_auroc["low"] is None for row in rows):
        blocks.append(Text([_NO_INTERVAL]))
    if any(row.speed_up is not None for row in rows):
        blocks.append(Text([words]))
    return Section("runs", "Runs", blocks)


def _forest(group: Sequence[Size]) -> list[Block]:
    """Mean AUROC of the runs; nothing for one, or without intervals."""
    rows = [Row(row.run, row.mean_auroc) for row in group if row.mean_auroc is not None]
    if len(rows) < 2 or not any(row.has_bar for row in rows):
        return []
    wide, narrow = both("Mean AUROC", rows)
    return [Plots([wide], f"On {_evaluated_on(group[0])}.", [narrow])]


def _scores_first(head: list[str], body: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The columns of scores after the name, where a phone shows them."""
    scores = [nth for nth, title in enumerate(head) if title in _SCORES]
    order = [0, *scores, *(nth for nth in range(1, len(head)) if nth not in scores)]
    return [head[nth] for nth in order], [[line[nth] for nth in order] for line in body]


def _evaluated_on(row: Size) -> str:
    """The images of the scores."""
    if row.part is None:
        return "nothing yet"
    of = f"{row.part} of {row.data}" if row.data else row.part
    return f"{of}, {row.images:,} images" if row.images is not None else of


def _by_images(rows: Sequence[Size]) -> list[list[Size]]:
    groups: dict[str, list[Size]] = {}
    for row in rows:
        groups.setdefault(row.scored, []).append(row)
    return list(groups.values())


def _scaling(rows: Sequence[Size]) -> Section:
    """Shown when the runs differ in size and their time is known."""
    by_model = {model: values for model, values in points(rows).items() if len({workers for workers, _ in values}) > 1}
    if not by_model:
        return Section("scaling", "Scaling")
    speed_ups = _by_model(rows, "speed_up")
    drawings = [
        scaling_figures.elapsed_by_workers(by_model),
        scaling_figures.speed_up_by_workers(speed_ups),
        scaling_figures.efficiency_by_workers(_by_model(rows, "efficiency")),
    ]
    words = "Elapsed time is that of training and validation; the dashed line is perfect scaling."
    return Section("scaling", "Scaling", [Plots(drawings), Text([words])])


def _by_model(rows: Sequence[Size], key: str) -> dict[str, list[tuple[int, float]]]:
    models: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        value = getattr(row, key)
        if row.workers and value is not None:
            models.setdefault(row.model, []).append((row.workers, value))
    return {model: sorted(values) for model, values in models.items()}


def _curves(runs: Sequence[Documents], *, alike: bool) -> Section:
    entries = _by_name(runs)
    shown = {
        "Training loss": ("train_loss",),
        "Validation loss": ("val", "loss"),
        "Validation mean AUROC": ("val", "mean_auroc"),
        "Validation accuracy": ("val", "accuracy", "value"),
        "Images per second": ("images_per_s",),
    }
    drawings = [history_figures.overlaid(title, entries, *keys) for title, keys in shown.items()]
    caption = "" if alike else "For runs on different images, compare only the shapes of the curves."
    blocks: list[Block] = [Plots([drawing for drawing in drawings if drawing is not None], caption)]
    return Section("curves", "Curves", blocks if any(drawings) else [])


def _by_name(runs: Sequence[Documents]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Entries by the run's name; further runs of a name get a number."""
    named: dict[str, Sequence[Mapping[str, Any]]] = {}
    for one in runs:
        nth, name = 1, one.name
        while name in named:
            nth += 1
            name = f"{one.name} ({nth})"
        named[name] = one.entries
    return named


def as_text(rows: Sequence[Size]) -> str:
    """The table in aligned columns, without empty ones; one per group of runs evaluated on the same images."""
    groups = _by_images(rows)
    return "\n\n".join([*map(_as_text, groups), *([f"note: {DIFFERENT}"] if len(groups) > 1 else [])])


def _as_text(rows: Sequence[Size]) -> str:
    head, body = _filled(rows)
    evaluated_on = on_one_line(f"evaluated on {_evaluated_on(rows[0])}") if rows else "no runs"
    widths = [max(len(line[nth]) for line in (head, *body)) for nth in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *body)]
    return "\n".join([evaluated_on, *(line.rstrip() for line in lines)])


def _filled(rows: Sequence[Size]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the columns that are not empty."""
    body = [[on_one_line(cell.replace("\u00a0", " ")) for cell in cells(row)] for row in rows]
    kept = [nth for nth in range(len(HEAD)) if nth == 0 or any(line[nth] != NONE for line in body)]
    return [HEAD[nth] for nth in kept], [[line[nth] for nth in kept] for line in body]
