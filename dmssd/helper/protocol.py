"""What the daemon and its helper say to each other: one request and one answer on a seqpacket connection, as JSON.

========== ======================== ==========================================================
``verb``   other fields             answered with
========== ======================== ==========================================================
open-netns ``name``                 two descriptors: the namespace, a NETLINK_ROUTE socket in it
set-cpus   ``unit cpus [mems]``     nothing
start      ``unit``                 nothing
stop       ``unit``                 nothing
restart    ``unit``                 nothing
========== ======================== ==========================================================

The answer is ``{"ok": true}``, or ``{"ok": false, "error": SENTENCE}``. Each is one datagram of at most
:data:`MESSAGE_BYTES_MAX` bytes; unknown fields and verbs are refused, for whoever sends one expects it to be heeded.
"""

import re
from typing import TypeVar

import msgspec

from sansio.errors import RemoteProtocolError

MESSAGE_BYTES_MAX = 1024
CPU_MAX = 8191
"""The highest number of a processor or memory node that is taken; Linux has none above it."""

NAMESPACE_PATTERN = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")
UNIT_PATTERN = re.compile(r"(?![.-])[A-Za-z0-9:_.@\\-]{1,200}\.(?:service|socket|timer|target|slice|scope)")
_RANGE_PATTERN = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")
_RANGES_MAX = 64


class OpenNetns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb", tag="open-netns"):
    """Open the network namespace ``/run/netns/NAME``."""

    name: str


class SetCpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb", tag="set-cpus"):
    """Have ``unit`` run on these processors and, where named, take memory of these nodes only, until the next boot."""

    unit: str
    cpus: str
    mems: str | None = None


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb", tag="start"):
    """Start ``unit``."""

    unit: str


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb", tag="stop"):
    """Stop ``unit``."""

    unit: str


class Restart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb", tag="restart"):
    """Stop ``unit`` if it runs, and start it."""

    unit: str


D = TypeVar("D")
Request = OpenNetns | SetCpus | Start | Stop | Restart


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of it. ``error`` is a sentence, empty where ``ok``."""

    ok: bool
    error: str = ""


_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_answers = msgspec.json.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """A message as bytes; the sentence of an answer is shortened to fit."""
    payload = msgspec.json.encode(message)
    if isinstance(message, Answer) and len(payload) > MESSAGE_BYTES_MAX:
        # A character takes up to six bytes in JSON.
        payload = msgspec.json.encode(Answer(message.ok, message.error[: MESSAGE_BYTES_MAX // 8]))
    return payload


def decode_request(payload: bytes) -> Request:
    """What a daemon asks for, every field of the form that it must have. Raises ``RemoteProtocolError``."""
    request = _decoded(_requests, payload)
    if isinstance(request, OpenNetns):
        _demand(NAMESPACE_PATTERN, request.name, "the name of a network namespace")
        return request
    _demand(UNIT_PATTERN, request.unit, "the name of a unit, with its suffix")
    if isinstance(request, SetCpus):
        for numbers in (request.cpus, request.mems):
            if numbers is not None:
                _demand_numbers(numbers)
    return request


def decode_answer(payload: bytes) -> Answer:
    """What the helper answers. Raises ``RemoteProtocolError``."""
    return _decoded(_answers, payload)


def _decoded(decoder: "msgspec.json.Decoder[D]", payload: bytes) -> D:
    if len(payload) > MESSAGE_BYTES_MAX:
        raise RemoteProtocolError("helper", f"a message of more than {MESSAGE_BYTES_MAX} bytes")
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError("helper", f"cannot be read: {error}") from None


def _demand(pattern: "re.Pattern[str]", value: str, what: str) -> None:
    if not pattern.fullmatch(value):
        raise RemoteProtocolError("helper", f"{value[:64]!r} is not {what}")


def _demand_numbers(text: str) -> None:
    ranges = text.split(",")
    for each in ranges[: _RANGES_MAX + 1]:
        matched = _RANGE_PATTERN.fullmatch(each)
        low, high = (int(matched[1]), int(matched[2] or matched[1])) if matched else (1, 0)
        if len(ranges) > _RANGES_MAX or not low <= high <= CPU_MAX:
            raise RemoteProtocolError("helper", f"{text[:64]!r} is no list of numbers such as 0-3,8 up to {CPU_MAX}")
