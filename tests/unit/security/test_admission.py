"""The join exchange, over real sessions where that matters."""

import pytest

from dmssd.security.admission import (
    JOIN_CODEC,
    Admitted,
    Answer,
    Answered,
    Ask,
    Issuer,
    IssuerReached,
    JoinAccepted,
    Joined,
    Joiner,
    JoinFailed,
    JoinRefused,
    JoinRequest,
)
from dmssd.security.certificate import CAPABILITY_ADMIN, Credentials, Subject, found, issue, verify_chain
from dmssd.security.identity import Identity
from dmssd.security.sessions import Connect, Opened, Outgoing, SessionUp
from dmssd.security.token import TokenBook
from sansio.core import Persist, Rejected, Wake
from sansio.errors import AdmissionError
from sansio.instant import MILLISECOND, SECOND, Duration, Instant, after
from tests.unit.security.wires import Wires, entropy_of, mesh_of

NOW = Instant(9 * SECOND)


class Scene:
    """A founder with a token, and a node that wants in."""

    def __init__(self, *, uses: int = 1, name: str = "new") -> None:
        (self.founder,) = mesh_of("founder")
        self.book = TokenBook(None, NOW)
        self.issuer = Issuer(self.founder, self.book, entropy_of("issuer"))
        self.token = self.book.create(self.founder.mesh, self.founder.identity.node, entropy_of("t"), NOW, uses=uses)
        self.identity = Identity(b"j" * 32)
        self.joiner = Joiner(self.token, self.identity, name, entropy_of("joiner"), NOW)
        self.asked: bytes | None = None

    def reach(self) -> bytes:
        if self.asked is None:
            self.asked = self.first_reach()
        return self.asked

    def first_reach(self) -> bytes:
        (ask,) = self.joiner.handle(IssuerReached(self.founder.identity.node, self.founder.chain), NOW)
        assert isinstance(ask, Ask)
        assert ask.peer == self.founder.identity.node
        return ask.payload

    def request(self, **changes: object) -> bytes:
        message = JOIN_CODEC.decode(self.reach(), "test")
        fields = {name: getattr(message, name) for name in message.__struct_fields__}
        return JOIN_CODEC.encode(JoinRequest(**{**fields, **changes}))

    def refusal(self, payload: bytes, now: Instant = NOW) -> str:
        rejected, answer = self.issuer.on_request(self.identity.node, payload, now)
        assert isinstance(rejected, Rejected)
        assert isinstance(answer, Answer)
        message = JOIN_CODEC.decode(answer.payload, "test")
        assert isinstance(message, JoinRefused)
        assert rejected.reason.startswith("join refused: ")
        return message.reason


def test_a_good_token_becomes_a_certificate_that_holds():
    scene = Scene()
    persist, answer, admitted = scene.issuer.on_request(scene.identity.node, scene.reach(), NOW, capabilities=1)
    assert isinstance(persist, Persist), "the token is used up on disk before anybody hears of it"
    assert isinstance(answer, Answer)
    assert isinstance(admitted, Admitted)
    assert (admitted.node, admitted.name) == (scene.identity.node, "new")
    (joined,) = scene.joiner.handle(Answered(scene.founder.identity.node, answer.payload), NOW)
    assert isinstance(joined, Joined)
    certificate = verify_chain(joined.credentials.chain, scene.founder.mesh)
    assert certificate.node == scene.identity.node
    assert certificate.capabilities == CAPABILITY_ADMIN
    assert joined.credentials.mesh_name == "test-mesh"
    assert scene.joiner.finished
    assert scene.joiner.deadline() is None


def test_a_repeated_request_gets_the_same_certificate_and_uses_nothing_up():
    scene = Scene(uses=2)
    request = scene.reach()
    _, first, _ = scene.issuer.on_request(scene.identity.node, request, NOW)
    assert scene.issuer.on_request(scene.identity.node, request, NOW) == [first]
    assert scene.book.tokens(NOW)[0].uses_left == 1


def test_a_repeated_request_gets_the_same_certificate_after_the_issuers_restart():
    scene = Scene()
    request = scene.reach()
    persist, first, _ = scene.issuer.on_request(scene.identity.node, request, NOW, capabilities=1, expiry=99)
    restarted = Issuer(scene.founder, TokenBook(persist.value, NOW), entropy_of("another start"))
    assert restarted.on_request(scene.identity.node, request, NOW) == [first]


