"""`fleet infer` in this process, on a tiny network that comes from a folder."""

import pytest
import tiny_network
import yaml
from infer_cases import write_picture, write_video
from typer.testing import CliRunner

from fleet import cli
from fleet.errors import ExitCode


@pytest.fixture(scope="module")
def tiny_manifest(tmp_path_factory):
    """The path of a manifest whose network is converted; random weights find people in noise."""
    folder = tmp_path_factory.mktemp("tiny")
    manifest = tiny_network.write(folder / "published").model_dump(mode="json")
    manifest["sources"] = [{"folder": "published"}]
    manifest["input"].update(width=65, height=49)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(manifest))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield path


@pytest.fixture
def infer(tiny_manifest):
    def run(*args, code=ExitCode.OK):
        words = ["infer", *map(str, args)]
        if "--model" not in words:
            words += ["--model", str(tiny_manifest)]
        result = CliRunner().invoke(cli.app, words)
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result

    return run


@pytest.fixture
def picture(tmp_path):
    return write_picture(tmp_path / "in" / "door.png")


@pytest.fixture
def video(tmp_path):
    (tmp_path / "in").mkdir(exist_ok=True)
    return write_video(tmp_path / "in" / "walk.mkv")
