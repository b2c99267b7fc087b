"""Every command of docs/operating is run, in the order of the pages, on three boards as the pages describe them.

    alpha (eth0) ── (eth0) beta (eth1) ── (eth0) gamma

A board is a network, mount and host name namespace: /etc, /run, /var/lib and /tmp are its own. After the language, the
fence of a block tells the test what a reader sees from the text:

    on=BOARD | all     | where it is run (a block without it is run on alpha)
    background         | it goes on running; what follows waits until the daemon answers
    stop               | it ends what runs in the background there, which is waited for
    until="TEXT"       | it is repeated until it prints this
    waits              | something in what follows ends it; it has ended well before the next block of that board
    exit=N             | it ends with this status (any: whichever), else with 0
    skip="REASON"      | it cannot be run here, and why

``BOARD`` is set as install.md says. What a block sets is there in the next one of that board; ``T``, which a reader
copies from one board to another, on all; so is ``KEY``, which ``dmssd init`` prints.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.netns import mesh
from tests.netns.kernel import REPOSITORY, Namespaces
from tests.netns.mesh import until

pytestmark = pytest.mark.netns

PAGES = ("install", "join-and-admit", "rotate", "debug", "recover")
BOARDS = ("alpha", "beta", "gamma")
OPTIONS = {"on", "background", "stop", "until", "waits", "exit", "skip"}
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OWN = """
set -e
mount --make-rprivate /
mount -t tmpfs own /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay own -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
for each in /run /var/lib /tmp; do mount -t tmpfs own "$each"; done
touch /run/environment /run/carried
hostname "$0"
echo ready
exec sleep infinity
"""


@dataclass
class Block:
    """One fenced block and what its fence says."""

    text: str
    options: dict[str, str]

    @property
    def boards(self) -> tuple[str, ...]:
        on = self.options.get("on", BOARDS[0])
        return BOARDS if on == "all" else (on,)


def blocks(page: str) -> list[Block]:
    text = (REPOSITORY / "docs" / "operating" / f"{page}.md").read_text()
    found = []
    for language, options, commands in FENCE.findall(text):
        assert language == "sh", f"{page}.md has a block of {language!r}: commands are sh, all else is indented"
        words = [word.partition("=") for word in shlex.split(options)]
        found.append(Block(commands, {name: value for name, _, value in words}))
        assert found[-1].options.keys() <= OPTIONS, options
    return found


@dataclass
class Boards:
    """Machines, as far as the pages can tell. ``token`` is what was copied last."""

    keepers: dict[str, "subprocess.Popen[str]"]
    logs: Path
    token: str = ""
    key: str = ""
    waiting: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict)
    daemons: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def command(self, board: str, text: str) -> list[str]:
        number = BOARDS.index(board) + 1
        script = [
            f"cd {REPOSITORY}",
            ". /run/environment",
            f"export BOARD={number} T={shlex.quote(self.token)} KEY={shlex.quote(self.key)}",
            "set -ae",
            text,
            "export -p > /run/environment",
        ]
        inside = ["nsenter", "-t", str(self.keepers[board].pid), "--mount", "--net", "--uts"]
        environment = ["env", "-u", "DMSSD_SOCKET", f"PATH={Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"]
        return [*inside, *environment, "bash", "-c", "\n".join(script)]

    def run(self, board: str, text: str) -> "subprocess.CompletedProcess[str]":
        command = self.command(board, text)
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        if (printed := re.search(r"kept offline: (\S+)", done.stdout)) is not None:
            self.key = printed[1]
        if "T=" in text:
            environment = ["nsenter", "-t", str(self.keepers[board].pid), "--mount", "cat", "/run/environment"]
            held = subprocess.run(environment, capture_output=True, text=True, check=True).stdout
            self.token = re.findall(r'^declare -x T="(.*)"$', held, re.MULTILINE)[0]
        return done

    def begin(self, board: str, text: str) -> None:
        command = self.command(board, text)
        self.waiting[board] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )

    def has_ended_well(self, board: str) -> None:
        if (waiting := self.waiting.pop(board, None)) is not None:
            said = waiting.communicate(timeout=60)[0]
            assert waiting.returncode == 0, said

    def start(self, board: str, text: str) -> None:
        self.ended(board)
        with (self.logs / f"{board}.log").open("ab") as log:
            self.daemons[board] = subprocess.Popen(self.command(board, f"exec {text}"), stdout=log, stderr=log)
        until(lambda: self.run(board, "dmssd role list").returncode == 0, f"the daemon of {board} answers")

    def ended(self, board: str) -> None:
        if (daemon := self.daemons.pop(board, None)) is not None:
            daemon.wait(30)

    def last_words(self, board: str) -> str:
        log = self.logs / f"{board}.log"
        return "".join(log.read_text().splitlines(keepends=True)[-15:]) if log.exists() else ""


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    mesh.require_lab()
    keepers: dict[str, subprocess.Popen[str]] = {}
    with Namespaces(*BOARDS) as spaces:
        spaces.veth(("alpha", "eth0"), ("beta", "eth0"))
        spaces.veth(("beta", "eth1"), ("gamma", "eth0"))
        made = Boards(keepers, tmp_path_factory.mktemp("boards"))
        try:
            for board in BOARDS:
                enter = ["nsenter", f"--net=/run/netns/{spaces.full(board)}", "unshare", "--mount", "--uts"]
                keeper = subprocess.Popen([*enter, "sh", "-c", OWN, board], stdout=subprocess.PIPE, text=True)
                keepers[board] = keeper
                assert keeper.stdout is not None
                assert keeper.stdout.readline() == "ready\n"
            yield made
        finally:
            for process in (*made.waiting.values(), *made.daemons.values(), *keepers.values()):
                process.kill()
                process.wait(30)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_the_page_says(boards: Boards, page: str) -> None:
    for block in blocks(page):
        if "skip" in block.options:
            continue
        for board in block.boards:
            carry_out(boards, board, block)


def carry_out(boards: Boards, board: str, block: Block) -> None:
    boards.has_ended_well(board)
    if "waits" in block.options:
        boards.begin(board, block.text)
        return
    if "background" in block.options:
        boards.start(board, block.text)
        return
    last: list[subprocess.CompletedProcess[str]] = []

    def done() -> bool:
        last[:] = [boards.run(board, block.text)]
        wanted = block.options.get("until")
        if wanted is not None:
            return wanted in last[0].stdout
        return block.options.get("exit", "0") in (str(last[0].returncode), "any")

    try:
        # What is to come true is waited for; all else must be so at once.
        until(done, "", mesh.SECONDS if "until" in block.options else 0)
    except AssertionError:
        said = f"{last[0].stdout}{last[0].stderr}(status {last[0].returncode})"
        pytest.fail(f"on {board}:\n{block.text}\n{said}\nits daemon's last words:\n{boards.last_words(board)}")
    if "stop" in block.options:
        boards.ended(board)


def test_what_is_not_run_is_justified_and_no_page_hides_commands_from_this_test() -> None:
    pages = sorted(path.stem for path in (REPOSITORY / "docs" / "operating").glob("*.md"))
    assert pages == sorted(PAGES)
    for page in PAGES:
        for block in blocks(page):
            assert len(block.options.get("skip", "a sentence that says why")) > 20, block.text
        text = (REPOSITORY / "docs" / "operating" / f"{page}.md").read_text()
        assert not re.search(r"^(?: {4,}|\t)[$#] ", text, re.MULTILINE), "a command outside of a fenced block"


def test_the_pages_run_most_of_what_they_show() -> None:
    every = [block for page in PAGES for block in blocks(page)]
    assert sum("skip" in block.options for block in every) * 5 < len(every)