def test_an_issuer_reached_by_a_second_path_is_not_asked_twice():
    scene = Scene()
    scene.reach()
    assert scene.joiner.handle(IssuerReached(scene.founder.identity.node, scene.founder.chain), NOW) == []


def test_each_bad_token_is_refused_for_its_own_reason():
    scene = Scene()
    assert "secret is wrong" in scene.refusal(scene.request(secret=bytes(16)))
    assert "not known" in scene.refusal(scene.request(token=bytes(8)))
    assert "another mesh" in scene.refusal(scene.request(mesh=bytes(16)))
    assert "expired" in scene.refusal(scene.reach(), after(NOW, Duration(600 * SECOND)))
    assert "name cannot be used" in scene.refusal(scene.request(name="a b"))
    other = Identity(b"k" * 32)
    joiner = Joiner(scene.token, other, "other", entropy_of("o"), NOW)
    (ask,) = joiner.handle(IssuerReached(scene.founder.identity.node, scene.founder.chain), NOW)
    scene.issuer.on_request(other.node, ask.payload, NOW)
    assert "used up" in scene.refusal(scene.reach())


def test_an_issuer_without_the_capability_refuses_and_the_token_stays_good():
    scene = Scene()
    plain = Identity(b"p" * 32)
    chain = issue(scene.founder, Subject(plain.key, plain.x25519, "plain"), 1)
    scene.issuer.credentials = Credentials.load(plain, chain)
    assert "admin capability" in scene.refusal(scene.reach())
    assert scene.book.tokens(NOW)[0].uses_left == 1


def test_nobody_has_somebody_elses_key_certified():
    scene = Scene()
    (rejected,) = scene.issuer.on_request(Identity(b"k" * 32).node, scene.reach(), NOW)
    assert rejected.reason == "join request for somebody else's key"
    assert scene.book.tokens(NOW)[0].uses_left == 1


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x93\x01\x02\x03", JOIN_CODEC.encode(JoinRefused(bytes(8), "no"))])
def test_an_issuer_rejects_what_is_no_request(payload):
    (rejected,) = Scene().issuer.on_request(Identity(b"k" * 32).node, payload, NOW)
    assert isinstance(rejected, Rejected)


def test_a_joiner_tells_its_secret_to_nobody_but_the_issuer_of_the_tokens_mesh():
    scene = Scene()
    impostor = found(scene.founder.identity, "founder", "false", entropy_of("false"))
    assert scene.joiner.handle(IssuerReached(Identity(b"k" * 32).node, scene.founder.chain), NOW) == []
    (failed,) = scene.joiner.handle(IssuerReached(scene.founder.identity.node, impostor.chain), NOW)
    assert isinstance(failed, JoinFailed)
    assert "not a member of the token's mesh" in failed.reason
    for chain in (None, b"", b"\xc1"):
        assert isinstance(Scene().joiner.handle(IssuerReached(scene.founder.identity.node, chain), NOW)[0], JoinFailed)


def test_an_issuer_that_shows_another_members_chain_is_not_believed():
    scene = Scene()
    member = Identity(b"m" * 32)
    chain = issue(scene.founder, Subject(member.key, member.x25519, "member"), 3)
    assert isinstance(scene.joiner.handle(IssuerReached(scene.founder.identity.node, chain), NOW)[0], JoinFailed)


def test_a_refusal_ends_the_joiner_with_the_issuers_reason():
    scene = Scene()
    scene.reach()
    nonce = JOIN_CODEC.decode(scene.joiner._request, "test").nonce
    refusal = JOIN_CODEC.encode(JoinRefused(nonce, "used up"))
    assert scene.joiner.handle(Answered(scene.founder.identity.node, refusal), NOW) == [JoinFailed("used up")]
    assert scene.joiner.handle(Wake(), after(NOW, Duration(90 * SECOND))) == []
    assert scene.joiner.handle(IssuerReached(scene.founder.identity.node, scene.founder.chain), NOW) == []


