"""``make soak-packages`` finds what it looks for."""

import importlib.util
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "packaging/deb/soak.py"


@pytest.fixture(scope="module")
def soak() -> Any:
    spec = importlib.util.spec_from_file_location("deb_soak", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def elf(path: Path, machine: int) -> None:
    path.write_bytes(b"\x7fELF" + bytes(14) + struct.pack("<H", machine) + bytes(8))


def test_a_library_of_another_machine_is_found(soak: Any, tmp_path: Path) -> None:
    elf(tmp_path / "a.cpython-311-aarch64-linux-gnu.so", 183)
    (tmp_path / "b.py").write_text("")
    assert list(soak.strangers(tmp_path, "arm64")) == []
    elf(tmp_path / "b.abi3.so", 62)
    assert list(soak.strangers(tmp_path, "arm64")) == ["arm64: b.abi3.so is for machine 62"]
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert list(soak.strangers(tmp_path, "arm64")) == ["arm64: holds no library at all"]


def test_files_are_the_same_but_for_the_architecture_in_their_names(soak: Any, tmp_path: Path) -> None:
    for architecture, gnu in (("amd64", "x86_64-linux-gnu"), ("arm64", "aarch64-linux-gnu")):
        (tmp_path / architecture).mkdir()
        elf(tmp_path / architecture / f"a.cpython-311-{gnu}.so", 62)
    assert soak.listed(tmp_path / "amd64", "amd64") == soak.listed(tmp_path / "arm64", "arm64")
