"""The contract between node and fleet: pure, versioned, the only thing that both sides agree on."""

SCHEMA_VERSION = 1
"""Raised when an older reader could misread a newer writer; readers refuse unknown ones."""
