"""A file is written whole or not at all."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fiml.files import replacing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "figures.csv"
    with replacing(target) as file:
        file.write(b"half")
        file.flush()
        assert not target.exists()
        file.write(b" and half")
    assert target.read_bytes() == b"half and half"
    assert names(tmp_path) == ["figures.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("before", [None, b"what was there"])
def test_after_an_error_there_is_what_was_there_before(
    tmp_path: Path, error: type[BaseException], before: bytes | None
) -> None:
    target = tmp_path / "figures.csv"
    if before is not None:
        target.write_bytes(before)

    def interrupted() -> None:
        with replacing(target) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert (target.read_bytes() if target.exists() else None) == before
    assert names(tmp_path) == ([] if before is None else ["figures.csv"])


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write(tmp_path / "ours", b"")
    with (tmp_path / "any").open("wb"):
        pass
    assert mode(tmp_path / "ours") == mode(tmp_path / "any") == 0o640


@pytest.mark.usefixtures("umask")
def test_a_file_that_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    target = tmp_path / "figures.csv"
    target.write_bytes(b"")
    target.chmod(0o604)
    write(target, b"new")
    assert (target.read_bytes(), mode(target)) == (b"new", 0o604)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_was_there_keeps_its_owner(tmp_path: Path) -> None:
    target = tmp_path / "figures.csv"
    target.write_bytes(b"")
    os.chown(target, 12_345, 23_456)
    write(target, b"new")
    assert (target.stat().st_uid, target.stat().st_gid) == (12_345, 23_456)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder of a group, in which somebody who is in it works while the test lasts."""
    # pytest's own folders are closed to others than root.
    with TemporaryDirectory(prefix="session-analytics-tests-") as name:
        folder = Path(name)
        os.chown(folder, 12_345, 23_456)
        folder.chmod(0o770)
        groups, group = os.getgroups(), os.getegid()
        os.setgroups([23_456])
        os.setegid(34_567)
        os.seteuid(34_567)
        try:
            yield folder
        finally:
            os.seteuid(0)
            os.setegid(group)
            os.setgroups(groups)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_file_of_another_s_that_is_shared_with_a_group_stays_so(shared_folder: Path) -> None:
    target = shared_folder / "figures.csv"
    target.write_bytes(b"")
    target.chmod(0o660)
    os.seteuid(0)
    os.chown(target, 12_345, 23_456)
    os.seteuid(34_567)
    write(target, b"new")
    assert (target.read_bytes(), mode(target)) == (b"new", 0o660)
    assert (target.stat().st_uid, target.stat().st_gid) == (34_567, 23_456)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "figures.csv"
    target.write_bytes(b"old")
    target.chmod(0o444)
    with pytest.raises(PermissionError):
        write(target, b"new")
    assert target.read_bytes() == b"old"


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "figures.csv"
    link = tmp_path / "link"
    link.symlink_to(target)
    for content in (b"new", b"newer"):
        write(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write(pipe, b"figures")
    reader.join(timeout=30)
    assert read == [b"figures"]
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("link", [None, "link", "folder"])
def test_what_is_open_already_is_written_to_where_it_was(tmp_path: Path, link: str | None) -> None:
    target = tmp_path / "figures.csv"
    with target.open("wb", buffering=0) as file:
        place = Path("/dev/fd", str(file.fileno()))
        if link == "link":
            (tmp_path / "link").symlink_to(place)
            place = tmp_path / "link"
        elif link == "folder":
            (tmp_path / "folder").symlink_to("/dev/fd")
            place = tmp_path / "folder" / place.name
        file.write(b"head, ")
        write(place, b"figures")
        file.write(b", foot")
    assert target.read_bytes() == b"head, figures, foot"


@pytest.mark.parametrize("place", ["pipe", "socket"])
def test_the_other_end_of_what_is_open_gets_it(place: str) -> None:
    with ExitStack() as stack:
        if place == "pipe":
            ends = os.pipe()
            reading, writing = (stack.enter_context(os.fdopen(end, "r+b", 0)) for end in ends)
        else:
            pair = (stack.enter_context(end) for end in socket.socketpair())
            reading, writing = (stack.enter_context(end.makefile("rwb", 0)) for end in pair)
        write(Path(f"/dev/fd/{writing.fileno()}"), b"figures")
        assert reading.read(7) == b"figures"


def test_a_descriptor_that_is_not_open_is_refused_at_once() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"), replacing(Path(f"/dev/fd/{writing}")):
        pytest.fail("the block was entered")


def test_names_as_long_as_names_can_be_are_taken(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 255)
    write(target, b"figures")
    assert target.read_bytes() == b"figures"


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("missing/figures.csv", FileNotFoundError),
        ("file/figures.csv", NotADirectoryError),
        ("folder", IsADirectoryError),
        ("x" * 256, OSError),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, place: str, error: type[OSError]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(error), replacing(tmp_path / place):
        pytest.fail("the block was entered")
    assert names(tmp_path) == ["file", "folder"]


def test_a_full_disk_is_an_error_and_leaves_what_was_there(small_disk: Path) -> None:
    target = small_disk / "figures.csv"
    target.write_bytes(b"old")
    with pytest.raises(OSError, match="No space left on device"):
        write(target, b"x" * 200_000)
    assert target.read_bytes() == b"old"
    assert names(small_disk) == ["figures.csv"]
