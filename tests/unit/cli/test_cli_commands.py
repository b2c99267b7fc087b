"""Every command against a real server on a real socket: what it asks, what it prints, how it ends."""

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from dmssd import __version__
from dmssd.cli import membership
from dmssd.cli.main import main
from sansio.errors import AdmissionError, RequestError

Answer = dict[str, Any]


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_status_of_a_healthy_node_is_a_verdict_and_counts_and_nothing_else(
    served: Any, healthy: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    served.daemon.answers["status"] = healthy
    code, out, err = ran(capsys, "status")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "ok: Denver in mesh abilene, 11 members up",
        "",
        "members   11 up",
        "links     1 up, 1 of 1 adjacency up",
        "routes    20, by plan of tp Chicago",
        "lsdb      11 origins",
        "sessions  10 members at epoch 2; replaced after 6 h 0 min",
        "roles     fd tp",
        f"daemon    0.2, up for 1 min, node {'aa' * 20}",
    ]


def test_status_of_a_degraded_node_says_what_and_exits_with_1(
    served: Any, healthy: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    served.daemon.answers["status"] = healthy | {
        "verdict": "degraded",
        "reasons": ["member Chicago is down: look with `dmssd member list`"],
        "members": {"up": 10, "suspect": 0, "down": 1, "left": 0},
    }
    code, out, _ = ran(capsys, "status")
    assert code == 1
    assert out.startswith("degraded: Denver in mesh abilene, 10 members up, 1 thing wrong\n")
    assert "members   10 up, 1 down\n" in out
    assert out.endswith("\n- member Chicago is down: look with `dmssd member list`\n")


def test_status_shows_what_was_rejected_from_outside_and_that_degrades_nothing(
    served: Any, healthy: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    served.daemon.answers["status"] = healthy | {"rejected": {"replayed datagram": 3, "altered datagram": 12}}
    code, out, _ = ran(capsys, "status")
    assert code == 0
    assert "- rejected from outside: 12 x altered datagram, 3 x replayed datagram; next: dmssd event watch" in out


def test_status_names_links_without_a_neighbour_and_a_node_that_is_alone(
    served: Any, healthy: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = {"members": {"up": 1, "suspect": 0, "down": 0, "left": 0}, "neighbours": []}
    served.daemon.answers["status"] = healthy | alone | {"links": [{"name": "eth7", "link": 2, "neighbours": []}]}
    _, out, _ = ran(capsys, "status")
    assert "- link eth7 has no neighbour" in out
    assert "- this node is alone in its mesh; next: dmssd join PEER --token T" in out
    served.daemon.answers["status"] = healthy | alone | {"links": []}
    assert "- no link is in use: name interfaces under [[links]]" in ran(capsys, "status")[1]


def test_status_as_json_is_what_the_daemon_said_and_keeps_the_exit_code(
    served: Any, healthy: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    served.daemon.answers["status"] = healthy | {"verdict": "degraded", "reasons": ["x"]}
    for arguments in (["-o", "json", "status"], ["status", "-o", "json"]):
        code, out, _ = ran(capsys, *arguments)
        assert code == 1
        assert json.loads(out) == served.daemon.answers["status"]


def test_a_name_from_another_machine_cannot_drive_the_terminal(
    served: Any, healthy: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    served.daemon.answers["status"] = healthy | {
        "mesh_name": "a\x1b[2Jb",
        "verdict": "degraded",
        "reasons": ["member x\ny\u202e is down"],
    }
    served.daemon.answers["members"] = [
        {"name": "ev\x1bil", "state": "up", "since_s": 3, "addresses": [], "node": "ab", "incarnation": 0}
    ]
    out = ran(capsys, "status")[1] + ran(capsys, "member", "list")[1]
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "x\\ny" in out
    assert "ev\\x1bil" in out


def test_metrics_are_printed_as_the_daemon_gives_them(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers["metrics"] = text = '# TYPE dmssd_members gauge\ndmssd_members{state="up"} 3\n'
    assert ran(capsys, "metrics") == (0, text, "")
    assert json.loads(ran(capsys, "metrics", "-o", "json")[1]) == {"metrics": text}
    served.stop()
    assert ran(capsys, "metrics")[0] == 3


def test_an_error_sentence_that_quotes_another_machine_stays_one_clean_line(
    served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    served.daemon.answers["leave"] = RequestError("it said\nx\x1b[1m")
    assert ran(capsys, "leave") == (1, "", "Error: it said x\\x1b[1m\n")


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["init", "abilene"], ("init", {"name": "abilene", "recovery": True})),
        (["init", "abilene", "--no-recovery-key"], ("init", {"name": "abilene"})),
        (["pending"], ("pending", {})),
        (["admit", "a", "b"], ("admit", {"nodes": ["a", "b"], "ttl_s": 86_400})),
        (
            ["admit", "a", "--name", "n", "--admin"],
            ("admit", {"nodes": ["a"], "name": "n", "admin": True, "ttl_s": 86_400}),
        ),
        (["grant", "a"], ("grant", {"node": "a"})),
        (["renew"], ("renew", {})),
        (["renew", "a"], ("renew", {"node": "a"})),
        (["rotate", "sessions"], ("rotate-sessions", {})),
        (["rotate", "sessions", "--lifetime", "6h"], ("rotate-sessions", {"lifetime_s": 21_600})),
        (["recover", "k"], ("recover", {"key": "k"})),
        (["expel", "a", "--reason", "r"], ("expel", {"node": "a", "reason": "r"})),
        (["expel", "a", "--withdraw"], ("expel", {"node": "a", "withdraw": True})),
        (["leave"], ("leave", {})),
        (["join", "%eth0", "--token", " t "], ("join", {"peer": "%eth0", "token": "t", "timeout_s": 60.0})),
        (
            ["join", "a", "--token", "t", "--name", "n", "--timeout", "2m", "--leave-first"],
            ("join", {"peer": "a", "token": "t", "name": "n", "timeout_s": 120.0, "leave_first": True}),
        ),
        (["token", "create"], ("token", {"uses": 1, "ttl_s": 600})),
        (["token", "create", "--uses", "3", "--ttl", "90"], ("token", {"uses": 3, "ttl_s": 90})),
        (["trace", "b"], ("trace", {"destination": "b", "family": 4})),
        (["trace", "b", "-4"], ("trace", {"destination": "b", "family": 4})),
        (["trace", "b", "-6", "--flow", "9"], ("trace", {"destination": "b", "family": 6, "flow": 9})),
        (["member", "list"], ("members", {})),
        (["network", "global"], ("network_global", {})),
        (["network", "mwt"], ("network_mwt", {})),
        (["network", "mwt", "--policy", "spanning"], ("network_mwt", {"policy": "spanning"})),
        (["network", "spt"], ("network_spt", {})),
        (["network", "spt", "a & b=c"], ("network_spt", {"node": "a & b=c"})),
        (["route", "list"], ("routes", {})),
        (["role", "list"], ("roles", {})),
        (["config", "show"], ("config", {})),
        (["node", "drain"], ("drain", {"on": True})),
        (["node", "undrain"], ("drain", {"on": False})),
        (["network", "set", "a-b", "metric", "50"], ("metric", {"link": "a-b", "metric": 50})),
        (["network", "set", "a-b", "metric", "configured"], ("metric", {"link": "a-b"})),
    ],
)
def test_each_command_asks_for_exactly_what_was_typed_and_prints_the_answer_as_json(
    served: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], asked: tuple[str, Answer]
) -> None:
    served.daemon.answers[asked[0]] = {"reached": True, "any": ["thing"]}
    code, out, _ = ran(capsys, *arguments, "-o", "json")
    assert code == 0
    assert json.loads(out) == {"reached": True, "any": ["thing"]}
    assert served.daemon.asked == [asked]


def test_init_and_leave_say_what_happened_and_what_comes_next(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers |= {"init": {"mesh": "ab" * 16, "mesh_name": "m"}, "leave": {"left": True}}
    assert "mesh m is founded, its id is abab" in ran(capsys, "init", "m")[1]
    assert ran(capsys, "leave")[1] == "left the mesh; the daemon stops\n"


def test_join_reports_its_progress_and_its_end(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers["join"] = {"mesh": "ab", "mesh_name": "abilene"}
    served.daemon.release.clear()
    timer = threading.Timer(1.3, served.daemon.release.set)
    timer.start()
    code, out, err = ran(capsys, "join", "Chicago", "--token", "t")
    timer.join()
    assert code == 0
    assert "joined mesh abilene" in out
    assert err == "joining through Chicago: 1 s of at most 60 s\n"


@pytest.mark.parametrize(
    "error", [RequestError("the token is used up: ask for another"), AdmissionError("token expired")]
)
def test_what_the_daemon_refuses_is_its_sentence_and_exit_1(
    served: Any, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    served.daemon.answers["join"] = error
    assert ran(capsys, "join", "a", "--token", "t") == (1, "", f"Error: {error}\n")


def test_token_create_prints_the_token_alone_on_stdout(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers["token"] = {"token": "dmss1.abc"}
    code, out, err = ran(capsys, "token", "create", "--uses", "2")
    assert (code, out) == (0, "dmss1.abc\n")
    assert err.startswith("good for 2 joins within 10 min")


def test_member_list_is_an_aligned_table(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers["members"] = [
        {
            "name": "a",
            "state": "up",
            "since_s": 3,
            "addresses": ["10.5.0.1", "fd00::1"],
            "node": "ab",
            "incarnation": 0,
        },
        {"name": "long-name", "state": "suspect", "since_s": 7500, "addresses": [], "node": "cd", "incarnation": 0},
    ]
    assert ran(capsys, "member", "list")[1].splitlines() == [
        "NAME       STATE    SINCE      ADDRESSES          NODE",
        "a          up       3 s        10.5.0.1, fd00::1  ab",
        "long-name  suspect  2 h 5 min  -                  cd",
    ]


def test_network_mwt_says_of_each_dropped_link_why(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers["network_mwt"] = {
        "policy": "shortest",
        "kept": [{"from": "a", "to": "b", "metric": 3}],
        "dropped": [{"from": "a", "to": "c", "metric": 9, "reason": "a-b-c costs 6"}],
    }
    lines = ran(capsys, "network", "mwt")[1].splitlines()
    assert lines[0] == "policy shortest: 1 link direction kept, 1 dropped"
    assert lines[-1] == "a             c        9  a-b-c costs 6"


def test_network_global_and_spt_and_routes_show_every_link_and_next_hop(
    served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    served.daemon.answers |= {
        "network_global": {
            "nodes": [{"name": "a", "node": "ab", "prefixes": ["10.5.0.1/32"]}],
            "edges": [{"from": "a", "to": "b", "link": 2, "metric": 5}],
        },
        "network_spt": {
            "node": "a",
            "destinations": [
                {
                    "name": "d",
                    "distance": 7,
                    "next_hops": [{"name": "b", "interface": "eth0", "weight": 1}, {"name": "c", "weight": 2}],
                    "prefixes": ["10.5.0.4/32"],
                }
            ],
        },
        "routes": {
            "source": "self",
            "routes": [
                {
                    "prefix": "10.5.0.4/32",
                    "next_hops": [{"name": "b", "interface": "eth0", "address": "fe80::1", "weight": 1}],
                }
            ],
        },
        "roles": [{"role": "fd", "state": "on"}, {"role": "tp", "doing": "computed 3 plans"}],
    }
    out = ran(capsys, "network", "global")[1]
    assert "1 node, 1 link direction" in out
    assert "a     b      2       5" in out
    assert "d          7  b on eth0, c x2  10.5.0.4/32" in ran(capsys, "network", "spt")[1]
    out = ran(capsys, "route", "list")[1]
    assert out.startswith("1 route by plan of self\n")
    assert "10.5.0.4/32  b (fe80::1 on eth0)" in out
    assert ran(capsys, "role", "list")[1].splitlines()[1:] == ["fd    on     -", "tp    -      computed 3 plans"]


def test_empty_answers_are_told_in_words(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers |= {"routes": {"source": "none", "routes": []}, "roles": []}
    assert ran(capsys, "route", "list")[1] == "0 routes by plan of none\n"
    assert ran(capsys, "role", "list")[1] == "no role is switched on\n"
    served.daemon.answers |= {
        "network_spt": {"node": "a", "destinations": []},
        "network_mwt": {"policy": "spanning", "kept": [], "dropped": []},
        "network_global": {"nodes": [{"name": "a", "node": "ab", "prefixes": []}], "edges": []},
    }
    assert ran(capsys, "network", "spt")[1] == "from a no other node is reached; next: dmssd status\n"
    assert ran(capsys, "network", "mwt")[1] == "policy spanning: 0 link directions kept, 0 dropped\n"
    assert "FROM" not in ran(capsys, "network", "global")[1]


def test_trace_prints_hops_with_names_and_silent_ones_as_stars(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers["trace"] = {
        "destination": "10.5.0.4",
        "flow": 40001,
        "reached": True,
        "hops": [
            {"name": "b", "address": "10.5.0.2", "rtt_ms": 0.1234},
            {"name": None, "address": None, "rtt_ms": None},
            {"name": None, "address": "10.9.9.9", "rtt_ms": None},
            {"name": "d", "address": "10.5.0.4", "rtt_ms": 2.0},
        ],
    }
    code, out, _ = ran(capsys, "trace", "d")
    assert code == 0
    assert out.splitlines() == [
        "trace to d (10.5.0.4) over IPv4, flow 40001",
        " 1  b (10.5.0.2)  0.123 ms",
        " 2  *",
        " 3  10.9.9.9",
        " 4  d (10.5.0.4)  2.000 ms",
    ]


def test_a_trace_that_does_not_arrive_fails(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers["trace"] = {"destination": "10.5.0.4", "flow": 1, "reached": False, "hops": []}
    code, out, _ = ran(capsys, "trace", "d")
    assert code == 1
    assert "d was not reached; next: dmssd network spt" in out


def test_config_show_prints_toml_that_the_daemon_would_take(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import tomllib

    from dmssd.config.load import parse
    from dmssd.config.schema import plain

    config = parse({"name": "a", "links": [{"match": "eth*"}], "liveness": {"echo_misses": 4}})
    served.daemon.answers["config"] = plain(config)
    assert parse(tomllib.loads(ran(capsys, "config", "show")[1])) == config


def test_config_check_accepts_a_good_file_and_names_what_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "d.toml"
    file.write_text("port = 1")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/x.toml").write_text("port = 2")
    assert ran(capsys, "config", "check", str(file)) == (0, f"ok: {file}, {tmp_path}/conf.d/x.toml\n", "")
    code, out, _ = ran(capsys, "config", "check", str(file), "-o", "json")
    assert json.loads(out) == {"ok": True, "files": [str(file), f"{tmp_path}/conf.d/x.toml"]}
    assert code == 0


def test_config_check_without_any_file_says_that_the_defaults_apply(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran(capsys, "config", "check")
    assert code == 0
    assert out.startswith("ok: the defaults (")


@pytest.mark.parametrize("command", [["config", "check"], ["run", "--config"]])
def test_a_bad_configuration_is_one_line_with_its_path_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    file = tmp_path / "d.toml"
    file.write_text('[[links]]\nmatch = "eth0"\nmetric = "x"\n')
    expected = f'Error: {file}: links[0].metric: must be "measured", or an integer from 1 to 16777215, got "x"\n'
    assert ran(capsys, *command, str(file)) == (1, "", expected)
    missing = tmp_path / "none.toml"
    expected = f"Error: {missing}: does not exist: write it, or name another with --config\n"
    assert ran(capsys, *command, str(missing)) == (1, "", expected)


def test_event_watch_prints_events_until_the_daemon_stops(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.on_subscribe = [
        {"time_s": 0.25, "kind": "member.down", "facts": {"name": "a\x1b", "node": "ab"}},
        {"kind": "tick"},
    ]
    timer = threading.Timer(0.5, served.stop)
    timer.start()
    _, out, err = ran(capsys, "event", "watch")
    timer.join()
    assert out.splitlines()[0].endswith(":00.250 member.down name=a\\x1b node=ab")
    assert out.splitlines()[1] == "--:--:--.--- tick"
    assert "stopped" in err


def test_event_watch_as_json_prints_one_object_per_line(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.on_subscribe = [{"time_s": 1.0, "kind": "k", "facts": {"é": 1}}, {"kind": "l"}]
    timer = threading.Timer(0.5, served.stop)
    timer.start()
    _, out, _ = ran(capsys, "event", "watch", "-o", "json")
    timer.join()
    assert [json.loads(line) for line in out.splitlines()] == served.daemon.on_subscribe


# Which daemon


def test_a_socket_nobody_serves_is_exit_3_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nobody.sock"
    expected = (
        f"Error: dmssd is not running (nobody serves {path}): start it with systemctl start dmssd, "
        "or dmssd run --config FILE\n"
    )
    for command in (["status"], ["member", "list"], ["join", "a", "--token", "t"], ["event", "watch"], ["leave"]):
        assert ran(capsys, *command, "--socket", str(path)) == (3, "", expected)
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(path))
    dead.close()
    assert ran(capsys, "--socket", str(path), "status") == (3, "", expected)
    assert ran(capsys, "status", "--socket", "/" + "x" * 200)[0] == 3


def test_a_daemon_that_breaks_off_is_one_line_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rude.sock"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()

    def hang_up() -> None:
        for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"\xff\xff\r\n\r\n"):
            client, _ = server.accept()
            client.recv(65_536)
            client.sendall(answer)
            client.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    for _ in range(3):
        code, out, err = ran(capsys, "status", "--socket", str(path))
        assert (code, out) == (1, "")
        assert "broke off its answer" in err
        assert err.count("\n") == 1
    thread.join(10)
    server.close()


def test_a_socket_that_this_user_may_not_open_says_who_may(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    # What it imports is imported before the change of user, who need not be allowed to read this tree.
    served.daemon.answers["status"] = RequestError("not now")
    assert ran(capsys, "status")[0] == 1
    served.path.chmod(0)
    me = os.geteuid()
    try:
        if me == 0:
            os.seteuid(65_534)
        code, out, err = ran(capsys, "status")
    finally:
        os.seteuid(me)
    assert (code, out) == (1, "")
    assert "may not be used by this user: run as root, or join the group dmssd" in err


def test_a_daemon_that_does_not_answer_in_time_is_one_line_and_exit_1(
    served: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "LEAVE_TIMEOUT_S", 0.05)
    served.daemon.release.clear()
    code, out, err = ran(capsys, "leave")
    assert (code, out) == (1, "")
    assert "did not answer within 0.05 s: try again" in err
    monkeypatch.setattr(membership, "ANSWER_GRACE_S", 0.0)
    code, out, err = ran(capsys, "join", "a", "--token", "t", "--timeout", "0.1")
    assert code == 1
    assert "did not answer within 0.1 s" in err


def test_the_socket_option_wins_over_the_environment(
    served: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.daemon.answers["roles"] = []
    assert ran(capsys, "role", "list")[0] == 0
    assert ran(capsys, "role", "list", "--socket", str(tmp_path / "none"))[0] == 3


def test_a_lab_node_is_found_by_its_name_and_by_its_lab_where_that_is_needed(
    served: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.daemon.answers["roles"] = []
    for lab, node in (("one", "n1"), ("two", "n1"), ("two", "n2")):
        directory = tmp_path / "labs" / lab / node
        directory.mkdir(parents=True)
        (directory / "dmssd.sock").symlink_to(served.path)
    assert ran(capsys, "role", "list", "--node", "n2")[0] == 0
    assert ran(capsys, "--node", "two/n1", "role", "list")[0] == 0
    code, _, err = ran(capsys, "role", "list", "--node", "n1")
    assert (code, err) == (1, "Error: several labs run a node 'n1': say --node with one of one/n1, two/n1\n")
    code, _, err = ran(capsys, "role", "list", "--node", "one/n2")
    assert (code, err) == (1, "Error: no lab runs a node 'one/n2': dmssd lab status shows the nodes\n")
    assert ran(capsys, "role", "list", "--node", "n2", "--socket", "/x")[0] == 2


# Usage


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["status", "extra"],
        ["status", "-o", "yaml"],
        ["admit"],
        ["admit", "a", "--ttl", "8d"],
        ["grant"],
        ["join", "--token", "t"],
        ["join", "a", "--token", "t", "--timeout", "soon"],
        ["join", "a", "--token", "t", "--timeout", "0"],
        ["token", "create", "--uses", "0"],
        ["token", "create", "--ttl", "10x"],
        ["token", "create", "--ttl", "8d"],
        ["trace"],
        ["trace", "b", "--flow", "0"],
        ["network", "mwt", "--policy", "short"],
        ["network", "set", "a-b", "metric", "-1"],
        ["network", "set", "a-b", "metric", "cheap"],
        ["network", "set", "a-b"],
        ["init"],
    ],
)
def test_wrong_usage_is_exit_2_and_asks_no_daemon(
    served: Any, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, out, err = ran(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "Error: " in err
    assert served.daemon.asked == []


def test_version_and_help_need_no_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(capsys, "--version") == (0, f"dmssd {__version__}\n", "")
    code, out, _ = ran(capsys, "--help")
    assert code == 0
    for command in ("init", "join", "run", "leave", "status", "trace", "token", "member", "network", "route", "config"):
        assert f"  {command} " in out


def test_the_version_is_the_one_of_the_package() -> None:
    import configparser

    metadata = configparser.ConfigParser()
    metadata.read(Path(__file__).parents[3] / "setup.cfg")
    assert metadata["metadata"]["version"] in (__version__, "attr: dmssd.__version__")


DIFFERENCE = {"key": "port", "old": 4747, "new": 5000, "effect": "after a restart"}


def test_config_diff_shows_old_and_new_and_what_it_takes(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers["config_diff"] = [DIFFERENCE]
    assert ran(capsys, "config", "diff") == (0, "port: 4747 -> 5000  [after a restart]\n", "")
    served.daemon.answers["config_diff"] = []
    assert ran(capsys, "config", "diff") == (0, "nothing differs\n", "")


def test_config_reload_asks_for_a_preview_or_a_trial_as_told(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers["reload"] = {"changes": [DIFFERENCE], "made": True, "confirm_s": 90.0}
    code, out, _ = ran(capsys, "config", "reload", "--confirm", "90s")
    assert (code, out.splitlines()[1:]) == (
        0,
        ["1 setting changed", "on trial: undone in 90 s unless you say dmssd config confirm"],
    )
    served.daemon.answers["reload"] = {"changes": [DIFFERENCE], "made": False, "confirm_s": None}
    assert "nothing was changed" in ran(capsys, "config", "reload", "--dry-run")[1]
    assert served.daemon.asked == [("reload", {"confirm_s": 90.0}), ("reload", {"dry_run": True})]


def test_a_trial_of_no_time_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(capsys, "config", "reload", "--confirm", "0")[0] == 2


def test_config_confirm_and_undo_name_what_they_ended(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    served.daemon.answers |= {"confirm": {"confirmed": ["config", "drain"]}, "undo": {"undone": ["config"]}}
    assert ran(capsys, "config", "confirm") == (0, "kept: config, drain\n", "")
    assert ran(capsys, "config", "undo") == (0, "undone: config\n", "")


def test_a_drain_says_what_it_did_what_it_would_do_or_how_long_it_is_tried(
    served: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    change = {"key": "draining", "old": False, "new": True, "effect": "now"}
    answer = {"draining": True, "changes": [change], "made": True, "confirm_s": None}
    served.daemon.answers["drain"] = answer
    assert ran(capsys, "node", "drain")[1].startswith("draining: traffic of others")
    served.daemon.answers["drain"] = answer | {"made": False}
    assert ran(capsys, "node", "drain", "--dry-run")[1].splitlines() == [
        "draining: False -> True  [now]",
        "1 setting would change; nothing was changed",
    ]
    served.daemon.answers["drain"] = answer | {"confirm_s": 60.0}
    assert "on trial: undone in 60 s" in ran(capsys, "node", "drain", "--confirm", "60s")[1]
    assert [asked for _, asked in served.daemon.asked][1:] == [
        {"on": True, "dry_run": True},
        {"on": True, "confirm_s": 60.0},
    ]
