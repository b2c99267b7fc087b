"""Which configuration a daemon goes by: the files', or the one before them that was not given up for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dmssd.config.load import load
from dmssd.config.schema import Config, plain
from dmssd.driver.disk import Store
from dmssd.driver.reload import UNDONE_KEY, Chosen, Reloader, choose
from dmssd.rules.confirming import Undo
from sansio.errors import KernelError, RequestError

OLD, NEW = '[[links]]\nmatch = "eth0"\n', '[[links]]\nmatch = "wg0"\n'


class Bench:
    def __init__(self, directory: Path) -> None:
        self.file = directory / "dmssd.toml"
        self.store = Store(directory / "state")
        self.file.write_text(OLD)
        self.applied: list[Config] = []
        self.restarts = 0
        self.reloader = self.start()

    def start(self, failed: Undo | None = None) -> Reloader:
        chosen = choose(load(self.file), self.store, failed)
        return Reloader(self.file, chosen, self.store, self.applied.append, self.restart)

    def restart(self) -> None:
        self.restarts += 1

    def reload(self, text: str) -> None:
        self.file.write_text(text)
        self.reloader.take(self.reloader.filed())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


def links(config: Config) -> list[str]:
    return [rule.match for rule in config.links]


def test_a_file_that_cannot_be_used_is_not_taken_and_the_error_says_that_nothing_changed(bench: Bench) -> None:
    with pytest.raises(RequestError, match=r"port: must be .*nothing was changed"):
        bench.reload("port = 0\n" + NEW)
    assert bench.applied == []
    assert links(bench.reloader.config) == ["eth0"]


def test_what_takes_a_restart_is_not_in_effect_before_one(bench: Bench) -> None:
    bench.reload("port = 4800\n" + NEW)
    (applied,) = bench.applied
    assert (applied.port, links(applied)) == (4747, ["wg0"])
    assert [change.key for change in bench.reloader.plan(bench.reloader.filed()).changes] == ["port"]
    assert bench.start().config.port == 4800


def test_an_undone_change_is_undone_at_the_next_start_too_although_the_file_holds_it(bench: Bench) -> None:
    before = plain(bench.reloader.config)
    bench.reload(NEW)
    bench.reloader.restore(before)
    assert [links(config) for config in bench.applied] == [["wg0"], ["eth0"]]
    assert bench.restarts == 0
    again = bench.start()
    assert links(again.config) == ["eth0"]
    assert again.notes != ()


def test_files_that_were_mended_after_an_undo_are_gone_by(bench: Bench) -> None:
    bench.reload(NEW)
    bench.reloader.restore(plain(load(None)) | {"links": []})
    bench.file.write_text(OLD)
    started = bench.start()
    assert (links(started.config), started.notes) == (["eth0"], ())
    assert bench.store.read(UNDONE_KEY) is None


def test_an_undone_change_that_is_asked_for_again_is_taken(bench: Bench) -> None:
    before = plain(bench.reloader.config)
    bench.reload(NEW)
    bench.reloader.restore(before)
    bench.reload(NEW)
    assert bench.reloader.notes == ()
    assert links(bench.start().config) == ["wg0"]


def test_a_daemon_that_starts_after_a_failed_trial_never_goes_by_what_was_tried(bench: Bench) -> None:
    undo = bench.reloader.plan(bench.reloader.config).undo
    bench.file.write_text("port = 4800\n" + NEW)
    started = bench.start(undo)
    assert (started.config.port, links(started.config)) == (4747, ["eth0"])
    assert started.notes != ()
    started.restore(undo.arguments["config"])  # what the failed trial then asks for
    assert bench.restarts == 0


def test_undoing_what_took_a_restart_takes_another(bench: Bench) -> None:
    before = plain(bench.reloader.config)
    bench.file.write_text("port = 4800\n" + OLD)
    bench.reloader = bench.start()
    bench.reloader.restore(before)
    assert bench.restarts == 1
    assert bench.start().config.port == 4747


def test_a_remembered_configuration_of_another_version_is_dropped(bench: Bench) -> None:
    bench.store.write(UNDONE_KEY, b"[]")
    assert choose(load(bench.file), bench.store, None) == Chosen(load(bench.file))
    assert bench.store.read(UNDONE_KEY) is None


def test_another_state_directory_cannot_be_tried(bench: Bench) -> None:
    bench.file.write_text('state = "/elsewhere"\n' + OLD)
    with pytest.raises(RequestError, match="cannot be tried"):
        bench.reloader.check_trial(bench.reloader.plan(bench.reloader.filed()))


def test_a_change_that_fails_while_it_is_made_is_taken_back_and_not_in_effect(bench: Bench) -> None:
    def apply(config: Config) -> None:
        bench.applied.append(config)
        if links(config) == ["wg0"]:
            raise KernelError(1, "a link")

    bench.reloader = Reloader(bench.file, Chosen(load(bench.file)), bench.store, apply, bench.restart)
    with pytest.raises(KernelError):
        bench.reload(NEW)
    assert [links(config) for config in bench.applied] == [["wg0"], ["eth0"]]
    assert links(bench.reloader.config) == ["eth0"]
