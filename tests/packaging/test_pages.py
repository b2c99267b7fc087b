"""README's first screen and docs/operating/install.md, line by line, on two machines that a real systemd boots.

alpha (eth0) ── (eth0) beta
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.kernel import REPOSITORY, Namespaces
from tests.netns.pages import Boards, blocks
from tests.packaging import machines
from tests.packaging.machines import Machine
from tests.packaging.package import package

pytestmark = pytest.mark.netns

NAMES = ("alpha", "beta")
README = REPOSITORY / "README.md"
INSTALL = REPOSITORY / "docs/operating/install.md"


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Boards]:
    """Two machines that have been given the package, as a reader has copied it there."""
    machines.require_machines()
    machines.remove_leftovers()
    root, deb = machines.debian_root(), package()
    with Namespaces(*NAMES, prefix=machines.PREFIX) as spaces:
        spaces.veth((NAMES[0], "eth0"), (NAMES[1], "eth0"))
        booted = [Machine(name, spaces.full(name), tmp_path) for name in NAMES]
        try:
            for machine in booted:
                machine.boot(root)
                machine.put(deb, "/root/")
                machine.run("touch /run/environment")
            yield Boards({machine.name: machine.entering() for machine in booted}, "/root", tmp_path)
        finally:
            for machine in booted:
                machine.power_off()


def test_the_first_screen_of_the_readme_takes_two_machines_to_a_mesh_with_ping(boards: Boards) -> None:
    page = blocks(README)
    shown = README.read_text().partition("\n## ")[2].partition("\n## ")[0]
    assert all(block.text in shown for block in page), "commands outside of the first section"
    assert [block.text for block in page if "skip" not in block.options][-1].startswith("ping ")
    boards.carry_out(page)


def test_every_command_of_the_install_page_that_takes_the_package_does_what_the_page_says(boards: Boards) -> None:
    page = [block for block in blocks(INSTALL) if block.options.get("by") != "clone"]
    assert sum(block.options.get("by") == "package" for block in page) >= 4
    boards.carry_out(page)
