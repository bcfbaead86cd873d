"""Converters: from the format a network is published in to the one an accelerator runs."""
