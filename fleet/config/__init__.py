"""Configuration files: what a person may write, and how it is read."""
