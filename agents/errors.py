"""Errors of the agents package, split by who must act."""


class AgentError(Exception):
    """Something on this node failed; ``hint`` is the next step, empty when there is none."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class AcceleratorError(AgentError):
    """An accelerator cannot be opened, or cannot run the model it was given."""


class AcceleratorLost(AcceleratorError):
    """An accelerator that worked stopped answering."""


class StreamError(AgentError):
    """A stream cannot be opened or read now; trying again later may help."""


class StreamRefused(StreamError):
    """A stream can never work as given (no such file, not a video, unknown scheme)."""


class WireError(AgentError):
    """Bytes from another process do not follow the wire schema that this version speaks."""
