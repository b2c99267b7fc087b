"""Messages out of their grammar: random values of any wire type, and small changes to real messages.

Random bytes are refused by the first byte of a decoder. What finds mistakes is nearly right: a message whose fields
are all legal and make no sense together, or a real one with one field replaced. Both are made here from the types that
the codecs themselves declare, so a message that is added to the protocol is tried without a word about it here.
"""

import copy
import importlib
import pkgutil
import random
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

import dmssd
import gossip
import routing
from sansio.wire import Codec

NUMBERS = (
    0,
    1,
    2,
    3,
    24,
    127,
    128,
    255,
    256,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**40,
    2**62,
    2**63 - 1,
)
TEXTS = ("", "a", "n1", "ä" * 30, "\x00", "\x1b[31m", "x" * 64, "x" * 65, "../..", "\u202e")
WILD: tuple[Any, ...] = (None, True, False, -1, 2**64 - 1, 1.5, float("nan"), "", b"", [], {}, [[[[]]]], "x" * 300)
ITEMS_MAX = 3
FILL_BYTES_MAX = 40


def codecs() -> dict[str, Codec[Any]]:
    """Every codec that is a constant of a module of the project, by its full name."""
    found: dict[str, Codec[Any]] = {}
    for package in (gossip, routing, dmssd):
        for module_info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module_info.name.endswith("__main__"):
                continue
            module = importlib.import_module(module_info.name)
            for name, value in vars(module).items():
                if isinstance(value, Codec) and value not in found.values():
                    found[f"{module_info.name}.{name}"] = value
    return found


def shape_of(codec: Codec[Any]) -> inspect.Type:
    """The type that a codec decodes."""
    return inspect.type_info(codec._decoder.type)


class Words:
    """Byte strings that mean something to the victim (identities, proofs, digests), by length."""

    def __init__(self, words: tuple[bytes, ...] = ()) -> None:
        self._by_length: dict[int, list[bytes]] = {}
        self._all: list[bytes] = []
        for word in words:
            self.learn(word)

    def learn(self, word: bytes) -> None:
        """Use this word, too."""
        same = self._by_length.setdefault(len(word), [])
        if word not in same and len(same) < 64:
            same.append(word)
            self._all.append(word)

    def pick(self, rng: random.Random, low: int, high: int) -> bytes:
        """A word of ``low`` to ``high`` bytes; a random one where none is known, and at times in any case."""
        fitting = [length for length in self._by_length if low <= length <= high]
        if fitting and rng.random() < 0.8:
            return rng.choice(self._by_length[rng.choice(fitting)])
        return rng.randbytes(rng.choice((low, min(high, low + FILL_BYTES_MAX), rng.randint(low, min(high, low + 64)))))

    def any(self, rng: random.Random) -> bytes:
        """Any word."""
        return rng.choice(self._all) if self._all else rng.randbytes(20)


def value(shape: inspect.Type, rng: random.Random, words: Words) -> Any:
    """A legal value of ``shape`` in builtin types, as msgpack has them."""
    match shape:
        case inspect.Metadata(type=inner):
            return value(inner, rng, words)
        case inspect.StructType(fields=fields, tag=tag):
            # Trailing fields with a default may be absent, as in a message of an earlier version.
            required = sum(field.required for field in fields)
            count = len(fields) if rng.random() < 0.9 else rng.randint(required, len(fields))
            head = [] if tag is None else [tag]
            return head + [value(field.type, rng, words) for field in fields[:count]]
        case inspect.UnionType(types=types):
            return value(rng.choice(types), rng, words)
        case inspect.VarTupleType() | inspect.ListType():
            low, high = shape.min_length or 0, shape.max_length
            count = rng.randint(low, low + ITEMS_MAX)
            count = count if high is None else min(count, high)
            return [value(shape.item_type, rng, words) for _ in range(count)]
        case inspect.TupleType(item_types=types):
            return [value(each, rng, words) for each in types]
        case inspect.DictType(key_type=key, value_type=item):
            return {value(key, rng, words): value(item, rng, words) for _ in range(rng.randint(0, ITEMS_MAX))}
        case _:
            return _scalar(shape, rng, words)


