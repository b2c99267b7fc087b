"""What the Debian package holds: pages, completion, licences; nothing that no node needs."""

import email
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from dmssd.cli.main import COMMANDS
from dmssd.config.schema import Config, plain
from tests.packaging.package import need, package, unpacked

DEADLINE_S = 60
MEGABYTES_MAX = 8.0
PRIVATE = "usr/lib/dmssd"


@pytest.fixture(scope="module")
def deb() -> Path:
    return package()


@pytest.fixture(scope="module")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(deb, tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def program(tree: Path) -> str:
    """A PATH on which the installed program is the one that was unpacked."""
    directory = tree / "elsewhere"
    directory.mkdir()
    script = (tree / "usr/bin/dmssd").read_text()
    assert '"/usr/lib/dmssd"' in script
    moved = directory / "dmssd"
    moved.write_text(
        script.replace('"/usr/lib/dmssd"', f'"{tree / PRIVATE}"').replace(
            "import sys\n", "import sys\n\nsys.dont_write_bytecode = True\n"
        )
    )
    moved.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def run(command: list[str], path: str, **more: str) -> str:
    environment = {"PATH": path, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **more}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def field(deb: Path, name: str) -> str:
    return subprocess.run(["dpkg-deb", "-f", str(deb), name], capture_output=True, text=True, check=True).stdout.strip()


def test_the_installed_program_runs_by_its_own_libraries_alone(program: str) -> None:
    assert run(["dmssd", "--version"], program).startswith("dmssd ")


def test_the_package_is_as_small_as_it_should_be(deb: Path) -> None:
    megabytes = deb.stat().st_size / 1e6
    print(f"{deb.name}: {megabytes:.2f} MB, aim {MEGABYTES_MAX} MB")
    assert megabytes <= MEGABYTES_MAX


def test_nothing_is_installed_that_no_node_needs(tree: Path) -> None:
    unneeded = re.compile(r"/tests?/|\.pyi$|\.pyx$|\.[ch]$|/__pycache__|_testcapi|/RECORD$|/bin/(?!dmssd$)")
    names = [f"/{path.relative_to(tree)}" for path in tree.rglob("*") if "elsewhere" not in path.parts]
    assert len(names) > 100
    assert [name for name in names if unneeded.search(name)] == []


def test_configuration_files_are_conffiles(deb: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--control", str(deb), str(tmp_path)], check=True)
    named = set((tmp_path / "conffiles").read_text().split())
    below = unpacked(deb, tmp_path / "tree") / "etc"
    assert named == {f"/etc/{path.relative_to(below)}" for path in below.rglob("*") if path.is_file()}
    assert "/etc/dmssd/dmssd.toml" in named


def test_the_licence_of_everything_that_is_bundled_is_there(tree: Path) -> None:
    copyright = (tree / "usr/share/doc/dmssd/copyright").read_text()
    paragraphs = re.split(r"\n(?=Files:)", copyright)
    bundled = {
        email.message_from_string(metadata.read_text(errors="replace"))["Name"]: metadata.parent.name.split("-")[0]
        for metadata in (tree / PRIVATE).glob("*.dist-info/METADATA")
    }
    locked = {
        re.sub(r"[-_.]+", "-", match[1]).lower()
        for match in re.finditer(r"^([A-Za-z0-9._-]+)==", Path("requirements.lock").read_text(), re.MULTILINE)
    }
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in bundled} == locked
    for name, files in bundled.items():
        [paragraph] = [each for each in paragraphs if each.startswith(f"Files: usr/lib/dmssd/{files}*\n")]
        assert len(re.findall(r"^ .*\w", paragraph, re.MULTILINE)) >= 2, f"no licence text of {name}"


def test_alert_rules_and_dashboard_lie_where_prometheus_can_read_them(tree: Path) -> None:
    for source in Path("packaging/monitoring").iterdir():
        installed = tree / "usr/share/doc/dmssd/monitoring" / source.name
        assert installed.read_bytes() == source.read_bytes()
        assert installed.stat().st_mode & 0o777 == 0o644


def test_every_module_that_lies_there_belongs_to_something_named(tree: Path) -> None:
    # A wheel may bring modules under another name than its own, and licences beside its own.
    owned = {"dmssd", "gossip", "routing", "sansio", "_cffi_backend"}
    for listed in (tree / PRIVATE).glob("*.dist-info"):
        owned.add(listed.name.split("-")[0].lower())
    others = {"nacl": "pynacl", "markdown_it": "markdown_it_py", "noise": "noiseprotocol", "attr": "attrs"}
    tops = {path.name.partition(".")[0] for path in (tree / PRIVATE).iterdir() if not path.name.endswith(".dist-info")}
    assert {top for top in tops if others.get(top, top).lower() not in owned} == set()


@pytest.mark.parametrize("page", ["man1/dmssd.1.gz", "man5/dmssd.toml.5.gz", "man8/dmssd-helper.8.gz"])
def test_the_manual_is_taken_without_a_warning(tree: Path, page: str) -> None:
    need("man-db")
    file = tree / "usr/share/man" / page
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(file)],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout) > 1000


