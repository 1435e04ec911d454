"""Reports: one self-contained HTML file per run, and a comparison of several runs. Does not import torch.

documents   documents in a run's prefix, some of which may be missing
run_page    sections of one run, in order; headline has its five numbers
sizes       several runs as rows: elapsed time, speed-up, efficiency
runs_page   page of several runs
page        sections as HTML
captions    text below pictures of `explain` and `predict`
forest      numbers with intervals as a plot; other figures are in *_figures
"""

from trainer.report.documents import GALLERY, Documents, read
from trainer.report.run_page import CURVES, files, html, write
from trainer.report.runs_page import write_comparison
from trainer.report.sizes import Size, scaled

__all__ = ["CURVES", "GALLERY", "Documents", "Size", "files", "html", "read", "scaled", "write", "write_comparison"]
