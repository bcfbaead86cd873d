"""A file appears when it is complete, or not at all."""

import pytest

from fleet.errors import InputError
from fleet.whole_file import whole_file


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_it_appears_when_it_is_complete(tmp_path):
    with whole_file(tmp_path / "new" / "a.txt") as path:
        path.write_text("done")
        assert names(tmp_path / "new") == [path.name] != ["a.txt"]
    assert names(tmp_path / "new") == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_text() == "done"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_goes_wrong_leaves_what_was_there(tmp_path, error):
    def fail():
        with whole_file(tmp_path / "a.txt") as path:
            path.write_text("half")
            raise error

    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(error):
        fail()
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


@pytest.mark.parametrize(
    ("name", "says"),
    [("folder", "is a folder"), ("file/a", "cannot write"), ("file/on/the/way", "cannot write")],
)
def test_a_name_that_cannot_be_is_refused_before_anything_is_done(tmp_path, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=says), whole_file(tmp_path / name):
        pytest.fail("the work began")
    assert sorted(names(tmp_path)) == ["file", "folder"]
