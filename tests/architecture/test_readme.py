"""What the README promises is what the code does."""

import re
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from agents.streams import STREAMS
from agents.wire.keys import KEY_TABLE
from fleet.cli import app
from fleet.errors import ExitCode

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("row", KEY_TABLE, ids=lambda row: row.pattern)
def test_every_redis_key_is_in_the_table(row):
    lives = "until removed"
    if row.maxlen is not None:
        lives = f"the last {row.maxlen}"
        if row.ttl_s is not None:
            lives += f", {row.ttl_s} s"
    elif row.ttl_s is not None:
        lives = f"{row.ttl_s} s"
    key = row.pattern.replace("{ns}", "fleet")
    assert f"| `{key}` | {row.type} | {row.writer} | {lives} | {row.holds} |" in README


def commands(group, words=("fleet",)):
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)


@pytest.mark.parametrize("words", tuple(commands(get_command(app))), ids=" ".join)
def test_every_command_is_described(words):
    lines = [line for line in README.splitlines() if " ".join(words[:2]) in line]
    assert any(words[-1] in line for line in lines), f"{' '.join(words)} is not in the README"


@pytest.mark.parametrize("scheme", tuple(STREAMS))
def test_every_stream_scheme_is_described(scheme):
    assert f"`{scheme}:" in README or f"`{scheme}://" in README


@pytest.mark.parametrize("code", tuple(ExitCode), ids=lambda code: code.name)
def test_every_exit_code_is_described(code):
    assert re.search(rf"\b{code.value} [a-zA-Z]", README[README.index("Exit codes") :])


def test_every_picture_and_linked_file_is_there():
    root = Path(__file__).resolve().parents[2]
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (root / link).exists()] == []
