import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmssd.config import paths, schema
from dmssd.config.load import files, load, parse
from dmssd.config.schema import Config, LinkRule, MetricsSettings, RecordSettings
from sansio.errors import ConfigError

FULL = """
state = "/srv/dmssd"
socket = "/run/d.sock"
name = "Denver-1"
port = 4800
address4 = "10.5.0.3"
address6 = "FD00:0005:0::3"
announce = ["10.1.0.0/16", "FD00:1::/48", "10.2.0.1"]
guard = "links"
roles = ["fd"]

[record]
path = "/srv/record"
limit_mib = 2

[metrics]
listen = "[0:0::1]:9747"

[mesh]
tp = ["Chicago", "0123456789abcdef0123456789abcdef01234567"]
mwt = "spanning"

[[links]]
match = "eth0"
metric = 3

[[links]]
match = "eth*"

[liveness]
echo_interval_ms = 50
echo_misses = 4
hello_interval_ms = 500
hello_lease_s = 30

[swim]
period_ms = 300
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(tomllib.loads(text))
    assert "\n" not in str(caught.value)
    return caught.value


def test_every_setting_of_a_full_file_arrives(tmp_path: Path) -> None:
    config = load(write(tmp_path / "dmssd.toml", FULL))
    assert config == Config(
        state=Path("/srv/dmssd"),
        socket=Path("/run/d.sock"),
        name="Denver-1",
        port=4800,
        address4="10.5.0.3",
        address6="fd00:5::3",
        announce=("10.1.0.0/16", "fd00:1::/48", "10.2.0.1/32"),
        guard="links",
        roles=("fd",),
        record=RecordSettings(Path("/srv/record"), 2),
        metrics=MetricsSettings("[::1]:9747"),
        mesh=schema.MeshSettings(("Chicago", "0123456789abcdef0123456789abcdef01234567"), "spanning"),
        links=(LinkRule("eth0", 3), LinkRule("eth*", schema.METRIC_DEFAULT)),
        liveness=schema.LivenessSettings(50, 4, 500, 30),
        swim=schema.SwimSettings(300),
    )


def test_an_absent_default_file_means_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CONFIG_FILE", str(tmp_path / "none.toml"))
    config = load()
    assert config == Config()
    assert config.links == ()
    assert config.record is None
    assert config.metrics is None
    assert str(config.socket) == "/run/dmssd/dmssd.sock"


def test_drop_ins_count_even_where_the_default_file_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CONFIG_FILE", str(tmp_path / "none.toml"))
    write(tmp_path / "conf.d/a.toml", "port = 5000")
    assert load().port == 5000


def test_an_explicit_file_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match="does not exist: write it, or name another with --config"):
        load(missing)


def test_drop_ins_are_merged_in_the_order_of_their_names_and_lists_are_replaced(tmp_path: Path) -> None:
    main = write(tmp_path / "dmssd.toml", FULL)
    write(tmp_path / "conf.d/20-late.toml", "port = 2\n[liveness]\necho_misses = 9\n")
    write(tmp_path / "conf.d/10-early.toml", 'port = 1\n[[links]]\nmatch = "wlan*"\n')
    write(tmp_path / "conf.d/note.txt", "not toml at all")
    config = load(main)
    assert config.port == 2
    assert config.liveness.echo_misses == 9
    assert config.liveness.echo_interval_ms == 50
    assert config.links == (LinkRule("wlan*"),)
    assert [file.name for file in files(main)] == ["dmssd.toml", "10-early.toml", "20-late.toml"]


def test_an_error_names_the_file_that_set_the_value_and_its_path(tmp_path: Path) -> None:
    main = write(tmp_path / "dmssd.toml", FULL)
    late = write(tmp_path / "conf.d/late.toml", '[liveness]\necho_misses = "three"\n')
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert caught.value.path == f"{late}: liveness.echo_misses"
    assert caught.value.problem == 'must be an integer from 1 to 20, got "three"'
    late.write_text("")
    write(main, FULL.replace("metric = 3", "metric = 0"))
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert caught.value.path == f"{main}: links[0].metric"


def test_an_unknown_key_with_dots_in_it_is_still_traced_to_its_file(tmp_path: Path) -> None:
    main = write(tmp_path / "dmssd.toml", '"swim.period_ms" = 3\n')
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert caught.value.path == f'{main}: "swim.period_ms"'


def test_a_value_may_replace_a_table_only_to_be_refused(tmp_path: Path) -> None:
    main = write(tmp_path / "dmssd.toml", FULL)
    late = write(tmp_path / "conf.d/late.toml", "swim = 3\n")
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert str(caught.value) == f"{late}: swim: must be a table, got 3"


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("prot = 1", "prot", "is not a known setting; did you mean port?"),
        ("[liveness]\necho_interval = 1", "liveness.echo_interval", "did you mean echo_interval_ms?"),
        ('[[links]]\nmatch = "a"\ncost = 1', "links[0].cost", "known here: kind, match, medium, metric"),
        ('[[links]]\nmatch = "a"\n[[links]]\nmetric = 1', "links[1].match", "is missing"),
        ('[[links]]\nmatch = "a b"', "links[0].match", "without spaces"),
        ('[[links]]\nmatch = "a"\nmetric = "x"', "links[0].metric", 'from 1 to 16777215, got "x"'),
        ('[[links]]\nmatch = "a"\nmetric = 0', "links[0].metric", "got 0"),
        ('[[links]]\nmatch = "a"\nmetric = 1.5', "links[0].metric", "got 1.5"),
        ('[[links]]\nmatch = "a"\n[[links]]\nmatch = "a"', "links[1].match", "already decided by links[0]"),
        ("[links]\nmatch = 'a'", "links", "must be a list"),
        ("links = ['eth0']", "links[0]", "must be a table"),
        ("port = true", "port", "must be an integer from 1 to 65535, got true"),
        ("port = 0", "port", "got 0"),
        ("port = 65536", "port", "got 65536"),
        ("port = '4747'", "port", "must be an integer"),
        ("name = ''", "name", "1 to 64"),
        ("name = 'a b'", "name", "1 to 64"),
        (f"name = '{'a' * 65}'", "name", "1 to 64"),
        ('name = "a\\n"', "name", "1 to 64"),
        (f"name = '{'a' * 40}'", "name", "must not look like a node id"),
        ("address4 = '10.5.0'", "address4", "must be an IPv4 host address"),
        ("address4 = 167772163", "address4", "must be an IPv4 host address"),
        ("address4 = '10.5.0.3/24'", "address4", "must be an IPv4 host address"),
        ("address4 = '224.0.0.1'", "address4", "that other nodes can reach"),
        ("address4 = '127.0.0.1'", "address4", "that other nodes can reach"),
        ("address6 = '10.5.0.3'", "address6", "must be an IPv6 host address"),
        ("address6 = 'fe80::1'", "address6", "that other nodes can reach"),
        ("address6 = 'fd00::1%eth0'", "address6", "that other nodes can reach"),
        ("address6 = '::'", "address6", "that other nodes can reach"),
        ("announce = '10.1.0.0/16'", "announce", "must be a list"),
        ("announce = ['10.1.0.1/16']", "announce[0]", "has host bits set: write 10.1.0.0/16"),
        ("announce = ['10.1/16']", "announce[0]", "must be a prefix"),
        ("announce = [10]", "announce[0]", "must be a prefix"),
        ("announce = ['224.0.0.0/4']", "announce[0]", "that other nodes can reach"),
        ("announce = ['10.1.0.0/16', '10.1.0.0/16']", "announce[1]", "listed twice"),
        (f"announce = {[f'10.{n}.0.0/16' for n in range(61)]}", "announce", "has 61 entries, 60 are allowed"),
        ("guard = false", "guard", 'one of "strict", "links", "off"'),
        ("roles = ['fd', 'sm']", "roles[1]", 'one of "fd", "tp"'),
        ("roles = ['fd', 'fd']", "roles[1]", "listed twice"),
        ("roles = 'fd'", "roles", "must be a list"),
        ("[mesh]\ntp = ['a', 'a']", "mesh.tp[1]", "listed twice"),
        ("[mesh]\ntp = ['a/b']", "mesh.tp[0]", "must be a name"),
        ("[mesh]\nmwt = 'short'", "mesh.mwt", 'one of "shortest", "spanning"'),
        ("state = 'var/lib'", "state", "must be an absolute path"),
        ("state = ''", "state", "must be an absolute path"),
        ('state = "/a\\u0000b"', "state", "must be an absolute path"),
        (f"socket = '/{'a' * 107}'", "socket", "at most 107 bytes"),
        ("[record]\nlimit_mib = 1", "record.path", "is missing"),
        ("[metrics]", "metrics.listen", "is missing"),
        ("[metrics]\nlisten = true", "metrics.listen", 'such as "127.0.0.1:9747" or "[::1]:9747", got true'),
        ("[metrics]\nlisten = '9747'", "metrics.listen", "an IP address and a port"),
        ("[metrics]\nlisten = ':9747'", "metrics.listen", "an IP address and a port"),
        ("[metrics]\nlisten = '127.0.0.1'", "metrics.listen", "an IP address and a port"),
        ("[metrics]\nlisten = '127.0.0.1:0'", "metrics.listen", "an IP address and a port"),
        ("[metrics]\nlisten = '127.0.0.1:65536'", "metrics.listen", "an IP address and a port"),
        ("[metrics]\nlisten = '127.0.0.1:97x'", "metrics.listen", "an IP address and a port"),
        ("[metrics]\nlisten = 'localhost:9747'", "metrics.listen", "an IP address and a port"),
        ("[metrics]\nlisten = '::1:9747'", "metrics.listen", "an IP address and a port"),
        ("[metrics]\nlisten = '[127.0.0.1]:9747'", "metrics.listen", "an IP address and a port"),
        ("[metrics]\nlisten = '224.0.0.1:9747'", "metrics.listen", "that a machine can listen on"),
        ("[metrics]\nlisten = '[fe80::1%eth0]:9747'", "metrics.listen", "that a machine can listen on"),
        ("[record]\npath = '/r'\nlimit_mib = 0", "record.limit_mib", "from 1 to 1024"),
        ("[liveness]\nhello_interval_ms = 1001\nhello_lease_s = 3", "liveness.hello_lease_s", "three hello intervals"),
        ("port = 1979-05-27", "port", "must be an integer"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path_and_what_is_allowed(text: str, path: str, says: str) -> None:
    error = refused(text)
    assert error.path == path
    assert says in error.problem


def test_the_bounds_themselves_are_accepted() -> None:
    assert parse({"port": 1}).port == 1
    assert parse({"port": 65_535}).port == 65_535
    assert parse({"liveness": {"hello_interval_ms": 1_000, "hello_lease_s": 3}}).liveness.hello_lease_s == 3
    assert parse({"socket": "/" + "a" * 106}).socket == Path("/" + "a" * 106)
    assert parse({"name": "a" * 64}).name == "a" * 64


def test_a_long_value_is_shortened_in_its_error() -> None:
    assert len(str(refused(f"port = '{'9' * 10_000}'"))) < 200


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"port = ", "is not valid TOML"),
        (b"port = 1\nport = 2", "is not valid TOML"),
        (b"name = '\xff'", "is not UTF-8 text (byte 8)"),
        (b"a = " + b"[" * 100_000, ""),
        (b"#" * ((1 << 20) + 1), "is larger than"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_clear_error(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(file) in caught.value.path
    assert says in caught.value.problem


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root reads everything: be somebody else for a while."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(me)


@pytest.fixture
def locked() -> Iterator[Path]:
    """A configuration in a directory that others may enter: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)
        yield write(place / "dmssd.toml", "")
        place.chmod(0o700)


