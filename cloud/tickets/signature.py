"""Which known fault a finding looks like; the same for the reports of the trainer."""

from models.likeness import resembles

__all__ = ["resembles"]
