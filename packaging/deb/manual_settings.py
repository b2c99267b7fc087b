#!/usr/bin/env python3
"""Print dmssd.toml(5) from the configuration's schema: its fields, their defaults, readers and docstrings.

What a setting may be is asked of the function that reads it, by giving it what none takes: the page says what the
error message would.
"""

import ast
import dataclasses
import inspect
import json
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from roff import escaped, marked, paragraphs, term

from dmssd import __version__
from dmssd.config import paths
from dmssd.config.schema import Config
from sansio.errors import ConfigError

PAGE = r""".TH DMSSD.TOML 5 "" "dmssd {version}" "dmssd"
.SH NAME
dmssd.toml \- configuration of the dmssd daemon
.SH SYNOPSIS
.I {file}
.br
.I /etc/dmssd/conf.d/*.toml
.SH DESCRIPTION
TOML. The files in conf.d are merged in, in the order of their names; a later one wins. Everything has a default, and
none of the files must exist. \fBdmssd config check\fP reads them as the daemon would and names the first line that it
cannot use; \fBdmssd config show\fP prints what is in effect; \fBdmssd config reload\fP takes a change, on trial with
\fB\-\-confirm\fP.
.PP
Of each setting is said what it may be and what it is unless set.
{sections}
.SH EXAMPLE
.nf
address4 = "10.5.0.1"

[[links]]
match = "eth*"
.fi
.SH SEE ALSO
.BR dmssd (1)"""


def documented(cls: type) -> dict[str, str]:
    """The text below each field of a class."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for above, node in zip(body.body, body.body[1:], strict=False):
        match above, node:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = inspect.cleandoc(text)
    return texts


def table_below(annotation: Any) -> tuple[type | None, bool]:
    """The dataclass that a field holds, if it does, and whether it is a list of such."""
    if dataclasses.is_dataclass(annotation):
        return typing.cast(type, annotation), False
    inner = [each for each in typing.get_args(annotation) if dataclasses.is_dataclass(each)]
    is_list = typing.get_origin(annotation) is tuple
    return (typing.cast(type, inner[0]), is_list) if inner else (None, False)


def allowed(read: Any, annotation: Any) -> str:
    """What a reader takes, in its own words."""
    # A list that cannot be right shows what its items must be; where lists are not taken, what is.
    for attempt in ([None], None):
        try:
            read(attempt, "?")
        except ConfigError as error:
            words = str(error).partition("must be ")[2].rpartition(", got ")[0]
            if words:
                items = typing.get_origin(annotation) is tuple and attempt is not None
                return f"a list, each {words}" if items else words
    sys.exit(f"{read} does not say what it takes: teach packaging/deb/manual_settings.py")


def default(field: "dataclasses.Field[Any]") -> str:
    """The default of a field as TOML, or in words."""
    if field.default is None:
        return "not set"
    if field.default is not dataclasses.MISSING:
        plain = list(field.default) if isinstance(field.default, tuple) else field.default
        return json.dumps(plain, default=str)
    return "must be set" if field.default_factory is dataclasses.MISSING else "taken from the machine"


def sections(cls: type, path: str) -> Iterator[str]:
    """One table: its own settings, then the tables in it."""
    texts, hints = documented(cls), typing.get_type_hints(cls)
    own, below = [], []
    for field in dataclasses.fields(cls):
        inner, is_list = table_below(hints[field.name])
        if inner:
            below.append((inner, field.name, is_list, texts.get(field.name, "")))
            continue
        if not texts.get(field.name):
            sys.exit(f"{cls.__name__}.{field.name} has no docstring: write what raising and lowering it costs")
        kind = f"{allowed(field.metadata['read'], hints[field.name])}; {default(field)}."
        own.append(term(field.name, f"{escaped(kind[0].upper() + kind[1:])}\n.br\n{marked(texts[field.name])}"))
    yield "\n".join(own)
    for inner, name, is_list, said in below:
        full = f"{path}{name}"
        head = f".SH {'[[' + full + ']]' if is_list else '[' + full + ']'}"
        about = inspect.getdoc(inner) or ""
        about = about.partition(": ")[2] if about.startswith("``[") else about
        yield "\n".join(part for part in (head, paragraphs(f"{about[:1].upper()}{about[1:]}\n\n{said}")) if part)
        yield from sections(inner, f"{full}.")


def main() -> None:
    """The page."""
    parts = [".SH SETTINGS OF THE NODE", *sections(Config, "")]
    print(PAGE.format(version=escaped(__version__), file=paths.CONFIG_FILE, sections="\n".join(parts)))


if __name__ == "__main__":
    main()
