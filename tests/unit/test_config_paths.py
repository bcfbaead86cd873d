"""Relative paths: of a file from its folder, of the command line from where one stands."""

import os
import shutil
import time
from importlib import resources

import pytest

from fleet import app
from fleet.config.load import load_config
from fleet.config.overrides import Overrides, override
from fleet.config.urls import network_name
from fleet.errors import InputError
from fleet.run_file import RunFile, write_run_file
from models.catalog import DEFAULT_MODEL
from models.errors import ManifestError


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with a configuration and a manifest; we stand somewhere else."""
    folder = tmp_path / "lab 50%"
    folder.mkdir()
    manifest = resources.files("models") / "manifests" / f"{DEFAULT_MODEL}.yaml"
    shutil.copy(str(manifest), folder / "net.yaml")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return folder


def load(folder, text):
    path = folder / "fleet.yaml"
    path.write_text(f"version: 1\n{text}")
    return load_config(path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("a.mp4", "{lab}/a.mp4"),
        ("videos/a.mp4?loop=1", "{lab}/videos/a.mp4?loop=1"),
        ("file:a.mp4?loop=1", "file:{quoted}/a.mp4?loop=1"),
        ("/videos/a.mp4", "/videos/a.mp4"),
        ("~/a.mp4", "~/a.mp4"),
        ("file:///videos/a.mp4", "file:///videos/a.mp4"),
        ("synthetic:?people=3", "synthetic:?people=3"),
        ("rtsp://10.0.0.7/door", "rtsp://10.0.0.7/door"),
    ],
)
def test_a_stream_is_looked_for_beside_the_file(lab, url, expected):
    config = load(lab, f"streams: [{{id: door, url: '{url}'}}]\n")
    quoted = str(lab).replace("%", "%25").replace(" ", "%20")
    assert config.streams[0].url == expected.format(lab=lab, quoted=quoted)


def test_so_are_networks_and_authorities(lab):
    config = load(
        lab,
        "model: ./net.yaml\n"
        "redis: {url: 'rediss://host', ca_file: ca.pem}\n"
        "streams: [{id: door, url: 'synthetic:', model: net.yaml}]\n",
    )
    assert config.model == str(lab / "net.yaml")
    assert config.streams[0].model == str(lab / "net.yaml")
    assert config.redis.ca_file == str(lab / "ca.pem")


def test_a_name_is_no_path(lab):
    assert load(lab, f"model: {DEFAULT_MODEL}\n").model == DEFAULT_MODEL


def test_the_command_line_is_taken_from_where_one_stands(lab, monkeypatch):
    monkeypatch.chdir(lab)
    (lab / "a.mp4").touch()
    config = override(
        load(lab, ""), Overrides(streams=["a.mp4"], model="net.yaml"), replace_streams=False
    )
    assert config.streams[0].url == str(lab / "a.mp4")
    assert config.model == str(lab / "net.yaml")
    with pytest.raises(InputError, match=r"no file or folder b\.mp4"):
        override(config, Overrides(streams=["b.mp4"]), replace_streams=False)
    with pytest.raises(ManifestError, match="nonsense"):
        override(config, Overrides(model="nonsense"), replace_streams=False)


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, [True, False]), (False, [False] * 2), (True, [True] * 2)]
)
def test_the_command_line_switches_tracking_for_every_stream(lab, asked, expected):
    config = load(
        lab,
        "streams: [{id: a, url: 'synthetic:'}, {id: b, url: 'synthetic:', track: false}]\n",
    )
    config = override(config, Overrides(track=asked), replace_streams=False)
    assert [stream.track for stream in config.streams] == expected


def test_an_alias_becomes_the_name_that_every_process_knows():
    assert network_name("posenet-100") == "posenet-mobilenet-100"


def test_a_stream_without_a_network_gets_that_of_the_running_fleet(home):
    assert app.default_model() == DEFAULT_MODEL
    write_run_file(
        RunFile(pid=os.getpid(), started=time.time(), redis={}, model="posenet-mobilenet-100")
    )
    assert app.default_model() == "posenet-mobilenet-100"
