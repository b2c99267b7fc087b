"""Who belongs, against the plain definition: every act counted anew after every single expulsion."""

import contextlib
import random
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from dmssd.security.acts import ADMISSION_CODEC, TOPIC_ADMIT, TOPIC_EXPEL, VOTE_CODEC, Vote, certificate_mark
from dmssd.security.certificate import CAPABILITY_RECOVERY, CERTIFICATE_CODEC, CHAIN_CODEC, Certificate
from dmssd.security.signer import PROOF_CODEC
from dmssd.security.standing import Standing, judge
from gossip.statements import Held, Key
from sansio.errors import AdmissionError
from sansio.ids import NodeId
from tests.unit.security.realm import Realm

NAMES = tuple(f"n{number}" for number in range(7))


@dataclass
class Act:
    """A statement as it reads; one of ``vote`` and ``made`` is there. Certificates come with their marks."""

    author: NodeId
    subject: NodeId
    mark: bytes
    chain: list[tuple[Certificate, bytes]]
    vote: Vote | None = None
    made: tuple[Certificate, bytes] | None = None
    cites: tuple[bytes, ...] = ()

    @property
    def names(self) -> set[bytes]:
        """What a vote may call it by."""
        return {self.mark, self.made[1]} if self.made else {self.mark}


def read(held: Held) -> Act:
    chain = [signed.body for signed in CHAIN_CODEC.decode(PROOF_CODEC.decode(held.statement.proof, "").chain, "")]
    act = Act(held.key.author, NodeId(held.key.subject), held.mark, [marked(body) for body in chain])
    if held.key.topic == TOPIC_EXPEL:
        act.vote = VOTE_CODEC.decode(held.body, "")
    else:
        admission = ADMISSION_CODEC.decode(held.body, "")
        act.made, act.cites = marked(admission.certificate.body), admission.cites
    return act


def marked(body: bytes) -> tuple[Certificate, bytes]:
    return CERTIFICATE_CODEC.decode(body, ""), certificate_mark(body)


class Plain:
    """The definition, read from the docstring of the module."""

    def __init__(self, stated: list[Held]) -> None:
        self.acts = [read(each) for each in stated]
        self.expelled: dict[NodeId, tuple[tuple[NodeId, ...], frozenset[bytes], str]] = {}
        targets = {act.subject for act in self.acts if act.vote}
        while due := [found for node in targets if (found := self.due(node)) is not None]:
            _, _, target, votes = min(due, key=lambda each: each[:3])
            known = frozenset(mark for vote in votes for mark in vote.vote.known)
            reasons = [vote.vote.reason for vote in votes if vote.vote.reason]
            self.expelled[target] = (tuple(vote.author for vote in votes), known, reasons[0] if reasons else "")

    def counts(self, act: Act) -> bool:
        return act.chain[0][0].is_admin and self.holds(act, act.names)

    def holds(self, act: Act, names: set[bytes]) -> bool:
        bearer = act.chain[0][0].node
        if bearer in self.expelled and not names & self.expelled[bearer][1]:
            return False
        return not any(
            issuer.node in self.expelled and issuer.node != below.node and mark not in self.expelled[issuer.node][1]
            for (below, mark), (issuer, _) in pairwise(act.chain)
        )

    def counting(self) -> list[Act]:
        return [act for act in self.acts if self.counts(act)]

    def admins(self) -> dict[NodeId, int]:
        found: dict[NodeId, int] = {}
        for act in self.counting():
            whole = [act.made, *act.chain] if act.made else act.chain
            for depth, (certificate, _) in enumerate(reversed(whole)):
                is_acting = certificate.is_admin and not certificate.capabilities & CAPABILITY_RECOVERY
                if is_acting and certificate.node not in self.expelled:
                    found[certificate.node] = min(depth, found.get(certificate.node, depth))
        return found

    def due(self, target):
        against = [act for act in self.acts if act.vote and act.subject == target]
        admins = self.admins()
        if target in self.expelled or [*admins] == [target]:
            return None
        votes = [vote for vote in against if vote.author == target and self.holds(vote, set())]
        needed = 1
        if not votes:
            votes = [vote for vote in against if vote.author != target and self.counts(vote)]
            votes.sort(key=lambda vote: (len(vote.chain), vote.author))
            is_admin = target in admins or any(vote.vote.of_admin for vote in votes)
            needed = 1 if not is_admin or any(self.is_small(vote) for vote in votes) else 2
        if len(votes) < needed:
            return None
        return target not in admins, [(len(vote.chain), vote.author) for vote in votes[:needed]], target, votes

    def is_small(self, vote: Act) -> bool:
        members = vote.vote.members
        founders = [certificate.node for certificate, _ in vote.chain if certificate.founding]
        others = [
            act.subject
            for act in self.counting()
            if act.made and vote.mark not in act.cites and not act.made[0].capabilities & CAPABILITY_RECOVERY
        ]
        gone = {*members, *self.expelled}
        return {vote.author, vote.subject} <= set(members) and gone.issuperset(others) and gone.issuperset(founders)


