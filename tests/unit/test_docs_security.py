"""docs/security.md names a test for each claim; a claim whose test is gone is none."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_test_that_the_threat_model_names_exists():
    text = (REPOSITORY / "docs" / "security.md").read_text()
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", text))
    assert len(named) > 40
    defined = {
        name
        for file in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_[a-z0-9_]+)", file.read_text(), re.M)
    }
    assert named <= defined, sorted(named - defined)
    for path in re.findall(r"`(tests/[a-z0-9_/.]+)`", text):
        assert (REPOSITORY / path).exists(), path
