"""The sources that manifests and samples really name: fetched, verified, converted."""

from dataclasses import replace

import pytest

from models.artifacts import FileSet, ensure_files, model_files, verify
from models.catalog import list_manifests
from models.convert.openvino_ir import ensure_ir
from models.errors import ArtifactError
from models.samples import list_samples

pytestmark = pytest.mark.network

NETWORKS = {manifest.name: manifest for manifest in list_manifests() if manifest.can_fetch}
SAMPLES = {spec.name: spec for spec in list_samples()}
BIG = 50_000_000
"""Bytes of a package that several networks share: fetched once, for the first of them."""


def sources():
    """Yield every source of every network and sample, but no big package twice."""
    seen = set()
    for name, described in {**NETWORKS, **SAMPLES}.items():
        for index, source in enumerate(described.sources):
            digest = getattr(source, "sha256", "")
            if getattr(source, "size", 0) > BIG and digest in seen:
                continue
            seen.add(digest)
            yield pytest.param(name, index, id=f"{name}-{index}")


SOURCES = list(sources())
RUNNABLE = [
    name
    for name, manifest in NETWORKS.items()
    if not manifest.needs and all(getattr(s, "size", 0) <= BIG for s in manifest.sources)
]
OFFLINE = (
    "Name or service not known",
    "Temporary failure",
    "unreachable",
    "timed out",
    "ENOTFOUND",
)
"""What a machine says whose network leads nowhere near the source."""


def files_of(name) -> FileSet:
    return model_files(NETWORKS[name]) if name in NETWORKS else SAMPLES[name].wanted


def fetch_or_skip(wanted):
    """Skip where the source cannot be reached; what it gives wrongly is a failure."""
    try:
        ensure_files(wanted)
    except ArtifactError as error:
        if any(sign in str(error) for sign in OFFLINE):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize(("name", "index"), SOURCES)
def test_every_source_gives_exactly_the_files(home, name, index):
    alone = replace(files_of(name), sources=files_of(name).sources[index : index + 1])
    fetch_or_skip(alone)
    assert verify(alone) == []


@pytest.mark.integration
@pytest.mark.parametrize("name", RUNNABLE)
def test_every_network_of_the_catalog_converts(home, name):
    fetch_or_skip(files_of(name))
    assert ensure_ir(NETWORKS[name]).conversion_s > 0
    assert ensure_ir(NETWORKS[name]).conversion_s == 0
