"""Identity, certificates, chains and the proofs of advertisements."""

import msgspec
import pytest

from dmssd.security.certificate import (
    CAPABILITY_ADMIN,
    CERTIFICATE_CODEC,
    CERTIFICATE_CONTEXT,
    CHAIN_BYTES_MAX,
    CHAIN_CODEC,
    CHAIN_MAX,
    Certificate,
    Credentials,
    SignedCertificate,
    Subject,
    found,
    issue,
    mesh_id,
    valid_name,
    verify_chain,
)
from dmssd.security.identity import Identity, signature_holds
from dmssd.security.introduction import BINDING_CONTEXT, INTRODUCTION_CODEC, Introduction, introduce, meet
from dmssd.security.signer import MeshSigner, MeshVerifier
from sansio.errors import AdmissionError, RemoteProtocolError, StoreError
from sansio.ids import node_id
from sansio.wire import DATAGRAM_BYTES_MAX
from tests.unit.security.wires import entropy_of, mesh_of


def subject(seed: str, name: str = "node") -> tuple[Identity, Subject]:
    identity = Identity(entropy_of(seed)(32))
    return identity, Subject(identity.key, identity.x25519, name)


def line_of_admins(length: int) -> list[Credentials]:
    """Each admitted by the one before."""
    entropy = entropy_of("line")
    credentials = [found(Identity(entropy(32)), "n0", "mesh", entropy)]
    for number in range(1, length):
        identity, about = subject(f"line {number}", f"n{number}")
        chain = issue(credentials[-1], about, number, CAPABILITY_ADMIN)
        credentials.append(Credentials.load(identity, chain))
    return credentials


def resigned(signer: Identity, certificate: Certificate) -> SignedCertificate:
    body = CERTIFICATE_CODEC.encode(certificate)
    return SignedCertificate(body, signer.sign(CERTIFICATE_CONTEXT, body))


def altered(certificate: Certificate, **changes: object) -> Certificate:
    fields = {name: getattr(certificate, name) for name in certificate.__struct_fields__}
    return Certificate(**{**fields, **changes})


def test_one_seed_gives_the_same_two_keys_and_they_are_not_each_other():
    identity, again = Identity(b"s" * 32), Identity(b"s" * 32)
    assert (identity.key, identity.x25519, identity.node) == (again.key, again.x25519, again.node)
    assert len({identity.key, identity.x25519, identity.seed, identity.x25519_private}) == 4
    assert identity.node == node_id(identity.key)


@pytest.mark.parametrize("seed", [b"", b"short", b"x" * 33])
def test_a_damaged_seed_is_refused_with_what_to_do(seed):
    with pytest.raises(StoreError, match="restore it from a backup"):
        Identity(seed)


def test_a_seed_is_not_printed():
    assert Identity(b"s" * 32).seed.hex() not in repr(Identity(b"s" * 32))


def test_a_signature_holds_for_its_context_body_and_key_only():
    identity = Identity(b"s" * 32)
    signature = identity.sign(b"context", b"body")
    assert signature_holds(identity.key, b"context", b"body", signature)
    assert not signature_holds(identity.key, b"other", b"body", signature)
    assert not signature_holds(identity.key, b"context", b"other", signature)
    assert not signature_holds(Identity(b"t" * 32).key, b"context", b"body", signature)
    assert not signature_holds(identity.key, b"context", b"body", bytes(64))
    assert not signature_holds(b"short", b"context", b"body", signature)


def test_a_founder_is_an_admin_of_the_mesh_that_its_key_and_nonce_make():
    founder = line_of_admins(1)[0]
    assert founder.certificate.is_admin
    assert founder.mesh == mesh_id(founder.identity.key, founder.certificate.founding)
    assert verify_chain(founder.chain, founder.mesh) == founder.certificate


def test_chains_hold_up_to_their_longest_and_the_last_admin_may_not_admit():
    line = line_of_admins(CHAIN_MAX)
    for credentials in line:
        assert verify_chain(credentials.chain, line[0].mesh).node == credentials.identity.node
        assert credentials.mesh_name == "mesh"
    with pytest.raises(AdmissionError, match="token of the founder"):
        issue(line[-1], subject("too far")[1], 9)


