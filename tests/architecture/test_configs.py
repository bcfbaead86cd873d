"""Every configuration in the repository loads, and the packaged default is the one people read."""

from pathlib import Path

import pytest

from fleet.config.load import DEFAULT_CONFIG, load_config
from fleet.config.schema import config_schema
from models.document import read_document

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_configuration_loads(path, monkeypatch):
    for secret in ("FLEET_REDIS_PASSWORD", "DOOR_PASSWORD"):
        monkeypatch.setenv(secret, "x")
    assert load_config(path).version == 1


def test_the_packaged_default_is_configs_local():
    assert DEFAULT_CONFIG.read_bytes() == (CONFIGS / "local.yaml").read_bytes()


def test_the_lab_example_shows_every_key():
    text = (CONFIGS / "lab.example.yaml").read_text()
    # The example holds one kind of Redis as values and the other as a comment.
    document = read_document(text, lambda *problem: pytest.fail(str(problem)))
    assert document is not None
    schema = config_schema()
    shown = {str(part) for path in document.keys for part in path} | {
        line.strip("# ").partition(":")[0] for line in text.splitlines() if line.startswith("#   ")
    }
    sections = [schema, *schema["$defs"].values()]
    known = {name for section in sections for name in section["properties"]}
    assert known <= shown
