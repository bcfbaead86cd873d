"""Stream URLs are checked, mean the same everywhere, and become readable, unique ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.wire.messages import StreamSpec
from fleet.config.urls import absolute_url, check_scheme, stream_id
from fleet.errors import InputError


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sample:", "sample"),
        ("synthetic:?people=3", "synthetic"),
        ("rtsp://user:pass@10.0.0.7:8554/door?x=1", "10.0.0.7-8554-door"),
        ("rtsp://user:p%40s%2fs@10.0.0.7/door", "10.0.0.7-door"),
        ("rtsp://[::1", "1"),
        ("/videos/street 1.mp4", "street-1"),
        ("file:///videos/street.mp4", "street"),
        ("file:street.mp4?loop=1", "street"),
        ("videos/", "videos"),
        ("/dev/video0", "video0"),
        ("v4l2:/dev/video0", "video0"),
        ("v4l2:0", "v4l2-0"),
        ("0", "0"),
        ("///", "stream"),
        ("", "stream"),
    ],
)
def test_ids_are_readable(url, name):
    assert stream_id(url) == name


def test_the_second_of_the_same_gets_a_number():
    assert stream_id("a.mp4", {"a"}) == "a-2"
    assert stream_id("a.mp4", {"a", "a-2"}) == "a-3"


@given(st.text(max_size=200), st.integers(0, 12))
def test_every_url_gives_an_id_that_a_stream_may_have(url, count):
    taken = set()
    for _ in range(count + 1):
        name = stream_id(url, taken)
        assert name not in taken
        assert StreamSpec(id=name, url="x", model="m").id == name
        taken.add(name)


def test_an_unknown_scheme_is_refused_without_showing_the_password():
    with pytest.raises(InputError, match="unknown stream scheme `ftp`") as caught:
        check_scheme("ftp://user:secret@host/a.mp4")
    assert "secret" not in str(caught.value)
    assert "rtsp" in caught.value.hint
    for url in ("rtsp://h/1", "http://h/", "a.mp4", "sample:", "synthetic:?people=2"):
        check_scheme(url)


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b?c.mp4").touch()
    assert absolute_url("a.mp4") == f"{tmp_path}/a.mp4"
    assert absolute_url("a.mp4?loop=1") == f"{tmp_path}/a.mp4?loop=1"
    assert absolute_url("file:a.mp4?loop=1") == f"file:{tmp_path}/a.mp4?loop=1"
    assert absolute_url("b?c.mp4") == f"{tmp_path}/b?c.mp4"
    for url in ("rtsp://h/a.mp4", "sample:", "file:///x/a.mp4"):
        assert absolute_url(url) == url


def test_a_file_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("none.mp4", "file:none.mp4?loop=1"):
        with pytest.raises(InputError, match=r"no file or folder none\.mp4") as caught:
            absolute_url(url)
        assert caught.value.hint
