"""The state directory's format: older ones are raised step by step, the same just works, a newer one is refused."""

from pathlib import Path

import pytest

from dmssd import __version__
from dmssd.driver.disk import Store
from dmssd.driver.formats import FORMAT, FORMAT_KEY, STEPS, ensure_format
from sansio.errors import StoreError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


def files(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.directory.iterdir()}


def test_state_of_before_there_were_formats_keeps_all_that_it_holds(store: Store) -> None:
    store.write("identity", b"seed")
    before = files(store)
    ensure_format(store)
    assert files(store) == {**before, FORMAT_KEY: f"{FORMAT} {__version__}\n".encode()}


def test_state_of_the_same_format_is_taken_as_it_is_whoever_wrote_it(store: Store) -> None:
    store.write(FORMAT_KEY, f"{FORMAT} 99.0.0\n".encode())
    before = files(store)
    ensure_format(store)
    assert files(store) == before


def test_a_newer_format_is_refused_with_what_to_do_and_nothing_is_touched(store: Store) -> None:
    store.write(FORMAT_KEY, f"{FORMAT + 1} 9.9.9\n".encode())
    before = files(store)
    with pytest.raises(StoreError, match=r"install 9\.9\.9 or newer again, or restore a backup .* before the upgrade"):
        ensure_format(store)
    assert files(store) == before


@pytest.mark.parametrize("said", [b"", b"one", b"-1 0.3.0", b"\xff\xfe", "١ 0.3.0".encode(), b"9" * 50])
def test_a_damaged_format_is_refused_and_nothing_is_touched(store: Store, said: bytes) -> None:
    store.write(FORMAT_KEY, said)
    with pytest.raises(StoreError, match="damaged: restore a backup"):
        ensure_format(store)
    assert store.read(FORMAT_KEY) == said


def test_formats_are_raised_one_by_one_and_a_step_that_failed_is_taken_again(store: Store) -> None:
    store.write("value", b"0")
    taken: list[int] = []

    def step(number: int) -> None:
        taken.append(number)
        if taken == [0, 1]:
            raise StoreError("the disk is full")

    steps = {number: (lambda _, number=number: step(number)) for number in range(3)}
    with pytest.raises(StoreError, match="full"):
        ensure_format(store, 3, steps)
    assert str(store.read(FORMAT_KEY)).startswith("b'1 ")
    ensure_format(store, 3, steps)
    assert taken == [0, 1, 1, 2]
    assert str(store.read(FORMAT_KEY)).startswith("b'3 ")


def test_there_is_a_step_from_every_older_format() -> None:
    assert sorted(STEPS) == list(range(FORMAT))
