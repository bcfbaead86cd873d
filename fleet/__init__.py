"""Control plane and command line of the pose fleet; holds the version only."""

__version__ = "0.1.0"
