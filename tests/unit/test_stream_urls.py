"""Stream URLs: schemes, options, and never a password in what is shown."""

import pytest

from agents.errors import StreamRefused
from agents.streams import STREAMS, open_stream
from agents.streams.urls import LocalUrl, redact, scheme_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://camera:554/live", "rtsp://camera:554/live"),
        ("rtsp://admin:s3cret@camera/live", "rtsp://***@camera/live"),
        ("rtsp+udp://admin:s3cret@camera/live", "rtsp+udp://***@camera/live"),
        ("rtsp://admin@camera/live", "rtsp://***@camera/live"),
        ("rtsp://admin:p@s3cret@camera/live", "rtsp://***@camera/live"),
        ("rtsp://admin:s3/cret@camera/live", "rtsp://***@camera/live"),
        ("rtsp://camera/live@2", "rtsp://camera/live@2"),
        ("http://[::1]:8080/live@2", "http://[::1]:8080/live@2"),
        ("http://a:s3cret@[::1]:8080/x", "http://***@[::1]:8080/x"),
        ("http://camera/cgi?usr=me&pwd=s3cret", "http://camera/cgi?usr=me&pwd=***"),
        ("http://camera/v?authToken=s3cret&w=3", "http://camera/v?authToken=***&w=3"),
        ("http://camera/v?w=3#x", "http://camera/v?w=3#x"),
        ("videos/clip.mp4", "videos/clip.mp4"),
        ("synthetic:?people=3", "synthetic:?people=3"),
    ],
)
def test_credentials_are_cut_out(url, shown):
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("RTSP://camera", "rtsp"),
        ("rtsp+udp://camera", "rtsp+udp"),
        ("v4l2:0", "v4l2"),
        ("/dev/shm/a.mp4", "file"),
        ("clip.mp4", "file"),
        ("C:clip.mp4", "file"),
        ("file:clip.mp4", "file"),
    ],
)
def test_the_scheme_is_found(url, scheme):
    assert scheme_of(url) == scheme


def test_a_file_that_exists_is_a_file_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rtsp:clip?loop=1").touch()
    assert scheme_of("rtsp:clip?loop=1") == "file"
    assert LocalUrl.parse("rtsp:clip?loop=1", ("loop",)).target == "rtsp:clip?loop=1"


@pytest.mark.parametrize(
    ("url", "target", "options"),
    [
        ("clip.mp4?loop=1", "clip.mp4", {"loop": "1"}),
        ("file:clip.mp4", "clip.mp4", {}),
        ("file:a%20b%3F.mp4?loop=1", "a b?.mp4", {"loop": "1"}),
        ("file:/tmp/clip.mp4", "/tmp/clip.mp4", {}),
        ("file:///tmp/clip.mp4", "/tmp/clip.mp4", {}),
        ("file://localhost/tmp/clip.mp4", "/tmp/clip.mp4", {}),
        ("v4l2:/dev/video0?loop=", "/dev/video0", {"loop": ""}),
    ],
)
def test_target_and_options_are_split(url, target, options):
    where = LocalUrl.parse(url, ("loop",))
    assert (where.target, where.options) == (target, options)


def test_every_opener_of_the_table_resolves():
    for scheme in STREAMS:
        with pytest.raises(StreamRefused):
            open_stream(f"{scheme}:nothing?nothing=1", timeout_s=0.1)


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(StreamRefused, match="gopher") as refused:
        open_stream("gopher://me:s3cret@camera/live")
    assert all(scheme in refused.value.hint for scheme in STREAMS)
    assert "s3cret" not in str(refused.value)


def test_openers_of_other_distributions_are_found(tmp_path, monkeypatch):
    info = tmp_path / "blinker-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blinker\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[posefleet.streams]\nblink = blinking:open_blink\nbroken = blinking:nothing\n"
    )
    (tmp_path / "blinking.py").write_text(
        "def open_blink(url, first_sequence, timeout_s, /):\n"
        "    return (url, first_sequence, timeout_s)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert open_stream("blink:x", 3, 1.5) == ("blink:x", 3, 1.5)
    with pytest.raises(StreamRefused, match="broken"):
        open_stream("broken:x")
