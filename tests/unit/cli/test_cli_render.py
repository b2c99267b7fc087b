import click
import pytest

from dmssd.cli.duration import Duration
from dmssd.cli.render import clean, duration, facts, number, plural, records, table


def test_columns_are_aligned_numbers_to_the_right_and_no_line_ends_in_blanks() -> None:
    assert table(["name", "metric", "note"], [["a", 5, ""], ["bcd", 1200, None], ["e", None, True]]) == (
        "NAME  METRIC  NOTE\na          5\nbcd     1200  -\ne          -  True"
    )


def test_a_table_without_rows_is_its_headers() -> None:
    assert table(["a", "b"], []) == "A  B"
    assert facts([]) == ""


def test_records_take_the_columns_of_all_rows() -> None:
    assert records([{"a": 1}, {"b": "x", "a": 2}]) == "A  B\n1  -\n2  x"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("Zürich µ", "Zürich µ"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("a\u202eb\u200b", "a\\u202eb\\u200b"),
        ("\x9b2J", "\\x9b2J"),
        ("\ud800", "\\ud800"),
        (None, "-"),
        (3, "3"),
    ],
)
def test_a_cell_shows_what_a_terminal_would_obey(given: object, shown: str) -> None:
    assert clean(given) == shown


def test_lists_in_cells_are_clean_too() -> None:
    assert table(["x"], [[["a\x1b", "b"]], [[]]]) == "X\na\\x1b, b\n-"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")],
)
def test_durations_have_two_units_at_most(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_numbers_and_plurals() -> None:
    assert [number(2), number(2.0), number(1.25), number(10.0)] == ["2", "2", "1.25", "10"]
    assert [plural(0, "route"), plural(1, "route"), plural(2, "adjacency", "adjacencies")] == [
        "0 routes",
        "1 route",
        "2 adjacencies",
    ]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("2h", 7200), ("1d", 86_400)])
def test_durations_are_read_with_and_without_a_unit(text: str, seconds: float) -> None:
    assert Duration(1, 86_400).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1w", "1 h", "0.5", "2d", "1e3", "nan", "٣", "9" * 30])
def test_what_is_no_duration_or_out_of_range_is_wrong_usage(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration(1, 86_400).convert(text, None, None)
