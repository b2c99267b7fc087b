"""Every command of docs/operating is run, in the order of the pages, on three boards as the pages describe them.

    alpha (eth0) ── (eth0) beta (eth1) ── (eth0) gamma

A board is a network, mount and host name namespace: /etc, /run, /var/lib and /tmp are its own. What the fence of a
block says to the test is told in ``pages``; blocks with ``by=package`` are run by tests/packaging/test_pages.py.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import mesh
from tests.netns.kernel import REPOSITORY, Namespaces
from tests.netns.pages import Boards, blocks

pytestmark = pytest.mark.netns

PLACE = REPOSITORY / "docs" / "operating"
PAGES = (
    "install",
    "join-and-admit",
    "rotate",
    "debug",
    "monitoring",
    "sizing",
    "backup",
    "upgrade",
    "container",
    "recover",
)
BOARDS = ("alpha", "beta", "gamma")
WITHIN = ["nsenter", "--mount", "--net", "--uts"]
ENVIRONMENT = ["env", "-u", "DMSSD_SOCKET", f"PATH={Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"]
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


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    mesh.require_lab()
    keepers: dict[str, subprocess.Popen[str]] = {}
    with Namespaces(*BOARDS) as spaces:
        spaces.veth(("alpha", "eth0"), ("beta", "eth0"))
        spaces.veth(("beta", "eth1"), ("gamma", "eth0"))
        made: Boards | None = None
        try:
            for board in BOARDS:
                enter = ["nsenter", f"--net=/run/netns/{spaces.full(board)}", "unshare", "--mount", "--uts"]
                keeper = subprocess.Popen([*enter, "sh", "-c", OWN, board], stdout=subprocess.PIPE, text=True)
                keepers[board] = keeper
                assert keeper.stdout is not None
                assert keeper.stdout.readline() == "ready\n"
            entering = {board: [*WITHIN, "-t", str(keeper.pid), *ENVIRONMENT] for board, keeper in keepers.items()}
            made = Boards(entering, str(REPOSITORY), tmp_path_factory.mktemp("boards"))
            yield made
        finally:
            if made is not None:
                made.end()
            for keeper in keepers.values():
                keeper.kill()
                keeper.wait(30)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_the_page_says(boards: Boards, page: str) -> None:
    boards.carry_out(block for block in blocks(PLACE / f"{page}.md") if block.options.get("by") != "package")


def test_what_is_not_run_is_justified_and_no_page_hides_commands_from_this_test() -> None:
    pages = sorted(path.stem for path in PLACE.glob("*.md"))
    assert pages == sorted(PAGES)
    for page in PAGES:
        for block in blocks(PLACE / f"{page}.md"):
            assert len(block.options.get("skip", "a sentence that says why")) > 20, block.text
        text = (PLACE / f"{page}.md").read_text()
        assert not re.search(r"^(?: {4,}|\t)[$#] ", text, re.MULTILINE), "a command outside of a fenced block"


def test_the_pages_run_most_of_what_they_show() -> None:
    every = [block for page in PAGES for block in blocks(PLACE / f"{page}.md")]
    assert sum("skip" in block.options for block in every) * 5 < len(every)
