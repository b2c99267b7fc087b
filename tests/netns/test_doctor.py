"""Each thing that the doctor looks at, made wrong on a real kernel: what it says, and what to do about it."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dmssd.config.load import load
from dmssd.config.schema import Config
from dmssd.driver.doctor import Finding, Patient, check_guard, check_identity, check_managers
from tests.netns.kernel import REPOSITORY, Namespaces

pytestmark = pytest.mark.netns

ORDERLY = {"verdict": "ok", "reasons": [], "rejected": {}, "plan": {"taken": 0}}


@pytest.fixture
def spaces() -> Iterator[Namespaces]:
    with Namespaces("here", "there", prefix="dmssd-doctor") as made:
        made.veth(("here", "eth0"), ("there", "eth0"))
        made.veth(("here", "eth1"), ("there", "eth1"))
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "dmssd.toml"
    written.write_text(f'state = "{tmp_path}/state"\nsocket = "{tmp_path}/dmssd.sock"\n[[links]]\nmatch = "eth*"\n')
    return written


def examined(spaces: Namespaces, file: Path, **environment: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code, and what is not ok by check, as the command line says it with no daemon."""
    words = [f"{key}={value}" for key, value in environment.items()]
    socket = str(file.parent / "dmssd.sock")
    done = spaces.run(
        "here",
        *("env", *words, sys.executable, "-m", "dmssd", "doctor", "-o", "json"),
        *("--config", str(file), "--socket", socket),
    )
    assert done.stderr == ""
    wrong: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(done.stdout)["checks"]:
        if finding["verdict"] != "ok":
            assert finding["do"], finding
            wrong.setdefault(finding["check"], []).append(finding)
    wrong.pop("daemon")
    return done.returncode, wrong


def only(wrong: dict[str, list[dict[str, Any]]], check: str) -> dict[str, Any]:
    assert list(wrong) == [check], wrong
    (finding,) = wrong[check]
    return finding


def test_a_machine_in_order_is_found_so_without_a_daemon_and_that_alone_is_said(spaces: Namespaces, file: Path) -> None:
    assert examined(spaces, file) == (0, {})
    socket = str(file.parent / "dmssd.sock")
    command = (sys.executable, "-m", "dmssd", "doctor", "--config", str(file), "--socket", socket)
    text = spaces.run("here", *command).stdout
    assert "daemon       warn" in text
    assert text.endswith("what to do\ndaemon: systemctl start dmssd, or dmssd run --config FILE\n")


def test_an_announced_network_behind_an_interface_that_does_not_forward_fails(spaces: Namespaces, file: Path) -> None:
    file.write_text('announce = ["192.0.2.0/24"]\n' + file.read_text().replace("eth*", "eth0"))
    assert examined(spaces, file) == (0, {}), "nothing leads there"
    spaces.ip("here", "addr", "add", "192.0.2.1/24", "dev", "eth1")
    code, wrong = examined(spaces, file)
    assert code == 1
    assert only(wrong, "announced")["do"] == "sysctl -w net.ipv4.conf.eth1.forwarding=1"
    assert "192.0.2.0/24" in only(wrong, "announced")["says"]
    spaces.sysctl("here", "net/ipv4/conf/eth1/forwarding", "1")
    assert examined(spaces, file) == (0, {})


def test_a_link_without_ipv6_or_with_too_small_an_mtu_fails(spaces: Namespaces, file: Path) -> None:
    spaces.sysctl("here", "net/ipv6/conf/eth1/disable_ipv6", "1")
    code, wrong = examined(spaces, file)
    assert code == 1
    assert only(wrong, "kernel")["do"] == "sysctl -w net.ipv6.conf.eth1.disable_ipv6=0"
    spaces.ip("here", "link", "set", "eth0", "mtu", "1200")
    spaces.ip("here", "link", "set", "eth1", "mtu", "1200")
    code, wrong = examined(spaces, file)
    assert code == 1
    assert [finding["verdict"] for finding in wrong["mtu"]] == ["fail", "fail"]
    assert "eth0 has an MTU of 1200" in wrong["mtu"][0]["says"]


def test_links_of_different_mtu_and_none_at_all_are_warned_of(spaces: Namespaces, file: Path) -> None:
    spaces.ip("here", "link", "set", "eth1", "mtu", "1400")
    code, wrong = examined(spaces, file)
    assert code == 0
    assert "eth0 1500, eth1 1400" in only(wrong, "mtu")["says"]
    for link in ("eth0", "eth1"):
        spaces.ip("here", "link", "del", link)
    code, wrong = examined(spaces, file)
    assert code == 0
    assert only(wrong, "links")["says"] == "no interface here matches [[links]] (eth*)"


