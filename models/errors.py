"""Errors of the models package: one short tree, split by what the reader must do next."""


class ModelError(Exception):
    """Something is wrong with a network, its files or its description; ``hint`` says what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        """The next step for the person who reads the error; empty when there is none."""


class ManifestError(ModelError):
    """A manifest is malformed, or no manifest has the name that was asked for."""


class ArtifactError(ModelError):
    """A file of a network could not be fetched, verified, unpacked or stored."""


class ConversionError(ModelError):
    """A network could not be converted to the format that an accelerator needs."""


class DecodeError(ModelError):
    """Output tensors do not have the shapes that the decoder was built for."""
