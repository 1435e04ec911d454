"""Labels as a layout reads them, before the policies for uncertain and blank ones."""

from trainer.data.class_folders import directory_entries
from trainer.data.layouts.choose import LAYOUTS, choose
from trainer.data.layouts.source import Request


def raw(root):
    """The raw table of the data set in this directory."""
    entries = directory_entries(root)
    layout = LAYOUTS[choose(root, entries, "auto", given=True)]
    return layout.read(Request(data=root, entries=entries, given=True)).table