def test_answers_of_others_to_other_requests_or_for_other_keys_are_rejected():
    scene = Scene()
    scene.reach()
    issuer = scene.founder.identity.node
    nonce = JOIN_CODEC.decode(scene.joiner._request, "test").nonce
    other = Identity(b"k" * 32)
    others_chain = issue(scene.founder, Subject(other.key, other.x25519, "other"), 3)
    own_other_mesh = found(scene.identity, "new", "mine", entropy_of("mine")).chain
    for peer, payload in [
        (other.node, JOIN_CODEC.encode(JoinRefused(nonce, "no"))),
        (issuer, JOIN_CODEC.encode(JoinRefused(bytes(8), "no"))),
        (issuer, JOIN_CODEC.encode(JoinAccepted(nonce, others_chain))),
        (issuer, JOIN_CODEC.encode(JoinAccepted(nonce, own_other_mesh))),
        (issuer, JOIN_CODEC.encode(JoinAccepted(nonce, b""))),
        (issuer, scene.joiner._request),
        (issuer, b"\xc1"),
    ]:
        (rejected,) = scene.joiner.handle(Answered(peer, payload), NOW)
        assert isinstance(rejected, Rejected)
    assert not scene.joiner.finished


def test_an_unanswered_request_is_repeated_with_backoff_and_given_up_with_what_to_do():
    scene = Scene()
    scene.reach()
    asked, now = 1, NOW
    while not scene.joiner.finished:
        now = scene.joiner.deadline()
        actions = scene.joiner.handle(Wake(), now)
        asked += len([action for action in actions if isinstance(action, Ask)])
    assert now == after(NOW, Duration(60 * SECOND))
    assert 20 < asked < 40
    assert "does not answer any more" in actions[0].reason


def test_an_issuer_never_reached_is_told_apart_from_one_that_fell_silent():
    scene = Scene()
    assert scene.joiner.deadline() == after(NOW, Duration(60 * SECOND))
    (failed,) = scene.joiner.handle(Wake(), scene.joiner.deadline())
    assert "cannot be reached" in failed.reason


def test_a_joiner_with_a_bad_name_does_not_begin():
    with pytest.raises(AdmissionError, match="name cannot be used"):
        Scene(name="my node")


class JoinOverWires:
    """Joiner and issuer as the node puts them: behind sessions that lose, repeat and reorder."""

    def __init__(self, seed: int) -> None:
        self.wires = Wires(seed, loss=0.25, duplicate=0.2, jitter_ms=30)
        self.wires.now = NOW
        self.scene = Scene()
        self.wires.start("founder", self.scene.founder)
        self.wires.start("new", found(self.scene.identity, "new", "alone", entropy_of(seed)))
        self.joined: list[Joined] = []
        self.admitted: list[Admitted] = []

    def run(self) -> None:
        issuer = self.scene.founder.identity.node
        self.wires.tell("new", Connect(issuer, self.wires.routed("founder")))
        seen = {"new": 0, "founder": 0}
        for _ in range(600):
            self.wires.run(Duration(50 * MILLISECOND))
            joiner = self.scene.joiner
            if not joiner.finished and joiner.deadline() <= self.wires.now:
                self.perform("new", joiner.handle(Wake(), self.wires.now))
            for name in seen:
                fresh = self.wires.log[name][seen[name] :]
                seen[name] += len(fresh)
                self.perform(name, fresh)

    def perform(self, name: str, actions: list) -> None:
        for action in actions:
            match action:
                case Joined():
                    self.joined.append(action)
                case Admitted():
                    self.admitted.append(action)
                case Ask(peer, payload) | Answer(peer, payload):
                    other = "founder" if name == "new" else "new"
                    self.wires.tell(name, Outgoing(peer, self.wires.routed(other), payload))
                case SessionUp() | Opened():
                    self.perform(name, self.dispatch(name, action))

    def dispatch(self, name: str, action: SessionUp | Opened) -> list:
        match action:
            case SessionUp(peer, _, chain) if name == "new":
                return self.scene.joiner.handle(IssuerReached(peer, chain), self.wires.now)
            case Opened(peer, _, payload) if name == "new":
                return self.scene.joiner.handle(Answered(peer, payload), self.wires.now)
            case Opened(peer, _, payload):
                return self.scene.issuer.on_request(peer, payload, self.wires.now)
        return []


@pytest.mark.parametrize("seed", range(5))
def test_a_join_over_lossy_sessions_ends_as_a_member(seed):
    join = JoinOverWires(seed)
    join.run()
    assert len(join.joined) == 1
    assert len(join.admitted) == 1
    assert join.joined[0].credentials.chain == join.admitted[0].chain
    assert join.scene.book.tokens(join.wires.now) == []
