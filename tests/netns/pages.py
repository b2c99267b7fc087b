"""Pages whose commands are run as a reader would run them: what is fenced, and on which machine.

After the language (``sh``; ``text`` is not run), the fence of a block tells the test what a reader sees from the text:

    on=BOARD | all     | where it is run (a block without it is run on alpha)
    background         | it goes on running; what follows waits until the daemon answers
    stop               | it ends what runs in the background there, which is waited for
    until="TEXT"       | it is repeated until it prints this
    waits              | something in what follows ends it; it has ended well before the next block of that board
    exit=N             | it ends with this status (any: whichever), else with 0
    by=package         | it needs the package and a service manager (``by=clone``: neither is there)
    skip="REASON"      | it cannot be run here, and why

``BOARD`` is set as install.md says. What a block sets is there in the next one of that board; ``T``, which a reader
copies from one board to another, on all; so is ``KEY``, which ``dmssd init`` prints.
"""

import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.netns import mesh
from tests.netns.mesh import until

OPTIONS = {"on", "background", "stop", "until", "waits", "exit", "by", "skip"}
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    """One fenced block and what its fence says."""

    text: str
    options: dict[str, str]

    def boards(self, all_of_them: Sequence[str]) -> Sequence[str]:
        """Which of these it is run on, in order."""
        on = self.options.get("on", all_of_them[0])
        return all_of_them if on == "all" else [on]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    found = []
    for language, options, commands in FENCE.findall(page.read_text()):
        if language == "text":
            continue
        assert language == "sh", f"{page.name} has a block of {language!r}: commands are sh, all else is indented"
        words = [word.partition("=") for word in shlex.split(options)]
        found.append(Block(commands, {name: value for name, _, value in words}))
        assert found[-1].options.keys() <= OPTIONS, options
    return found


@dataclass
class Boards:
    """Machines, as far as the pages can tell.

    ``entering``: for each, the words before a command that is run on it, which has /run/environment. ``directory``:
    where a reader is, on each of them. ``token`` is what was copied last.
    """

    entering: dict[str, list[str]]
    directory: str
    logs: Path
    token: str = ""
    key: str = ""
    waiting: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict)
    daemons: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def command(self, board: str, text: str) -> list[str]:
        number = list(self.entering).index(board) + 1
        script = [
            f"cd {self.directory}",
            ". /run/environment",
            f"export BOARD={number} T={shlex.quote(self.token)} KEY={shlex.quote(self.key)}",
            "set -ae",
            text,
            "export -p > /run/environment",
        ]
        return [*self.entering[board], "bash", "-c", "\n".join(script)]

    def run(self, board: str, text: str) -> "subprocess.CompletedProcess[str]":
        command = self.command(board, text)
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        if (printed := re.search(r"kept offline: (\S+)", done.stdout)) is not None:
            self.key = printed[1]
        if "T=" in text:
            environment = [*self.entering[board], "cat", "/run/environment"]
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

    def carry_out(self, page: Iterable[Block]) -> None:
        """Do what the page says, but for what it says cannot be done here."""
        for block in page:
            if "skip" in block.options:
                continue
            for board in block.boards(list(self.entering)):
                self._carry_out(board, block)

    def end(self) -> None:
        """End what still runs."""
        for process in (*self.waiting.values(), *self.daemons.values()):
            process.kill()
            process.wait(30)

    def _carry_out(self, board: str, block: Block) -> None:
        self.has_ended_well(board)
        if "waits" in block.options:
            self.begin(board, block.text)
            return
        if "background" in block.options:
            self.start(board, block.text)
            return
        last: list[subprocess.CompletedProcess[str]] = []

        def done() -> bool:
            last[:] = [self.run(board, block.text)]
            wanted = block.options.get("until")
            if wanted is not None:
                return wanted in last[0].stdout
            return block.options.get("exit", "0") in (str(last[0].returncode), "any")

        try:
            # What is to come true is waited for; all else must be so at once.
            until(done, "", mesh.SECONDS if "until" in block.options else 0)
        except AssertionError:
            said = f"{last[0].stdout}{last[0].stderr}(status {last[0].returncode})"
            pytest.fail(f"on {board}:\n{block.text}\n{said}\nits daemon's last words:\n{self.last_words(board)}")
        if "stop" in block.options:
            self.ended(board)
