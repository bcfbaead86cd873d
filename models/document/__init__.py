"""Text of a YAML file -> checked values; every problem has its place and a way out."""

from models.document.check import Words, check
from models.document.problems import KeyPath, Position, Problem, Problems, Report
from models.document.read import Document, read_document

__all__ = [
    "Document",
    "KeyPath",
    "Position",
    "Problem",
    "Problems",
    "Report",
    "Words",
    "check",
    "read_document",
]