def test_a_port_that_another_program_holds_fails_and_how_to_find_it_is_said(spaces: Namespaces, file: Path) -> None:
    code = (
        "import socket,sys; s=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM); s.bind(('::',4747)); print(); input()"
    )
    holder = spaces.python("here", code)
    try:
        deadline = time.monotonic() + 20
        while ":4747" not in spaces.run("here", "ss", "-uln").stdout:
            assert time.monotonic() < deadline
        exit_code, wrong = examined(spaces, file)
    finally:
        holder.communicate("\n", timeout=20)
    assert exit_code == 1
    assert only(wrong, "port")["do"].startswith("ss -ulnp 'sport = :4747'")


def test_a_state_directory_open_to_others_fails(spaces: Namespaces, file: Path) -> None:
    (file.parent / "state").mkdir(mode=0o755)
    code, wrong = examined(spaces, file)
    assert code == 1
    assert only(wrong, "permissions")["do"] == f"chmod 0700 {file.parent}/state"


def test_a_clock_that_was_never_set_is_warned_of(spaces: Namespaces, file: Path) -> None:
    shift = file.parent / "shift"
    shift.write_text(str(-time.time()))
    code, wrong = examined(spaces, file, DMSSD_LAB_CLOCK=str(shift))
    assert code == 0
    assert "the clock says 19" in only(wrong, "clock")["says"] or "the clock says 1970" in only(wrong, "clock")["says"]


def test_missing_privilege_is_warned_of(spaces: Namespaces, file: Path) -> None:
    socket = str(file.parent / "dmssd.sock")
    command = (sys.executable, "-m", "dmssd", "doctor", "-o", "json", "--config", str(file), "--socket", socket)
    done = spaces.run("here", "setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", "--", *command)
    wrong = [finding for finding in json.loads(done.stdout)["checks"] if finding["verdict"] != "ok"]
    assert {"permissions"} <= {finding["check"] for finding in wrong}
    assert "CAP_NET_RAW" in next(finding["says"] for finding in wrong if finding["check"] == "permissions")


