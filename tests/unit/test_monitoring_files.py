"""The alert rules and the dashboard: they can be read, and name only metrics and labels that there are.

``promtool check rules`` of Debian's prometheus takes the rules as well; here a strict reader of the few YAML forms that
the file uses stands for it, so that no YAML library is needed.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dmssd.cli.main import COMMANDS
from dmssd.metrics import FAMILIES

MONITORING = Path(__file__).parents[2] / "packaging" / "monitoring"
GIVEN_BY_PROMETHEUS = {"instance", "job", "le"}
FAMILY = {family.name: family for family in FAMILIES}
SAMPLES = {
    **FAMILY,
    **{f"{f.name}{end}": f for f in FAMILIES if f.type == "histogram" for end in ("_bucket", "_sum", "_count")},
}
RULE_KEYS = {"expr", "for", "labels.severity", "annotations.summary", "annotations.description"}
LINE = re.compile(r"^ {6}(?:(- alert): (\w+)|  (labels|annotations):|  (  )?([a-z]+): (.+))$")
HEAD = ["groups:", "  - name: dmssd", "    rules:"]
PLAIN_SPECIAL = re.compile(r": | #|^[\[\]{}&*!|>'%@`,?-]")


def rules() -> list[dict[str, str]]:
    """The rules, each with flat keys; fails at the first line of another form."""
    lines = [line for line in (MONITORING / "alerts.yml").read_text().splitlines() if not line.startswith("#")]
    assert lines[: len(HEAD)] == HEAD
    found: list[dict[str, str]] = []
    table = ""
    for line in lines[len(HEAD) :]:
        matched = LINE.match(line)
        assert matched, f"not of the few forms that the test knows: {line!r}"
        begins, name, inside, nested, key, value = matched.groups()
        if begins:
            found.append({"alert": name})
        elif inside:
            table = inside
        else:
            path = f"{table}.{key}" if nested else key
            assert path not in found[-1], f"{path} twice: {line!r}"
            found[-1][path] = scalar(value)
    return found


def scalar(text: str) -> str:
    if text.startswith('"'):
        value = json.loads(text)
        assert isinstance(value, str)
        return value
    assert not PLAIN_SPECIAL.search(text), f"YAML would read {text!r} otherwise: quote it"
    return text


def dashboard() -> dict[str, Any]:
    made = json.loads((MONITORING / "dashboard.json").read_text())
    assert isinstance(made, dict)
    return made


def expressions() -> list[str]:
    targets = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    variables = [each["query"]["query"] for each in dashboard()["templating"]["list"] if each["type"] == "query"]
    notes = [each["expr"] for each in dashboard()["annotations"]["list"]]
    return [*(rule["expr"] for rule in rules()), *targets, *variables, *notes]


def labels_of(expression: str) -> set[str]:
    selected = {label for inside in re.findall(r"\{(.*?)\}", expression) for label in re.findall(r"(\w+)=", inside)}
    grouped = {label for inside in re.findall(r"\b(?:by|on) \((.*?)\)", expression) for label in inside.split(", ")}
    return selected | grouped


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\bdmssd_\w+", re.sub(r'"[^"]*"', "", expression)))


def test_every_rule_is_whole() -> None:
    found = rules()
    assert len(found) > 10
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert rule.keys() - {"alert"} >= RULE_KEYS - {"for"}, rule["alert"]
        assert rule.keys() - {"alert"} <= RULE_KEYS, rule["alert"]
        assert rule["labels.severity"] in ("critical", "warning")
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))


def test_every_metric_and_label_that_is_used_exists() -> None:
    asked = expressions()
    assert len(asked) > 30
    for expression in asked:
        used = metrics_of(expression)
        assert used or re.search(r"\bup\{job=\"dmssd\"\}", expression), expression
        assert used <= SAMPLES.keys(), expression
        known = GIVEN_BY_PROMETHEUS | {label for name in used for label in SAMPLES[name].labels}
        assert labels_of(expression) <= known, expression


@pytest.mark.parametrize("kind", ["histogram", "counter"])
def test_samples_are_used_as_their_type_allows(kind: str) -> None:
    for expression in expressions():
        for name in metrics_of(expression):
            if SAMPLES[name].type == kind == "counter":
                assert re.search(rf"\b(?:rate|increase)\({name}\b", expression), expression
            if SAMPLES[name].type == kind == "histogram":
                assert name not in FAMILY, f"{expression}: a histogram has no sample of its own name"


def test_states_that_are_asked_for_are_told() -> None:
    told = {"up", "suspect", "down", "left", "restarting"}
    for expression in expressions():
        for states in re.findall(r'state[!=]~?=?"([^"]+)"', expression):
            assert set(states.split("|")) <= told, expression


def test_what_alerts_show_and_advise_is_there() -> None:
    for rule in rules():
        said = rule["annotations.summary"] + rule["annotations.description"]
        expression_labels = {label for name in metrics_of(rule["expr"]) for label in SAMPLES[name].labels}
        shown = set(re.findall(r"\$labels\.(\w+)", said))
        assert shown <= GIVEN_BY_PROMETHEUS | expression_labels, rule["alert"]
        for command in re.findall(r"(?<!-u )\bdmssd (\w+)", rule["annotations.description"]):
            assert command in COMMANDS, rule["alert"]


def test_panels_have_names_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells
