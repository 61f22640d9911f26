"""Contact sheets: batches that a person can look at; see `vidload.system.sheet`."""

from vidload.system.sheet import evenly, figure_class, pixels, write_contact_sheet

__all__ = ["evenly", "figure_class", "pixels", "write_contact_sheet"]
