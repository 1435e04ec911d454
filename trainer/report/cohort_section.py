"""Sections of a run's page about the data and the cohort, and about what only the owner of the model knows."""

from trainer.card_file import FIELDS, NOT_STATED, stated_fields
from trainer.evaluation.cohort import cohort_rows, cohort_words
from trainer.report.data_notes import data_facts, labels_in_words
from trainer.report.documents import Documents
from trainer.report.formatting import finding
from trainer.report.page import Block, Facts, Section, Table, Text


def cohort(one: Documents) -> Section:
    """The data set, and images and patients of each split."""
    blocks: list[Block] = [Facts(data_facts(one.run, one.evaluation, stated_fields(one.run)))]
    labels = labels_in_words(one.run)
    blocks += [Text(labels)] if labels else []
    parts = [] if one.evaluation is None else one.evaluation.get("cohort", [])
    if parts:
        head, *rows = cohort_rows(parts, finding)
        blocks += [Table("Cohort of each split.", head, rows), Text(cohort_words(parts))]
    return Section("cohort", "Data and cohort", blocks)


def stated(one: Documents) -> Section:
    """Fields of the model card that only its owner knows."""
    fields = stated_fields(one.run)
    rows = [(title, fields.get(key, NOT_STATED)) for key, title in FIELDS.items()]
    return Section("stated", "Stated by the owner", [Facts(rows)])