def test_a_filter_that_drops_what_is_forwarded_fails_until_it_lets_the_links_through(
    spaces: Namespaces, file: Path
) -> None:
    """As Docker has it: a table of iptables whose FORWARD chain drops by default."""

    def nft(*words: str) -> None:
        done = spaces.run("here", "nft", *words)
        assert done.returncode == 0, done.stderr

    nft("add table ip filter")
    nft("add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    nft("add rule ip filter FORWARD iifname docker0 accept")
    nft("add rule ip filter FORWARD iifname eth0 ip saddr 192.0.2.0/24 accept")
    code, wrong = examined(spaces, file)
    assert code == 1
    finding = only(wrong, "firewalls")
    assert finding["says"] == "ip filter FORWARD drops forwarded packets by default, those from eth0, eth1 too"
    assert "iptables -I FORWARD -i eth0 -j ACCEPT" in finding["do"]
    nft("add rule ip filter FORWARD iifname eth0 counter accept")
    _, wrong = examined(spaces, file)
    assert "those from eth1 too" in only(wrong, "firewalls")["says"]
    nft("add rule ip filter FORWARD iifname { eth1, wlan0 } accept")
    assert examined(spaces, file) == (0, {})


@pytest.fixture
def config(file: Path) -> Config:
    return load(file)


def wrong_of(findings: Iterator[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict != "ok"]


def test_a_missing_nft_fails_and_a_guard_switched_off_is_warned_of(
    spaces: Namespaces, file: Path, config: Config
) -> None:
    patient = Patient(config, nft="/nowhere/nft")
    (finding,) = spaces.inside("here", lambda: wrong_of(check_guard(patient)))
    assert (finding.verdict, finding.do.partition(";")[0]) == ("fail", "apt-get install nftables")
    file.write_text('guard = "off"\n' + file.read_text())
    code, wrong = examined(spaces, file)
    assert code == 0
    assert only(wrong, "guard")["says"] == 'guard = "off": this machine forwards for everybody'


def test_a_guard_that_is_gone_while_the_daemon_runs_fails(spaces: Namespaces, config: Config) -> None:
    patient = Patient(config, ORDERLY)
    (finding,) = spaces.inside("here", lambda: wrong_of(check_guard(patient)))
    assert finding.says == "the nftables table inet dmssd is gone while dmssd runs"


@pytest.fixture
def pretender(spaces: Namespaces, tmp_path: Path) -> Iterator[Any]:
    """Starts a program of any name in the namespace."""
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> None:
        program = tmp_path / name
        shutil.copy("/bin/sleep", program)
        process = subprocess.Popen([*spaces.entering("here"), str(program), "300"])
        running.append(process)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{process.pid}/exe").readlink() != program:
            assert time.monotonic() < deadline

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_network_managers_that_take_routes_away_are_warned_of_until_the_drop_ins_are_there(
    spaces: Namespaces, config: Config, tmp_path: Path, pretender: Any
) -> None:
    patient = Patient(config, ORDERLY, root=tmp_path)

    def found() -> list[str]:
        return [finding.says for finding in spaces.inside("here", lambda: wrong_of(check_managers(patient)))]

    assert found() == []
    for name in ("systemd-networkd", "NetworkManager", "bird"):
        pretender(name)
    networkd, manager, bird = found()
    assert networkd.startswith("systemd-networkd removes routes")
    assert manager.startswith("NetworkManager may manage eth0, eth1")
    assert bird == "bird routes on this machine too"
    shipped = REPOSITORY / "systemd"
    place = tmp_path / "etc/systemd/networkd.conf.d"
    shutil.copytree(shipped / "networkd.conf.d", place)
    assert found() == [manager, bird]
    (place / "20-later.conf").write_text("[Network]\nManageForeignRoutes=yes\n")
    assert found() == [networkd, manager, bird]
    (place / "20-later.conf").unlink()
    nm = tmp_path / "etc/NetworkManager/conf.d/10-dmssd.conf"
    nm.parent.mkdir(parents=True)
    nm.write_text("[keyfile]\nunmanaged-devices=interface-name:eth0;interface-name:eth1\n")
    assert found() == [bird]


def test_a_manager_in_another_namespace_is_none_of_ours(spaces: Namespaces, config: Config, pretender: Any) -> None:
    pretender("bird")
    patient = Patient(config, ORDERLY)
    assert wrong_of(spaces.inside("there", lambda: iter(list(check_managers(patient))))) == []


def test_a_copied_identity_and_a_contested_address_are_told_from_what_the_daemon_saw(config: Config) -> None:
    contested = "address 10.5.0.2 is announced by this node, n4: traffic goes to the nearest; next: whatever"
    status = {**ORDERLY, "reasons": [contested], "rejected": {"LSA of ours that we did not send": 3}}
    address, copy = wrong_of(check_identity(Patient(config, status)))
    assert (address.verdict, address.says) == ("fail", contested.partition("; next")[0])
    assert "another machine is a copy" in copy.says


def test_a_running_daemon_is_examined_in_its_own_namespace_and_settings_changed_behind_its_back_fail(
    spaces: Namespaces, file: Path
) -> None:
    log = (file.parent / "log").open("wb")
    command = [sys.executable, "-m", "dmssd", "run", "--config", str(file)]
    daemon = subprocess.Popen([*spaces.entering("here"), *command], stdout=log, stderr=log, cwd=REPOSITORY)
    try:
        asking = [sys.executable, "-m", "dmssd", "--socket", str(file.parent / "dmssd.sock"), "doctor", "-o", "json"]

        def examine() -> tuple[int, dict[str, dict[str, Any]]]:
            # From the machine's own namespace: what is seen must be the daemon's.
            done = subprocess.run(asking, capture_output=True, text=True, check=False, timeout=60, cwd=REPOSITORY)
            return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)["checks"]}

        deadline = time.monotonic() + 60
        while examine()[1]["daemon"]["says"] == "dmssd is not running":
            assert time.monotonic() < deadline
        code, found = examine()
        assert code == 0
        assert found["guard"]["says"] == "nftables works, and the table is there"
        assert found["mtu"]["says"].startswith("eth0, eth1: ")
        spaces.sysctl("here", "net/ipv4/conf/eth0/forwarding", "0")
        code, found = examine()
        assert code == 1
        assert found["sysctls"]["do"] == "sysctl -w net.ipv4.conf.eth0.forwarding=1"
        spaces.sysctl("here", "net/ipv4/conf/eth0/forwarding", "1")
        spaces.sysctl("here", "net/ipv4/conf/all/rp_filter", "1")
        spaces.sysctl("here", "net/ipv4/conf/eth0/rp_filter", "0")
        code, found = examine()
        assert code == 1
        assert "strict reverse path filtering" in found["sysctls"]["says"]
    finally:
        daemon.terminate()
        daemon.wait(20)
        log.close()
