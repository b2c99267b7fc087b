"""``dmssd backup`` and ``dmssd restore`` as typed."""

import os
from pathlib import Path

import pytest

from dmssd.cli.main import main
from dmssd.driver.disk import Store
from dmssd.security.certificate import found
from dmssd.security.identity import Identity

SEED = bytes(range(32))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a node whose daemon has ended."""
    store = Store(tmp_path / "state")
    store.write("identity", SEED)
    store.write("membership", found(Identity(SEED), "alpha", "home", os.urandom).chain)
    store.close()
    file = tmp_path / "dmssd.toml"
    file.write_text(f'state = "{tmp_path / "state"}"\n')
    return file


def target(tmp_path: Path) -> tuple[str, Path]:
    """The configuration of another machine, and its state directory."""
    file = tmp_path / "other.toml"
    file.write_text(f'state = "{tmp_path / "other"}"\n')
    return str(file), tmp_path / "other"


def test_a_node_goes_into_a_file_and_comes_back_with_a_warning_each_time(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, (other, state) = str(tmp_path / "alpha.backup"), target(tmp_path)
    assert main(["backup", file, "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "it holds the node's private key in clear: whoever reads it can be this node" in said
    assert "run this node on ONE machine only" in said
    assert main(["restore", file, "--config", other]) == 0
    assert "WARNING: run this node on ONE machine only" in capsys.readouterr().out
    assert (state / "identity").read_bytes() == SEED
    assert main(["restore", file, "--config", other]) == 1
    assert "restore with --force" in capsys.readouterr().err


def test_a_passphrase_comes_from_the_first_line_of_a_file_and_is_needed_again(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, words, wrong = tmp_path / "alpha.backup", tmp_path / "words", tmp_path / "wrong"
    words.write_text("correct horse battery\nsecond line\n")
    wrong.write_text("correct horse\n")
    assert main(["backup", str(file), "--config", str(config), "--passphrase-file", str(words)]) == 0
    assert SEED not in file.read_bytes()
    assert "in clear" not in capsys.readouterr().out
    other, state = target(tmp_path)
    restoring = ["restore", str(file), "--config", other, "--passphrase-file"]
    assert main([*restoring, str(wrong)]) == 1
    assert "the passphrase does not open this backup" in capsys.readouterr().err
    assert not state.exists()
    assert main([*restoring, str(words)]) == 0
    assert (state / "identity").read_bytes() == SEED


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_no_option_takes_the_passphrase_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "/nonexistent", "--passphrase", "words"]) == 2
    assert "No such option" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["", "\n", "short\n"])
def test_a_passphrase_that_is_too_short_is_refused_and_nothing_written(
    words: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words").write_text(words)
    file = tmp_path / "file"
    assert main(["backup", str(file), "--config", str(config), "--passphrase-file", str(tmp_path / "words")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not file.exists()


@pytest.mark.parametrize(
    "data", [b"", b"text\n", b"dmssd-backup 1\n", b"dmssd-sealed 1\n", b"dmssd-sealed 1\n" + bytes(80)]
)
def test_what_is_no_backup_is_refused_in_one_line_and_nothing_made(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "words").write_text("long enough\n")
    other, state = target(tmp_path)
    arguments = ["restore", str(tmp_path / "file"), "--config", other, "--passphrase-file", str(tmp_path / "words")]
    assert main(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not state.exists()
