"""The record of what settings were: what it keeps, and what it never takes for an original."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmssd.driver import clean
from dmssd.driver.disk import Store, idle
from dmssd.driver.kernel import Sysctl
from dmssd.driver.originals import ALL_FORWARDING6, ORIGINALS_MAX, Original, Originals, Recording, here, interface_of
from sansio.errors import StoreError

POLICY = "net/ipv4/fib_multipath_hash_policy"
FORWARDING = "net/ipv4/conf/eth0/forwarding"


def test_what_the_daemon_gave_a_setting_itself_is_never_taken_for_what_it_was() -> None:
    record = Originals("here")
    record.changing(POLICY, "0", "7")
    record.changing(POLICY, "7", "8")
    assert record.settings == {POLICY: Original("0", "8")}
    again = Originals.parse(record.encode(), "here")
    again.changing(POLICY, "8", "9")
    assert again.settings == {POLICY: Original("0", "9")}


def test_what_somebody_else_gave_it_meanwhile_is_the_original_from_then_on() -> None:
    record = Originals("here")
    record.changing(POLICY, "0", "1")
    record.changing(POLICY, "2", "1")
    assert record.settings == {POLICY: Original("2", "1")}


def test_an_interface_that_took_the_name_of_another_has_an_original_of_its_own() -> None:
    record = Originals("here")
    record.changing(FORWARDING, "0", "1", 4)
    record.changing(FORWARDING, "1", "2", 5)
    assert record.settings == {FORWARDING: Original("1", "2", 5)}


def test_a_record_of_another_place_or_one_that_is_damaged_is_void() -> None:
    record = Originals("here")
    record.changing(POLICY, "0", "1")
    assert Originals.parse(record.encode(), "here") == record
    entry = {"place": "here", "forwarded6": {}}
    for stored in (
        *(None, b"", b"[]", b"{", b"\xff", record.encode()[:-3]),
        *(json.dumps({**entry, "settings": bad}).encode() for bad in ([], {"k": 1}, {"k": ["0"]}, {"k": [0, 1, "x"]})),
    ):
        assert Originals.parse(stored, "here").settings == {}
    assert Originals.parse(record.encode(), "elsewhere").settings == {}


def test_the_record_is_bounded_and_forgets_interfaces_before_the_machine() -> None:
    record = Originals("here")
    record.changing("net/ipv4/nexthop_compat_mode", "1", "0")
    for number in range(1, ORIGINALS_MAX + 10):
        record.changing(f"net/ipv4/conf/veth{number}/forwarding", "0", "1", number)
    assert len(record.settings) == ORIGINALS_MAX
    assert "net/ipv4/nexthop_compat_mode" in record.settings
    assert "net/ipv4/conf/veth1/forwarding" not in record.settings


def test_settings_of_interfaces_are_told_from_those_of_all() -> None:
    assert interface_of(FORWARDING) == "eth0"
    for key in (ALL_FORWARDING6, "net/ipv6/conf/lo/disable_ipv6", "net/ipv4/nexthop_compat_mode"):
        assert interface_of(key) is None


def test_the_record_is_written_before_the_setting_and_a_setting_without_a_record_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / POLICY).parent.mkdir(parents=True)
    (tmp_path / POLICY).write_text("0")
    written: list[tuple[bytes, str]] = []

    def write(value: bytes) -> None:
        written.append((value, (tmp_path / POLICY).read_text()))
        if len(written) > 1:
            raise StoreError("the disk is full")

    recording = Recording(None, "boot", write, dict)
    sysctl = Sysctl(tmp_path, recording.changing)
    sysctl.ensure("0", *POLICY.split("/"))
    assert not written, "what is as it should be is not recorded"
    sysctl.ensure("1", *POLICY.split("/"))
    ((value, then),) = written
    assert then == "0"
    assert Originals.parse(value, here("boot")).settings == {POLICY: Original("0", "1")}
    with pytest.raises(StoreError):
        sysctl.ensure("2", *POLICY.split("/"))
    assert (tmp_path / POLICY).read_text() == "1"


def test_interfaces_that_forwarded_ipv6_before_all_did_are_remembered() -> None:
    written: list[bytes] = []
    states = {"all": "0", "default": "0", "lo": "0", "gone0": "1"}
    Recording(None, "boot", written.append, lambda: states).changing(ALL_FORWARDING6, "0", "1")
    assert Originals.parse(written[-1], here("boot")).forwarded6 == {"gone0": 0}


def test_a_directory_is_idle_only_while_no_daemon_has_it_and_none_starts_meanwhile(tmp_path: Path) -> None:
    with idle(tmp_path / "absent"):
        assert not (tmp_path / "absent").exists(), "nothing is made: it would be root's"
    store = Store(tmp_path / "state")
    with (
        pytest.raises(StoreError, match=rf"the daemon runs \(pid {os.getpid()}\).*stop it first"),
        idle(store.directory),
    ):
        pass
    store.close()
    code = f"import pathlib; from dmssd.driver.disk import Store; Store(pathlib.Path({str(store.directory)!r}))"
    with idle(store.directory):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert "used by another dmssd" in done.stderr
    Store(store.directory).close()


@pytest.mark.parametrize(
    "key",
    [
        *("kernel/core_pattern", "net/ipv4/conf/../../../../etc/passwd", "net/ipv4/conf/../rp_filter", "/etc/passwd"),
        *("net/ipv4/conf/./forwarding", "net/ipv4/conf/eth0/forwarding\n", "net/ipv4/conf/a\0b/forwarding"),
        *("net/ipv4/ip_forward", "net/ipv6/conf/all/../../ipv4/ip_forward", "", "net/ipv4/conf/eth0/x/forwarding"),
    ],
)
def test_a_record_that_names_anything_else_than_dmssds_settings_is_void(key: str) -> None:
    good = {"place": "here", "settings": {FORWARDING: ["0", "1", 4]}, "forwarded6": {"default": 0}}
    assert Originals.parse(json.dumps(good).encode(), "here").settings
    for bad in (
        {**good, "settings": {**good["settings"], key: ["0", "1", 0]}},  # type: ignore[dict-item]
        {**good, "settings": {FORWARDING: ["|/tmp/program", "1", 4]}},
        {**good, "settings": {FORWARDING: ["0", "1\n", 4]}},
        {**good, "forwarded6": {"../../../etc": 0}},
        {**good, "forwarded6": {"..": 0}},
    ):
        assert Originals.parse(json.dumps(bad).encode(), "here").settings == {}


def test_what_the_daemon_sets_is_what_the_record_may_hold() -> None:
    sets = [f"net/ipv6/conf/br-1.5/{each}" for each in ("disable_ipv6", "accept_dad", "addr_gen_mode")]
    sets += [f"net/ipv4/conf/br-1.5/{each}" for each in ("forwarding", "rp_filter")]
    sets += ["net/ipv4/nexthop_compat_mode", "net/ipv4/fib_multipath_hash_seed", POLICY, ALL_FORWARDING6]
    sets += ["net/ipv6/fib_multipath_hash_policy", "net/ipv6/conf/lo/disable_ipv6"]
    record = Originals("here")
    for key in sets:
        record.changing(key, "0", "1")
    assert Originals.parse(record.encode(), "here") == record


def test_a_record_behind_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"{}")
    (tmp_path / "originals").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        clean._recorded(tmp_path / "originals")
    os.mkfifo(tmp_path / "pipe")
    assert clean._recorded(tmp_path / "pipe") == b"", "and nobody waits for a pipe"
    assert clean._recorded(tmp_path / "absent") is None
