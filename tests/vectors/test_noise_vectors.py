"""Published Noise vectors (tests/vectors/noise/SOURCE.md), each with named corruptions of its messages beside it."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from dmssd.security.noise import IK, XX, Handshake, HandshakeKeys, SplitKeys
from dmssd.security.transport import Transport
from sansio.errors import LocalProtocolError, RemoteProtocolError

VECTORS = json.loads((Path(__file__).parent / "noise" / "cacophony-xx-ik.json").read_text())["vectors"]
NAMES = [vector["protocol_name"] for vector in VECTORS]


def side(vector: dict, initiator: bool) -> Handshake:
    who = "init" if initiator else "resp"
    remote = vector.get("init_remote_static") if initiator else None
    return Handshake(
        HandshakeKeys(
            protocol=vector["protocol_name"].encode(),
            initiator=initiator,
            static=bytes.fromhex(vector[f"{who}_static"]),
            ephemeral=bytes.fromhex(vector[f"{who}_ephemeral"]),
            remote_static=bytes.fromhex(remote) if remote else None,
            prologue=bytes.fromhex(vector[f"{who}_prologue"]),
            psks=tuple(bytes.fromhex(psk) for psk in vector.get(f"{who}_psks", ())),
        )
    )


def steps(vector: dict) -> list[tuple[bytes, bytes]]:
    return [(bytes.fromhex(step["payload"]), bytes.fromhex(step["ciphertext"])) for step in vector["messages"]]


def exchange(initiator: Handshake, responder: Handshake, script: list[tuple[bytes, bytes]]) -> None:
    for number, (payload, _) in enumerate(script[:3]):
        writer, reader = (initiator, responder) if number % 2 == 0 else (responder, initiator)
        reader.read(writer.write(payload))


def shake(vector: dict) -> tuple[Handshake, Handshake, int]:
    """Run the handshake; returns both sides and how many messages it took."""
    writer, reader = side(vector, True), side(vector, False)
    first, count = writer, 0
    for payload, ciphertext in steps(vector):
        assert writer.write(payload) == ciphertext
        assert reader.read(ciphertext) == payload
        writer, reader, count = reader, writer, count + 1
        if first.finished:
            break
    second = writer if writer is not first else reader
    return first, second, count


def test_all_ten_vectors_are_here_and_cover_what_sessions_use():
    assert len(NAMES) == len(set(NAMES)) == 10
    assert {XX.decode(), IK.decode()} < set(NAMES)


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_handshake_messages_hash_and_transport_are_as_published(vector):
    initiator, responder, count = shake(vector)
    assert initiator.finished
    assert responder.finished
    assert initiator.split().handshake_hash.hex() == vector["handshake_hash"]
    assert responder.split().handshake_hash.hex() == vector["handshake_hash"]
    # Transport: the vector's messages alternate on; ours carries the same ciphertext behind the header.
    ends = (Transport(initiator.split(), b"resp"), Transport(responder.split(), b"init"))
    for number, (payload, ciphertext) in enumerate(steps(vector)[count:], start=count):
        sender, receiver = (ends[0], ends[1]) if number % 2 == 0 else (ends[1], ends[0])
        datagram = sender.seal(payload)
        assert datagram[14:] == ciphertext
        assert receiver.open(datagram) == payload


CORRUPTIONS = {
    "a flipped bit in the tag": lambda message: message[:-1] + bytes([message[-1] ^ 1]),
    "a flipped bit in the key": lambda message: bytes([message[0] ^ 1]) + message[1:],
    "a byte too few": lambda message: message[:-1],
    "a byte too many": lambda message: message + b"\x00",
    "nothing at all": lambda message: b"",
    "all zeros": lambda message: bytes(len(message)),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_a_corrupted_message_2_is_refused_and_the_true_one_still_finishes(vector, corruption):
    initiator, responder = side(vector, True), side(vector, False)
    script = steps(vector)
    responder.read(initiator.write(script[0][0]))
    message2 = responder.write(script[1][0])
    with pytest.raises(RemoteProtocolError):
        initiator.read(CORRUPTIONS[corruption](message2))
    assert initiator.read(message2) == script[1][0]
    if not initiator.finished:
        assert initiator.write(script[2][0]) == script[2][1]
    assert initiator.split().handshake_hash.hex() == vector["handshake_hash"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if "XX" in v["protocol_name"]], ids=lambda v: v["protocol_name"])
def test_a_corrupted_message_3_is_refused_and_the_true_one_still_finishes(vector):
    initiator, responder = side(vector, True), side(vector, False)
    script = steps(vector)
    responder.read(initiator.write(script[0][0]))
    initiator.read(responder.write(script[1][0]))
    message3 = initiator.write(script[2][0])
    for corrupt in CORRUPTIONS.values():
        with pytest.raises(RemoteProtocolError):
            responder.read(corrupt(message3))
    assert responder.read(message3) == script[2][0]
    assert responder.split().handshake_hash.hex() == vector["handshake_hash"]


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if "psk" in v["protocol_name"]], ids=lambda v: v["protocol_name"]
)
def test_another_psk_does_not_finish(vector):
    initiator, responder = side(vector, True), side({**vector, "resp_psks": ["00" * 32]}, False)
    with pytest.raises(RemoteProtocolError):
        exchange(initiator, responder, steps(vector))


@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_another_prologue_does_not_finish(vector):
    initiator, responder = side(vector, True), side({**vector, "resp_prologue": "00"}, False)
    with pytest.raises(RemoteProtocolError):
        exchange(initiator, responder, steps(vector))


def test_a_low_order_key_is_refused_where_it_is_first_used():
    responder = Handshake(HandshakeKeys(XX, False, b"\x01" * 32, b"\x02" * 32))
    responder.read(bytes(32))  # zero is a point of low order; XX uses it only in the answer
    with pytest.raises(RemoteProtocolError, match="low order"):
        responder.write(b"")


def test_writing_out_of_turn_is_our_own_fault():
    responder = Handshake(HandshakeKeys(XX, False, b"\x01" * 32, b"\x02" * 32))
    with pytest.raises(LocalProtocolError):
        responder.write(b"")


def test_private_keys_stay_out_of_what_is_printed():
    keys = HandshakeKeys(XX, True, b"\x41" * 32, b"\x42" * 32)
    split = SplitKeys(b"\x43" * 32, b"\x44" * 32, b"")
    assert not any(letter * 4 in repr(keys) + repr(split) for letter in "ABCD")


def test_the_transport_cipher_is_rfc_8439s():
    """RFC 8439 2.8.2, so that the library beneath is the algorithm that the vectors mean."""
    key = bytes(range(0x80, 0xA0))
    nonce = bytes.fromhex("070000004041424344454647")
    data = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = ChaCha20Poly1305(key).encrypt(nonce, text, data)
    assert sealed[:8].hex() == "d31a8d34648e60db"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
