"""Backups: what is in one, what is believed, and that a restore is whole or has not happened."""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmssd import backupfile
from dmssd.backupfile import MAGIC, MEMBER_BYTES_MAX, Backup, decode, encode, seal, unseal
from dmssd.driver import backup as driver
from dmssd.driver.backup import collect, read_file, restore, write_config, write_file
from dmssd.driver.disk import Store
from dmssd.driver.formats import FORMAT, RESTORING, ensure_format
from dmssd.security.certificate import found
from dmssd.security.identity import Identity
from sansio.errors import StoreError

SEED = bytes(range(32))
CHAIN = found(Identity(SEED), "alpha", "alpha", os.urandom).chain
BACKUP = Backup(
    "0.3.0",
    FORMAT,
    Identity(SEED).node.hex(),
    "alpha",
    1_700_000_000,
    {"identity": SEED, "membership": CHAIN, "incarnation": b"\x01"},
    {"dmssd.toml": b'name = "alpha"\n', "conf.d/10-more.toml": b""},
)
PASSPHRASE = "correct horse battery"


def crafted(members: object, body: bytes = b"", **more: object) -> bytes:
    """A file with that list of members, whatever it says."""
    facts = {"version": "0.3.0", "state_format": 1, "node": "", "name": "", "made_s": 1, "members": members, **more}
    head = json.dumps(facts).encode()
    return MAGIC + len(head).to_bytes(4, "big") + head + body


def member(name: object, value: bytes, kind: object = "state") -> list[object]:
    return [kind, name, len(value), hashlib.sha256(value).hexdigest()]


GOOD = [member("identity", SEED), member("membership", CHAIN)]