def test_a_chain_that_would_not_fit_a_datagram_is_not_issued():
    entropy = entropy_of("long")
    credentials = found(Identity(entropy(32)), "f" * 64, "m" * 64, entropy)

    def admit_one_more(above: Credentials) -> Credentials:
        identity, about = subject(f"long {len(above.chain)}", "n" * 64)
        return Credentials.load(identity, issue(above, about, 2**63 - 1, CAPABILITY_ADMIN, 2**63 - 1))

    credentials = admit_one_more(admit_one_more(credentials))
    assert len(credentials.chain) <= CHAIN_BYTES_MAX
    with pytest.raises(AdmissionError, match="shorter name"):
        admit_one_more(credentials)


def test_an_introduction_with_the_longest_chain_fits_a_handshake_datagram():
    longest = Introduction(bytes(8), 2**63 - 1, bytes(4), bytes(32), bytes(64), bytes(CHAIN_BYTES_MAX), 2**16 - 1)
    keys_and_tags, header = 32 + 48 + 16, 10  # XX message 2, IK message 1
    assert len(INTRODUCTION_CODEC.encode(longest)) + keys_and_tags + header <= DATAGRAM_BYTES_MAX


@pytest.mark.parametrize("name", ["", "a b", "ü", "a/b", "n" * 65, "a\n"])
def test_a_name_that_may_not_be_used_is_refused(name):
    assert not valid_name(name)
    with pytest.raises(AdmissionError, match="letters, digits"):
        issue(line_of_admins(1)[0], subject("bad", name)[1], 1)


def forgeries() -> dict[str, bytes]:
    founder, admin, member = line_of_admins(3)
    own, upper, root = CHAIN_CODEC.decode(member.chain, "test")
    outsider = Identity(b"o" * 32)
    encode = CHAIN_CODEC.encode
    other = found(outsider, "other", "other", entropy_of("other"))
    plain_identity, about = subject("plain admin")
    plain_chain = CHAIN_CODEC.decode(issue(founder, about, 5), "test")
    certificate = member.certificate
    return {
        "a flipped bit in the body": encode((SignedCertificate(own.body[:-1] + b"\x01", own.signature), upper, root)),
        "a flipped bit in the signature": encode((SignedCertificate(own.body, bytes(64)), upper, root)),
        "an issuer left out": encode((own, root)),
        "the founder left out": encode((own, upper)),
        "another order": encode((upper, own, root)),
        "signed by an outsider": encode((resigned(outsider, certificate), upper, root)),
        "signed by itself": encode((resigned(member.identity, certificate), upper, root)),
        "issued without the capability": encode(
            (resigned(plain_identity, altered(certificate, issuer=plain_identity.node)), *plain_chain)
        ),
        "another mesh inside": encode((resigned(admin.identity, altered(certificate, mesh=other.mesh)), upper, root)),
        "a founding of its own": encode(
            (resigned(admin.identity, altered(certificate, founding=founder.certificate.founding)), upper, root)
        ),
        "a bad name": encode((resigned(admin.identity, altered(certificate, name="a b")), upper, root)),
        "another mesh's chain": other.chain,
        "another founder's root": encode((own, upper, CHAIN_CODEC.decode(other.chain, "test")[0])),
        "a founder of one's own that claims the mesh": encode(
            (resigned(outsider, altered(other.certificate, mesh=founder.mesh)),)
        ),
        "a founder that claims the mesh with its nonce": encode(
            (
                resigned(
                    outsider,
                    altered(other.certificate, mesh=founder.mesh, founding=founder.certificate.founding),
                ),
            )
        ),
        "an issuer named that did not sign": encode(
            (resigned(admin.identity, altered(certificate, issuer=outsider.node)), upper, root)
        ),
        "a short founding nonce": encode((resigned(outsider, altered(other.certificate, founding=b"")),)),
        "no certificate": encode(()),
        "the founder twice over": encode((own, upper, root, root, root)),
        "rubbish": b"\xc1\xff",
        "nothing": b"",
        "too long": member.chain + bytes(CHAIN_BYTES_MAX),
    }


