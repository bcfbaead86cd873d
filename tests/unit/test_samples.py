"""Sample streams: which one is chosen, and what is said when none can be had."""

import pytest

import models.samples as samples
from models.artifacts import FileSet
from models.errors import ArtifactError, ManifestError
from models.manifest import FileSpec, FolderSource, parse
from models.samples import SampleSpec, ensure_sample, list_samples

DESCRIPTION = """\
name: {name}
title: Title of {name}
rank: {rank}
kind: photos
license: MIT
attribution: somebody
homepage: https://example.org/
files:
  - path: b.jpg
    size: 1
    sha256: 3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d
  - path: a.jpg
    size: 1
    sha256: ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb
sources:
  - folder: {folder}
"""


@pytest.fixture
def known(home, monkeypatch):
    """Two samples of two files each; publish() makes one of them available."""
    specs = tuple(
        parse(
            DESCRIPTION.format(name=name, rank=rank, folder=home / name), SampleSpec, f"{name}.yaml"
        )
        for rank, name in enumerate(("first", "second"), 1)
    )
    monkeypatch.setattr(samples, "list_samples", lambda: specs)

    def publish(name):
        (home / name).mkdir()
        (home / name / "a.jpg").write_bytes(b"a")
        (home / name / "b.jpg").write_bytes(b"b")

    return publish


def test_the_first_that_can_be_had_is_taken(known):
    known("second")
    sample = ensure_sample()
    assert sample.title == "Title of second"
    assert (sample.kind, sample.license) == ("photos", "MIT")
    assert [path.name for path in sample.paths] == ["b.jpg", "a.jpg"]
    assert [path.read_bytes() for path in sample.paths] == [b"b", b"a"]


def test_one_that_is_cached_is_taken_before_a_better_one_is_fetched(known):
    known("second")
    ensure_sample()
    known("first")
    assert ensure_sample().title == "Title of second"
    assert ensure_sample("first").title == "Title of first"
    assert ensure_sample().title == "Title of first"


def test_all_causes_are_named_when_none_can_be_had(known):
    with pytest.raises(ArtifactError) as caught:
        ensure_sample()
    lines = str(caught.value).splitlines()
    assert lines[0] == "no sample stream can be had"
    assert [line for line in lines if line.startswith("cannot get ")] == [
        "cannot get first: no source works",
        "cannot get second: no source works",
    ]
    assert "a stream of your own" in caught.value.hint


def test_an_unknown_sample_names_the_near_one():
    with pytest.raises(ManifestError, match="no sample is named 'bike'") as caught:
        ensure_sample("bike")
    assert caught.value.hint == "did you mean bikes?"


def test_the_samples_of_the_package_are_sound(home):
    specs = list_samples()
    assert [spec.name for spec in specs] == ["vtest", "group-photos", "bikes"]
    for spec in specs:
        assert isinstance(spec.wanted, FileSet)
        assert spec.wanted.folder == home / "cache/posefleet/samples" / spec.name
        assert all(isinstance(file, FileSpec) for file in spec.files)
        assert not any(isinstance(source, FolderSource) for source in spec.sources)