def _scalar(shape: inspect.Type, rng: random.Random, words: Words) -> Any:
    match shape:
        case inspect.IntType():
            low = shape.ge if shape.ge is not None else -(2**31) if shape.gt is None else shape.gt + 1
            high = shape.le if shape.le is not None else 2**63 - 1 if shape.lt is None else shape.lt - 1
            fitting = [number for number in (*NUMBERS, low, high) if low <= number <= high]
            return rng.choice(fitting) if rng.random() < 0.7 else rng.randint(low, high)
        case inspect.BytesType():
            return words.pick(rng, shape.min_length or 0, shape.max_length or 200)
        case inspect.StrType():
            fitting = [text for text in TEXTS if len(text) >= (shape.min_length or 0)]
            return rng.choice(fitting)[: shape.max_length]
        case inspect.BoolType():
            return rng.random() < 0.5
        case inspect.NoneType():
            return None
        case inspect.AnyType():
            return rng.choice((None, 5, "text", [1, 2], {"key": 1.5}))
        case inspect.FloatType():
            return rng.uniform(-10, 1e6)
        case inspect.EnumType(cls=cls):
            return rng.choice(list(cls)).value
        case inspect.LiteralType(values=values):
            return rng.choice(values)
        case _:
            raise TypeError(f"no values are made of {shape}: teach tests/hostile/grammar.py")


def mutated(message: bytes, rng: random.Random, words: Words) -> bytes:
    """``message`` with one or two changes: in its tree where it is msgpack, in its bytes otherwise."""
    try:
        tree = msgspec.msgpack.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return mangled(message, rng)
    if not isinstance(tree, list) or rng.random() < 0.15:
        return mangled(message, rng)
    for _ in range(rng.choice((1, 1, 2))):
        tree = _changed(tree, rng, words)
    try:
        return msgspec.msgpack.encode(tree)
    except (OverflowError, ValueError, UnicodeEncodeError):
        return mangled(message, rng)


def mangled(message: bytes, rng: random.Random) -> bytes:
    """``message`` with some bytes changed, cut, added or repeated."""
    changed = bytearray(message)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(6):
            case 0:
                changed[at:at] = rng.randbytes(1)
            case 1:
                del changed[at : at + 1]
            case 2:
                changed[at : at + 1] = rng.randbytes(1)
            case 3:
                del changed[at:]
            case 4:
                changed[at : at + 1] = bytes([(changed[at] ^ (1 << rng.randrange(8))) if at < len(changed) else 0xC1])
            case _:
                piece = changed[at : at + rng.randrange(1, 20)]
                changed[at:at] = piece * rng.randrange(1, 4)
    return bytes(changed)


def _places(tree: list[Any], depth: int = 0) -> Iterator[tuple[list[Any], int]]:
    for position, item in enumerate(tree):
        yield tree, position
        if isinstance(item, list) and depth < 8:
            yield from _places(item, depth + 1)


def _changed(tree: list[Any], rng: random.Random, words: Words) -> list[Any]:
    places = list(_places(tree))
    if not places:
        return [copy.deepcopy(rng.choice(WILD))]
    holder, position = rng.choice(places)
    item = holder[position]
    match rng.randrange(8):
        case 0:
            holder[position] = copy.deepcopy(rng.choice(WILD))
        case 1:
            del holder[position]
        case 2:
            holder.insert(position, copy.deepcopy(item))
        case 3:
            holder.append(copy.deepcopy(rng.choice(WILD)))  # a later version's field
        case 4:
            other_holder, other = rng.choice(places)
            holder[position] = copy.deepcopy(other_holder[other])
        case _:
            holder[position] = _near(item, rng, words)
    return tree


def _near(item: Any, rng: random.Random, words: Words) -> Any:
    """Something of the same kind."""
    match item:
        case bool():
            return not item
        case int():
            return rng.choice((item + 1, item - 1, -item, item << 8, rng.choice(NUMBERS)))
        case bytes():
            if rng.random() < 0.5 and len(item) > 24:
                return mutated(item, rng, words)  # very likely a message within the message
            return rng.choice((words.any(rng), words.pick(rng, len(item), len(item)), item[:-1], item + b"\0", b""))
        case str():
            return rng.choice(TEXTS)
        case list():
            return rng.choice((copy.deepcopy(item) + item, [copy.deepcopy(each) for each in item * 40], item[::-1], []))
        case _:
            return words.any(rng)


def legal(codec: Codec[Any], rng: random.Random, words: Words) -> bytes:
    """A message that ``codec`` decodes."""
    return encoded(value(shape_of(codec), rng, words))


def tree(message: Any) -> Any:
    """A wire struct as msgpack has it."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(message))


def encoded(tree: Any) -> bytes:
    """The bytes of a tree."""
    return msgspec.msgpack.encode(tree)