def tree(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state directory of a node, whose daemon is away."""
    store = Store(tmp_path / "state")
    ensure_format(store)
    for key, value in BACKUP.state.items():
        store.write(key, value)
    for key in ("tokens", "approvals", "trials", "originals", "ipv6-opened"):
        store.write(key, b"of this machine, or of this moment")
    store.close()
    return tmp_path / "state"


def test_what_was_written_is_read_and_sealed_it_is_read_with_the_passphrase_alone() -> None:
    data = encode(BACKUP)
    assert decode(data) == BACKUP
    sealed = seal(data, PASSPHRASE, os.urandom(40))
    assert SEED not in sealed
    assert b"alpha" not in sealed
    assert decode(unseal(sealed, PASSPHRASE)) == BACKUP
    for damaged in (sealed[:-1], sealed[:20], sealed[:60] + b"\0" + sealed[61:], backupfile.SEALED):
        with pytest.raises(StoreError):
            unseal(damaged, PASSPHRASE)
    with pytest.raises(StoreError, match="passphrase does not open"):
        unseal(sealed, PASSPHRASE + "s")
    with pytest.raises(StoreError, match="too short"):
        seal(data, "short", os.urandom(40))


@pytest.mark.parametrize(
    "name",
    [
        *("..", "../identity", "/etc/passwd", "identity/../../x", "./identity", "identity\0", "lock", "", "Identity"),
        *(
            "originals",
            "tokens",
            "approvals",
            "identity.new",
            "before-restore-1",
            "conf.d/x.toml",
            7,
            None,
            ["identity"],
        ),
    ],
)
def test_a_state_member_of_another_name_is_refused(name: object) -> None:
    with pytest.raises(StoreError):
        decode(crafted([*GOOD, member(name, b"x")], SEED + CHAIN + b"x"))


@pytest.mark.parametrize(
    "name", ["../dmssd.toml", "conf.d/../x.toml", "conf.d/.hidden.toml", "conf.d/x", "conf.d/a/b.toml", "helper.toml"]
)
def test_a_configuration_member_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(StoreError, match="which no backup may have"):
        decode(crafted([*GOOD, member(name, b"x", "config")], SEED + CHAIN + b"x"))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"dmssd-backup 2\n", MAGIC, MAGIC + b"\xff\xff\xff\xff", MAGIC + b"\0\0\0\x02[]", MAGIC + b"\0\0\0\1{"),
        crafted(GOOD, SEED + CHAIN[:-1]),
        crafted(GOOD, SEED + CHAIN + b"more"),
        crafted(GOOD, bytes(32) + CHAIN),
        crafted([*GOOD, GOOD[0]], SEED + CHAIN + SEED),
        crafted([["state", "identity", MEMBER_BYTES_MAX + 1, ""]]),
        crafted([["state", "identity", -1, ""]]),
        crafted([["state", "identity", True, ""]]),
        crafted([["link", "identity", 32, ""]]),
        crafted([["state", "identity", 32]]),
        crafted([]),
        crafted([member("membership", CHAIN)], CHAIN),
        crafted([member("identity", b"short"), member("membership", CHAIN)], b"short" + CHAIN),
        crafted(GOOD, SEED + CHAIN, made_s="soon"),
        crafted(GOOD, SEED + CHAIN, made_s=10**400),
        crafted(GOOD, SEED + CHAIN, state_format=-1),
        crafted({}),
    ],
)
def test_what_is_no_whole_backup_is_refused(data: bytes) -> None:
    with pytest.raises(StoreError):
        decode(data)


def test_the_crafted_files_are_refused_for_what_they_say_alone() -> None:
    assert decode(crafted(GOOD, SEED + CHAIN, version="\ud800")).state == {"identity": SEED, "membership": CHAIN}


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    for each in (data, MAGIC + data, MAGIC + len(data).to_bytes(4, "big") + data):
        with pytest.raises(StoreError):
            decode(each)


@given(st.data())
@settings(max_examples=200)
def test_a_byte_changed_anywhere_behind_the_list_and_a_file_cut_anywhere_are_refused(data: st.DataObject) -> None:
    whole = encode(BACKUP)
    body = len(whole) - sum(map(len, [*BACKUP.state.values(), *BACKUP.config.values()]))
    at = data.draw(st.integers(body, len(whole) - 1))
    with pytest.raises(StoreError):
        decode(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    with pytest.raises(StoreError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_a_backup_has_the_node_and_neither_tokens_nor_what_is_of_one_machine(state: Path, tmp_path: Path) -> None:
    (tmp_path / "main.toml").write_text("port = 1\n")
    made = collect(state, {"dmssd.toml": tmp_path / "main.toml"})
    assert made.state == BACKUP.state
    assert (made.node, made.name, made.state_format) == (BACKUP.node, "alpha", FORMAT)
    assert made.config == {"dmssd.toml": b"port = 1\n"}
    assert decode(encode(made)) == made


def test_a_backup_waits_for_two_readings_that_are_the_same(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = iter(range(100, 103))
    plain: Callable[[Path], bytes | None] = driver._read

    def changing(path: Path) -> bytes | None:
        if path.name == "format" and (number := next(changes, None)) is not None:
            (state / "incarnation").write_bytes(bytes([number]))
        return plain(path)

    monkeypatch.setattr(driver, "_read", changing)
    assert collect(state, {}).state["incarnation"] == bytes([102])


def test_a_state_file_that_is_a_link_is_not_followed(state: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of somebody else")
    (state / "traffic").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match="traffic cannot be read"):
        collect(state, {})


def test_a_file_is_readable_by_its_owner_alone_and_never_replaces_another(tmp_path: Path) -> None:
    file = tmp_path / "node.backup"
    before = os.umask(0)
    try:
        write_file(file, b"data")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(StoreError, match="exists already"):
        write_file(file, b"other")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="exists already"):
        write_file(tmp_path / "link", b"other")
    assert read_file(file) == b"data"
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(StoreError, match="cannot be read"):
        read_file(tmp_path / "absent")


def test_a_node_is_restored_into_an_empty_directory_with_the_modes_of_a_daemon(tmp_path: Path) -> None:
    place = tmp_path / "new" / "state"
    done = restore(place, BACKUP, force=False)
    assert done.kept is None
    assert tree(place) == {**BACKUP.state, "format": f"{FORMAT} 0.3.0\n".encode()}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o600}
    store = Store(place)
    ensure_format(store)
    assert store.read("identity") == SEED


def test_another_node_is_kept_aside_only_when_forced_and_what_is_of_this_machine_stays(state: Path) -> None:
    before = tree(state)
    other = replace(BACKUP, state={**BACKUP.state, "identity": bytes(32)})
    with pytest.raises(StoreError, match="holds a node already: restore with --force"):
        restore(state, other, force=False)
    assert tree(state) == before
    done = restore(state, other, force=True)
    assert done.kept is not None
    stays = {"originals": before.pop("originals"), "ipv6-opened": before.pop("ipv6-opened")}
    assert tree(done.kept) == before
    assert stat.S_IMODE(done.kept.stat().st_mode) == 0o700
    now = {key: value for key, value in tree(state).items() if "/" not in key}
    assert now == {**other.state, **stays, "format": f"{FORMAT} 0.3.0\n".encode()}
    assert restore(state, BACKUP, force=True).kept == state / "before-restore-2"


def test_a_restore_is_refused_while_a_daemon_runs_and_for_a_newer_format(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    with pytest.raises(StoreError, match="the daemon runs"):
        restore(store.directory, BACKUP, force=True)
    store.close()
    with pytest.raises(StoreError, match=f"the backup has state of format {FORMAT + 1}"):
        restore(store.directory, replace(BACKUP, state_format=FORMAT + 1), force=True)
    assert tree(store.directory) == {}


@pytest.mark.parametrize("after", range(11))
def test_no_daemon_starts_from_a_restore_that_was_interrupted_and_repeating_it_completes_it(
    state: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    other = replace(BACKUP, state={**BACKUP.state, "identity": bytes(32)})
    before = tree(state)
    calls = iter(range(after))
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if next(calls, None) is None:
            raise OSError(5, "the power went out", str(path))
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        with pytest.raises(StoreError, match="repeated with --force"):
            restore(state, other, force=True)
    store = Store(state)
    with pytest.raises(StoreError, match="was interrupted: run dmssd restore FILE --force again"):
        ensure_format(store)
    store.close()
    restore(state, other, force=True)
    now = tree(state)
    assert {key: now[key] for key in other.state} == other.state
    assert not (state / RESTORING).exists()
    kept = [value for key, value in now.items() if key.endswith("/identity")]
    assert before["identity"] in kept, "the key that was there is never lost"


def test_links_in_the_state_directory_lead_a_restore_nowhere(state: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "traffic").write_text("untouched")
    (state / "traffic").symlink_to(outside / "traffic")
    (state / RESTORING).symlink_to(outside)
    (state / "before-restore-1").symlink_to(outside)
    done = restore(state, replace(BACKUP, state={**BACKUP.state, "traffic": b"new"}), force=True)
    assert done.kept == state / "before-restore-2"
    assert tree(outside) == {"traffic": b"untouched"}
    assert not (state / "traffic").is_symlink()


def test_a_link_in_place_of_the_lock_does_not_have_root_give_another_file_away(tmp_path: Path) -> None:
    (tmp_path / "another").write_text("root's")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "lock").symlink_to(tmp_path / "another")
    if os.geteuid() == 0:
        os.chown(state, 12_345, 23_456)
    with pytest.raises(StoreError, match="cannot be locked"):
        restore(state, BACKUP, force=True)
    assert (tmp_path / "another").stat().st_uid == os.geteuid()
    assert not (state / "identity").exists()


@pytest.mark.parametrize("exchanged", [RESTORING, "before-restore-1"])
def test_a_folder_exchanged_for_a_link_while_root_writes_leads_nowhere(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanged: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    opened = os.open

    def exchange(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """The daemon's user waits until the folder is open."""
        descriptor = opened(path, flags, mode, dir_fd=dir_fd)
        if Path(path).name == exchanged:
            (state / exchanged).rename(state / "elsewhere")
            (state / exchanged).symlink_to(outside)
        return descriptor

    monkeypatch.setattr(os, "open", exchange)
    try:
        restore(state, replace(BACKUP, state={**BACKUP.state, "traffic": b"new"}), force=True)
    except StoreError:
        assert exchanged == RESTORING  # what has its name in the end is no folder
    assert list(outside.iterdir()) == []


def test_all_that_is_restored_belongs_to_whom_the_state_directory_belongs_to(state: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(state, 12_345, 23_456)
    done = restore(state, BACKUP, force=True)
    assert done.kept is not None
    # What was there before keeps the owner that it had.
    restored = [state, done.kept, state / "lock", *(state / key for key in BACKUP.state)]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in restored} == {(12_345, 23_456)}


def test_a_key_whose_certificate_is_anothers_is_no_node() -> None:
    with pytest.raises(StoreError, match="the backup's certificate is not its key's"):
        encode(replace(BACKUP, state={**BACKUP.state, "identity": bytes(32)}))
    changing = {**BACKUP.state, "identity": bytes(32), "identity-next": SEED}
    assert decode(encode(replace(BACKUP, state=changing))).state["identity-next"] == SEED


def test_configuration_is_written_only_where_nothing_else_is(tmp_path: Path) -> None:
    place = tmp_path / "etc"
    assert write_config(place, BACKUP.config) == [place / "dmssd.toml", place / "conf.d/10-more.toml"]
    assert write_config(place, BACKUP.config) == []
    (place / "conf.d/10-more.toml").write_text("another = 1\n")
    (place / "dmssd.toml").unlink()
    with pytest.raises(StoreError, match="differs from the backup's"):
        write_config(place, BACKUP.config)
    assert not (place / "dmssd.toml").exists(), "all or nothing"
