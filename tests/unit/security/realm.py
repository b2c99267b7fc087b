"""A mesh whose members state what a test says, as daemons state it, for the tests of who belongs."""

import itertools
import random
from collections.abc import Iterable
from functools import cache

from dmssd.security.acts import (
    ADMISSION_CODEC,
    TOPIC_ADMIT,
    TOPIC_EXPEL,
    VOTE_CODEC,
    Admission,
    Vote,
    certificate_mark,
)
from dmssd.security.certificate import CAPABILITY_ADMIN, CHAIN_CODEC, Credentials, Subject, found, issue
from dmssd.security.identity import Identity
from dmssd.security.signer import STATEMENT_CONTEXT, MeshSigner
from dmssd.security.standing import Standing, judge
from gossip.statements import STATED_CODEC, Held, Stated, Statement, held
from sansio.ids import NodeId


class Realm:
    """A mesh founded by n0; who admits whom is said by the test, and stated as daemons do."""

    def __init__(self) -> None:
        self.members: dict[str, Credentials] = {}
        self.stated: list[Held] = []
        self._sequence = itertools.count(1)
        rng = random.Random(5)
        self.members["n0"] = found(self.identity("n0"), "n0", "realm", rng.randbytes)

    @staticmethod
    @cache
    def identity(name: str) -> Identity:
        return Identity(name.encode().ljust(32, b"."))

    def node(self, name: str) -> NodeId:
        return self.identity(name).node

    def admit(self, issuer: str, name: str, admin: bool = False, cites: Iterable[Held] = (), also: int = 0) -> Held:
        identity = self.identity(name)
        capabilities = also | (CAPABILITY_ADMIN if admin else 0)
        subject = Subject(identity.key, identity.x25519, name)
        chain = issue(self.members[issuer], subject, next(self._sequence), capabilities)
        self.members[name] = Credentials.load(identity, chain)
        act = Admission(CHAIN_CODEC.decode(chain, "")[0], tuple(vote.mark for vote in cites))
        statement = self.state(issuer, TOPIC_ADMIT, identity.node, ADMISSION_CODEC.encode(act))
        self.stated.append(statement)
        return statement

    def state(self, author: str, topic: str, subject: bytes, body: bytes) -> Held:
        signed = STATED_CODEC.encode(Stated(topic, subject, next(self._sequence), body))
        proof = MeshSigner(self.members[author], STATEMENT_CONTEXT).sign(signed)
        return held(Statement(self.members[author].identity.node, signed, proof))

    def vote(
        self,
        author: str,
        target: str,
        known: Iterable[bytes] = (),
        members: Iterable[str] = (),
        of_admin: bool = False,
    ) -> Held:
        vote = Vote(tuple(sorted(known)), tuple(self.node(name) for name in members), of_admin=of_admin)
        statement = self.state(author, TOPIC_EXPEL, self.node(target), VOTE_CODEC.encode(vote))
        self.stated.append(statement)
        return statement

    def judge(self, stated: Iterable[Held] | None = None) -> Standing:
        chosen = list(self.stated if stated is None else stated)
        random.Random(3).shuffle(chosen)
        return judge(
            self.members["n0"].mesh,
            [each for each in chosen if each.key.topic == TOPIC_ADMIT],
            [each for each in chosen if each.key.topic == TOPIC_EXPEL],
        )

    def expelled(self, stated: Iterable[Held] | None = None) -> set[str]:
        nodes = self.judge(stated).expelled
        return {name for name in self.members if self.node(name) in nodes}

    def mark(self, name: str) -> bytes:
        return certificate_mark(CHAIN_CODEC.decode(self.members[name].chain, "")[0].body)
