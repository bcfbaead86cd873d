"""The coordinator's picture of the world; pure."""
