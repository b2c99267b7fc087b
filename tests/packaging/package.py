"""The Debian package of this tree: built when it is older than what goes into it, and unpacked for those who look."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = (
    *("dmssd", "gossip", "packaging/deb", "routing", "sansio", "systemd"),
    *("CHANGELOG.md", "requirements.lock"),
)
BUILD_DEADLINE_S = 900


def need(*packages: str) -> None:
    """Install Debian packages that are missing; skip, or fail where it is required, who cannot."""
    done = subprocess.run(
        [str(REPOSITORY / "setup/system.sh"), *packages], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        lacking(f"needs the Debian packages {' '.join(packages)}: {done.stderr.strip()[-200:]}")


def lacking(why: str) -> None:
    """The calling test cannot run here."""
    if os.environ.get("DMSSD_REQUIRE_NETNS") == "1":
        pytest.fail(why)
    pytest.skip(why)


def package(architecture: str = "amd64", version: str = "") -> Path:
    """The .deb of this tree as it is now; under another version than its own, for upgrades."""
    if shutil.which("dpkg-deb") is None:
        lacking("needs dpkg, so a Debian")
    with _alone():
        built = _newest(architecture, version)
        if built is None or built.stat().st_mtime < _changed():
            done = subprocess.run(
                ["make", "deb", f"ARCH={architecture}"],
                cwd=REPOSITORY,
                env={**os.environ, "DMSSD_DEB_VERSION": version},
                capture_output=True,
                text=True,
                timeout=BUILD_DEADLINE_S,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            built = _newest(architecture, version)
    assert built is not None
    return built


def unpacked(deb: Path, directory: Path) -> Path:
    """The files that the package installs, below ``directory``."""
    subprocess.run(["dpkg-deb", "--extract", str(deb), str(directory)], check=True, timeout=120)
    return directory


def _newest(architecture: str, version: str) -> Path | None:
    directory = REPOSITORY / "build/versions" if version else REPOSITORY / "build"
    found = directory.glob(f"dmssd_{version or '*'}_{architecture}.deb")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _changed() -> float:
    files = (path for name in SOURCES for path in _files(REPOSITORY / name))
    return max(path.stat().st_mtime for path in files if "__pycache__" not in path.parts)


def _files(path: Path) -> Iterator[Path]:
    yield from path.rglob("*") if path.is_dir() else [path]


@contextmanager
def _alone() -> Iterator[None]:
    (REPOSITORY / "build").mkdir(exist_ok=True)
    with (REPOSITORY / "build/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
