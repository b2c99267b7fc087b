import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmssd.driver.disk import Store
from sansio.errors import StoreError


def test_what_was_written_is_read_by_the_next_daemon(tmp_path: Path) -> None:
    first = Store(tmp_path / "state")
    first.write("lsa-sequence", b"\x00\x01")
    first.write("lsa-sequence", b"\x00\x02")
    first.close()
    assert Store(tmp_path / "state").read("lsa-sequence") == b"\x00\x02"


def test_what_was_never_written_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.read("identity") is None
    store.write("identity", b"seed")
    store.delete("identity")
    store.delete("identity")
    assert store.read("identity") is None


def test_what_is_written_is_counted_and_what_fails_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("identity", b"seed")
    store.write("identity", b"seeds")
    with pytest.raises(StoreError):
        store.write("lock", b"x" * 100)
    assert (store.writes, store.written_bytes) == (2, 9)


def test_only_the_owner_can_look_inside(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    Store(tmp_path / "state").write("identity", b"seed")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "identity").stat().st_mode & 0o777 == 0o600


def test_a_second_daemon_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    first = Store(tmp_path)
    with pytest.raises(StoreError, match=rf"used by another dmssd \(pid {os.getpid()}\): stop that one, or"):
        Store(tmp_path)
    first.close()
    Store(tmp_path).close()


def test_the_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import sys, os; from dmssd.driver.disk import *; Store(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(StoreError, match=str(holder.pid)):
        Store(tmp_path)
    holder.kill()
    holder.communicate()
    Store(tmp_path).close()


def test_a_crash_before_the_rename_leaves_the_old_value(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("incarnation", b"old")
    (tmp_path / "incarnation.new").write_bytes(b"half of the ne")
    assert store.read("incarnation") == b"old"
    store.write("incarnation", b"new")
    assert store.read("incarnation") == b"new"
    assert not (tmp_path / "incarnation.new").exists()


def test_a_value_that_cannot_be_read_or_written_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "identity").mkdir()
    with pytest.raises(StoreError, match=r"identity cannot be read \(Is a directory\): check that it belongs to"):
        store.read("identity")
    with pytest.raises(StoreError, match="identity cannot be written"):
        store.write("identity", b"seed")


def test_a_state_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be used as state directory"):
        Store(tmp_path / "file")


@pytest.mark.parametrize("key", ["", "../identity", "a/b", "lock", "x.new", ".hidden", "UPPER", "n\x00ul"])
def test_a_key_never_leaves_the_directory(tmp_path: Path, key: str) -> None:
    with pytest.raises(StoreError, match="cannot be a key"):
        Store(tmp_path).write(key, b"")