@pytest.mark.parametrize("name", forgeries())
def test_a_forged_chain_is_refused(name):
    mesh = line_of_admins(3)[0].mesh
    with pytest.raises(RemoteProtocolError):
        verify_chain(forgeries()[name], mesh)


def test_a_founder_certificate_signed_by_somebody_else_is_refused():
    founder = line_of_admins(1)[0]
    chain = CHAIN_CODEC.encode((resigned(Identity(b"o" * 32), founder.certificate),))
    with pytest.raises(RemoteProtocolError, match="signature"):
        verify_chain(chain, founder.mesh)


def test_unknown_trailing_fields_are_ignored_but_signed():
    founder = line_of_admins(1)[0]
    fields = msgspec.msgpack.decode(CERTIFICATE_CODEC.encode(founder.certificate))
    body = msgspec.msgpack.encode([*fields, "of a later version"])
    signed = SignedCertificate(body, founder.identity.sign(CERTIFICATE_CONTEXT, body))
    assert verify_chain(CHAIN_CODEC.encode((signed,)), founder.mesh) == founder.certificate


def test_credentials_of_another_key_do_not_load():
    a, b = mesh_of("a", "b")
    with pytest.raises(RemoteProtocolError, match="another key"):
        Credentials.load(a.identity, b.chain)


def test_an_introduction_needs_the_identitys_own_binding_even_with_a_good_certificate():
    founder, victim = mesh_of("founder", "victim")
    # A malicious admin certifies its own static key under the victim's identity ...
    thief = Identity(b"t" * 32)
    stolen = issue(founder, Subject(victim.identity.key, thief.x25519, "victim"), 7)
    # ... and introduces itself so: the certificate fits the static key, the binding cannot.
    said = introduce(Credentials(thief, stolen, victim.certificate, ""), bytes(8), 0, b"indx")
    fields = msgspec.msgpack.decode(said)
    fields[3] = victim.identity.key
    forged = msgspec.msgpack.encode(fields)
    with pytest.raises(RemoteProtocolError, match="not bound"):
        meet(forged, thief.x25519, b"indx", founder.mesh)


def test_a_members_chain_shown_by_another_is_refused():
    founder, member = mesh_of("founder", "member")
    thief = Identity(b"t" * 32)
    said = introduce(Credentials(thief, member.chain, member.certificate, ""), bytes(8), 0, b"indx")
    with pytest.raises(RemoteProtocolError, match="another node"):
        meet(said, thief.x25519, b"indx", founder.mesh)


def test_a_certificate_holds_for_the_session_key_that_it_names_only():
    founder, member = mesh_of("founder", "member")
    other = Identity(b"t" * 32).x25519
    fields = msgspec.msgpack.decode(introduce(member, bytes(8), 0, b"indx"))
    fields[4] = member.identity.sign(BINDING_CONTEXT, other)
    with pytest.raises(RemoteProtocolError, match="another node"):
        meet(msgspec.msgpack.encode(fields), other, b"indx", founder.mesh)


def test_a_proof_holds_for_its_origin_body_and_mesh_only():
    a, b = mesh_of("a", "b")
    proof = MeshSigner(b).sign(b"body")
    verifier = MeshVerifier(a.mesh)
    assert verifier.verify(b.identity.node, b"body", proof)
    assert not verifier.verify(a.identity.node, b"body", proof)
    assert not verifier.verify(b.identity.node, b"other", proof)
    assert not MeshVerifier(mesh_of("x", seed=4)[0].mesh).verify(b.identity.node, b"body", proof)
    for cut in range(len(proof)):
        assert not verifier.verify(b.identity.node, b"body", proof[:cut])


def test_a_verifier_learns_each_member_once():
    a, b = mesh_of("a", "b")
    verifier = MeshVerifier(a.mesh)
    for _ in range(2):
        verifier.verify(b.identity.node, b"body", MeshSigner(b).sign(b"body"))
    assert verifier.learned() == [b.certificate]
    assert verifier.learned() == []
    assert verifier.certificates[b.identity.node].x25519 == b.identity.x25519


def test_a_refused_proof_teaches_nothing():
    a, b = mesh_of("a", "b")
    verifier = MeshVerifier(a.mesh)
    verifier.verify(b.identity.node, b"other", MeshSigner(b).sign(b"body"))
    assert not verifier.certificates
