"""The machines of these tests: nothing of them outlives a run that was killed."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.netns.kernel import ip
from tests.packaging import machines
from tests.packaging.machines import CGROUPS, PREFIX

pytestmark = pytest.mark.netns


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_has_stays() -> None:
    machines.require_machines()
    over = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    left, own = f"{PREFIX}-{over}-left", f"{PREFIX}-{os.getpid()}-own"
    # In another session, as what a killed test has started is nobody's child any more.
    still_there = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        for name in (left, own):
            ip("netns", "add", name)
        for cgroup in CGROUPS:
            (cgroup / left / "inner").mkdir(parents=True)
            (cgroup / left / "inner/cgroup.procs").write_text(str(still_there.pid))
        machines.remove_leftovers()
        assert still_there.wait(60) == -9
        assert not any((cgroup / left).exists() for cgroup in CGROUPS)
        assert not Path("/run/netns", left).exists()
        assert Path("/run/netns", own).exists()
    finally:
        still_there.kill()
        subprocess.run(["ip", "netns", "del", own], capture_output=True, check=False, timeout=60)
        machines.raze(left)
        subprocess.run(["ip", "netns", "del", left], capture_output=True, check=False, timeout=60)