def seen(standing: Standing) -> tuple:
    """The outcome, without the order in which statements stand in it."""
    return (
        {node: (each.voters, each.known, each.reason) for node, each in standing.expelled.items()},
        {node: {act.mark for act in acts} for node, acts in standing.admitted.items()},
        standing.seniority,
        {vote.mark for vote in standing.votes},
    )


def expected(stated: list[Held]) -> tuple:
    plain = Plain(stated)
    admitted: dict[NodeId, set[bytes]] = {}
    for act in plain.counting():
        if act.made:
            admitted.setdefault(act.subject, set()).add(act.mark)
    seniority = tuple(node for _, node in sorted((depth, node) for node, depth in plain.admins().items()))
    return plain.expelled, admitted, seniority, {act.mark for act in plain.acts if act.vote}


who = st.sampled_from(NAMES)
author = st.sampled_from(NAMES[:4])
admitting = st.tuples(st.just("admit"), author, who, st.sampled_from(["member", "admin", "recovery"]), st.booleans())
voting = st.tuples(
    st.just("vote"), author, who, st.sampled_from([0, 1, 2, "admin"]), st.sampled_from(["", "n0", "n1", "n2"])
)
scripts = st.lists(st.one_of(admitting, voting, voting), min_size=12, max_size=30)


def play(admins: int, script) -> tuple[Realm, list[Held]]:
    """A realm of so many admins, and what its members state in the order of the script: one statement for each key."""
    realm = Realm()
    for name in NAMES[1:admins]:
        realm.admit("n0", name, admin=True)
    for what, author, subject, how, more in script:
        if author not in realm.members:
            continue
        if what == "vote":
            acts = [act for act in map(read, realm.stated) if act.author == realm.node(subject)]
            of_admin = how == "admin"
            known = {mark for act in acts[:: 1 if of_admin else how] for mark in act.names} if how else ()
            realm.vote(author, subject, known, sorted({author, subject, more}) if more else (), of_admin)
            continue
        votes = [each for each in realm.stated if each.key.topic == TOPIC_EXPEL] if more else ()
        also = CAPABILITY_RECOVERY if how == "recovery" else 0
        with contextlib.suppress(AdmissionError):  # its author may not admit, or its chain would be too long
            realm.admit(author, subject, admin=how != "member", cites=votes, also=also)
    newest: dict[Key, Held] = {each.key: each for each in realm.stated}
    return realm, list(newest.values())


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 4), scripts, st.randoms(use_true_random=False))
def test_everybody_stands_as_by_the_plain_definition_in_whatever_order_statements_came(
    admins: int, script, shuffler: random.Random
) -> None:
    realm, stated = play(admins, script)
    wanted = expected(stated)
    for _ in range(2):
        standing = judge(
            realm.members["n0"].mesh,
            [each for each in stated if each.key.topic == TOPIC_ADMIT],
            [each for each in stated if each.key.topic == TOPIC_EXPEL],
        )
        assert seen(standing) == wanted
        shuffler.shuffle(stated)