def test_an_unreadable_file_says_so(locked: Path, request: pytest.FixtureRequest) -> None:
    locked.chmod(0)
    request.getfixturevalue("unprivileged")
    with pytest.raises(ConfigError) as caught:
        load(locked)
    assert str(caught.value) == f"{locked}: may not be read: run as root, or change its mode"


def test_an_unreadable_directory_says_so(
    locked: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CONFIG_FILE", str(locked))
    locked.parent.chmod(0)
    request.getfixturevalue("unprivileged")
    for path in (None, locked):
        with pytest.raises(ConfigError, match="may not be read: run as root, or change its mode"):
            load(path)


def test_what_show_prints_is_a_configuration_that_says_the_same() -> None:
    for config in (Config(), parse(tomllib.loads(FULL)), parse({"record": {"path": '/a "b" \x7f\\'}})):
        assert parse(tomllib.loads(schema.toml(schema.plain(config)))) == config


def test_a_configuration_made_in_code_is_as_consistent_as_one_that_was_read() -> None:
    with pytest.raises(ConfigError):
        schema.LivenessSettings(hello_interval_ms=60_000, hello_lease_s=1)


def test_the_host_name_is_usable_as_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Uname:
        nodename = "bo ard_1.example.org"

    monkeypatch.setattr(os, "uname", lambda: Uname)
    assert Config().name == "bo-ard_1"
