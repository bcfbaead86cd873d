"""Manifests of networks that classify: what they need and what they must not have."""

from importlib import resources

import pytest

from models.catalog import load_manifest
from models.errors import ManifestError
from models.manifest import ModelManifest, parse

TEXT = (resources.files("models") / "manifests" / "resnet50-imagenet.yaml").read_text()


def test_the_zoo_has_one():
    manifest = load_manifest("resnet50")
    assert (manifest.task, manifest.format) == ("classify", "tfjs-layers")
    assert manifest.labels_file.path == "assets/labels.json"
    assert manifest.skeleton == ""
    assert len(manifest.files) == 27


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("task: classify", "task: pose", "stride: this key is missing"),
        ("task: classify", "task: pose\nstride: 16", "skeleton: this key is missing"),
        ("task: classify", "task: classify\nstride: 16", "stride: only networks that find poses"),
        ("task: classify", "task: classify\nskeleton: coco17", "skeleton: only networks that"),
        ("role: labels", "role: shard", "exactly one file has the role 'labels'"),
        (
            "task: classify", "task: pose\nstride: 16\nskeleton: coco17",
            "exactly one file has the role 'labels'",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_task_is_refused(before, after, complaint):
    with pytest.raises(ManifestError, match=complaint):
        parse(TEXT.replace(before, after, 1), ModelManifest, "net.yaml")


def test_what_is_written_out_in_full_is_read_again():
    manifest = load_manifest("resnet50")
    assert ModelManifest.model_validate_json(manifest.model_dump_json()) == manifest
