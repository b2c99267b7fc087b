from pathlib import Path

import pytest

from dmssd.driver.links import medium_of


@pytest.mark.parametrize("sign", ["wireless", "phy80211"])
def test_what_the_kernel_knows_as_wireless_is_radio_and_everything_else_wire(tmp_path: Path, sign: str) -> None:
    (tmp_path / "wlp3s0" / sign).mkdir(parents=True)
    (tmp_path / "eth0").mkdir()
    assert medium_of("wlp3s0", tmp_path) == "radio"
    assert medium_of("eth0", tmp_path) == medium_of("gone0", tmp_path) == "wire"
