"""ModelManifest: the frozen, validated description of one network; text in, values out.

No file is read here (`models.catalog` does that), and nothing is guessed: an unknown key, a missing
key or a value of the wrong type is an error that names file and line.
"""

from models.manifest.fields import ByteCount, Name, RelativePath, Sha256, Strict, Text
from models.manifest.reader import parse
from models.manifest.schema import DecoderSpec, ModelManifest, Published
from models.manifest.sources import (
    FileSpec,
    FolderSource,
    ModelFile,
    NpmSource,
    PypiSource,
    Source,
    Sources,
    Upstream,
    UrlSource,
)
from models.manifest.tensors import InputSpec, OutputSpec

__all__ = [
    "ByteCount",
    "DecoderSpec",
    "FileSpec",
    "FolderSource",
    "InputSpec",
    "ModelFile",
    "ModelManifest",
    "Name",
    "NpmSource",
    "OutputSpec",
    "Published",
    "PypiSource",
    "RelativePath",
    "Sha256",
    "Source",
    "Sources",
    "Strict",
    "Text",
    "Upstream",
    "UrlSource",
    "parse",
]