def read_page(tree: Path, page: str) -> str:
    text = run(["man", "-l", str(tree / "usr/share/man" / page)], os.environ["PATH"], MANWIDTH="1000")
    return re.sub(r".\x08", "", text)


def test_the_manual_has_every_command_and_its_options(tree: Path) -> None:
    need("man-db")
    text = read_page(tree, "man1/dmssd.1.gz")
    missing = [name for name in COMMANDS if not re.search(rf"^ +dmssd {name}\b", text, re.MULTILINE)]
    assert missing == []
    for said in ("dmssd lab fault drop A B", "--leave-first", "--dry-run", "DMSSD_SOCKET", "/var/lib/dmssd", "SIGHUP"):
        assert said in text


def test_the_manual_has_every_setting(tree: Path) -> None:
    need("man-db")
    text = read_page(tree, "man5/dmssd.toml.5.gz")
    for name, value in plain(Config()).items():
        if isinstance(value, dict):
            assert f"\n[{name}]" in text
            assert [key for key in value if not re.search(rf"^ +{key}\b", text, re.MULTILINE)] == []
        else:
            assert name == "links" or re.search(rf"^ +{name}\b", text, re.MULTILINE), name
    assert "[[links]]" in text
    assert "An integer from 10 to 10000; 100." in text


def test_bash_completes(tree: Path, program: str) -> None:
    file = tree / "usr/share/bash-completion/completions/dmssd"
    script = (
        f"source {file}; words=($1); COMP_WORDS=(${{words[@]}}); COMP_CWORD=$(( ${{#words[@]}} - 1 ))\n"
        "f=$(complete -p dmssd); f=${f##*-F }; ${f%% *} dmssd; printf '%s\\n' ${COMPREPLY[@]}"
    )

    def complete(words: str) -> list[str]:
        return run(["bash", "--norc", "-c", script, "bash", words], program).split()

    assert complete("dmssd sta") == ["status"]
    assert complete("dmssd network sp") == ["spt"]
    assert complete("dmssd zzz") == []


def test_zsh_completes(tree: Path, program: str) -> None:
    need("zsh")
    found = tree / "usr/share/zsh/vendor-completions"
    shown = at_a_terminal(
        ["zsh", "-f", "-i"],
        f"PS1='ready> '; fpath=({found} $fpath); autoload -U compinit; compinit -u -D\n",
        "dmssd network sp\t",
        "dmssd network spt",
        program,
    )
    assert "dmssd network spt" in shown


def test_fish_completes(tree: Path, program: str) -> None:
    need("fish")
    directory = tree / "usr/share/fish/vendor_completions.d"
    home = tree / "elsewhere"

    def complete(line: str) -> list[str]:
        script = f"set fish_complete_path {directory}; complete -C '{line}'"
        offered = run(["fish", "--no-config", "-c", script], program, HOME=str(home)).splitlines()
        return [each.partition("\t")[0] for each in offered]

    assert complete("dmssd sta") == ["status"]
    assert complete("dmssd network sp") == ["spt"]


def at_a_terminal(command: list[str], first: str, typed: str, awaited: str, path: str) -> str:
    """What is on the terminal of ``command`` once ``awaited`` is there, or at the deadline."""
    environment = {"PATH": path, "HOME": "/nonexistent", "TERM": "dumb"}
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(command[0], command, environment)
    shown, end = "", time.monotonic() + DEADLINE_S
    try:
        os.write(terminal, first.encode())
        is_typed = False
        while time.monotonic() < end and awaited not in shown:
            if select.select([terminal], [], [], 0.2)[0]:
                shown += os.read(terminal, 4096).decode(errors="replace")
            if not is_typed and "ready> " in shown.replace(first.strip(), "").replace("PS1='ready> '", ""):
                os.write(terminal, typed.encode())
                is_typed = True
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)
    return shown
