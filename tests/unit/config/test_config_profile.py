"""``profile``: other defaults, never another meaning of what somebody set."""

import tomllib

import pytest

from dmssd.config.changes import changes, in_effect
from dmssd.config.load import parse
from dmssd.config.schema import PROFILES, Config, plain, toml
from sansio.errors import ConfigError


def read(text: str) -> Config:
    return parse(tomllib.loads(text))


def test_without_a_profile_nothing_is_different() -> None:
    assert read("") == read('profile = "default"') == Config()


def test_a_profile_changes_what_it_names_and_nothing_else() -> None:
    differing = {change.key for change in changes(read(""), read('profile = "small"'))}
    assert differing == {"profile", "api", "liveness.echo_interval_ms"}


@pytest.mark.parametrize("name", PROFILES)
def test_every_setting_of_a_profile_exists_and_is_shown(name: str) -> None:
    shown = plain(read(f'profile = "{name}"'))
    for key, value in PROFILES[name].items():
        assert shown[key] == (shown[key] | value if isinstance(value, dict) else value)
    assert read(toml(shown)) == read(f'profile = "{name}"')


def test_what_is_set_counts_whatever_the_profile_says() -> None:
    config = read('profile = "small"\napi = "at-start"\nliveness.echo_interval_ms = 100\nliveness.echo_misses = 5')
    assert (config.api, config.liveness.echo_interval_ms, config.liveness.echo_misses) == ("at-start", 100, 5)


def test_a_table_of_which_the_profile_names_one_setting_keeps_its_others() -> None:
    liveness = read('profile = "small"\n[liveness]\nhello_lease_s = 30').liveness
    assert (liveness.hello_lease_s, liveness.echo_interval_ms) == (30, 500)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('profile = "tiny"', "profile"),
        ("profile = 3", "profile"),
        ('profile = ["small"]', "profile"),
        ('profile = "small"\nliveness = 3', "liveness"),
        ('profile = "small"\napi = 3', "api"),
        ('[profile]\nname = "small"', "profile"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.path == path


def test_a_running_daemon_takes_the_pace_at_once_and_the_rest_after_a_restart() -> None:
    running, wanted = read(""), read('profile = "small"')
    taken = in_effect(running, wanted)
    assert taken.liveness.echo_interval_ms == 500
    assert taken.api == "at-start"
    assert {change.key: change.effect for change in changes(running, wanted)} == {
        "profile": "after a restart",
        "api": "after a restart",
        "liveness.echo_interval_ms": "now",
    }
