"""The report of a run: one HTML file that is read anywhere, and of several runs beside each other. No torch here.

documents   what a run's prefix holds, with gaps
run_page    one run, as sections
sizes       several runs, as rows: elapsed time, speed-up, efficiency
runs_page   the same as a page
page        sections as HTML
"""

from trainer.report.documents import GALLERY, Documents, read
from trainer.report.run_page import CURVES, files, html, write
from trainer.report.runs_page import write_comparison
from trainer.report.sizes import Size, scaled

__all__ = ["CURVES", "GALLERY", "Documents", "Size", "files", "html", "read", "scaled", "write", "write_comparison"]
