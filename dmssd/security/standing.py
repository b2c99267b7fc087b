"""Who belongs to the mesh and who may admit: a pure function of the replicated statements.

*Expelling.* An ordinary member is expelled by the vote of one admin, an admin by the votes of two; in a mesh of three
or fewer by one. That the mesh is so small is said in the vote, with its members' names, and is refuted by any admission
of somebody else that was made without knowledge of the vote. The last admin is never expelled. Of an expelled admin
only those acts count (certificates, votes) that were known to those who expelled it: their votes name them. What an
expelled admin signs later, or what it signs under an earlier sequence number, changes nothing.

*Resigning.* A member's vote upon itself is its resignation, as when its machine goes on under another key: it takes
effect by itself, for an admin too unless it is the last, and what it names of its own acts goes on to count.

*When admins expel each other*, neither vote known to the other's author (a partition), all sides decide alike once
they hold the same votes: expulsions take effect one after another, those of admins first, of them the one whose voters
are the most senior, and each makes the votes of its target void, unless those who expelled it knew of them. Seniority:
fewer certificates up to the founder, then the lower NodeId. So of two admins who expel each other the senior one stays.

Deviation that must be known: an admin that is senior and malicious can pretend not to have known of a vote against it.
Two admins are then needed against it and a confederate all the same, and docs/security.md says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from dmssd.security.acts import ADMISSION_CODEC, VOTE_CODEC, Admission, Vote, certificate_mark
from dmssd.security.certificate import (
    CAPABILITY_RECOVERY,
    CERTIFICATE_CODEC,
    CHAIN_CODEC,
    CHAINS_CACHED_MAX,
    Certificate,
    verify_chain,
)
from dmssd.security.signer import PROOF_CODEC
from gossip.statements import Held
from sansio.errors import RemoteProtocolError
from sansio.ids import MeshId, NodeId

VOTES_NEEDED_FOR_ADMIN = 2
ACTS_CACHED_MAX = 4_096
_Seniority = tuple[int, NodeId]


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate of a chain, with its mark."""

    certificate: Certificate
    mark: bytes


@dataclass(frozen=True, slots=True)
class _Act:
    """A statement on membership whose author's chain holds. ``chain``: the author's own certificate first."""

    author: NodeId
    subject: NodeId
    mark: bytes
    chain: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Voted(_Act):
    """A vote to expel ``subject``."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class Admitted(_Act):
    """An admission of ``subject``."""

    link: Link
    cites: frozenset[bytes]
    succeeds: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Expulsion:
    """``known``: the acts of the expelled that count all the same."""

    voters: tuple[NodeId, ...]
    known: frozenset[bytes]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """The outcome. ``votes`` are all that were read, effective or not; ``seniority`` lists the admins that count."""

    mesh: MeshId
    expelled: Mapping[NodeId, Expulsion] = field(default_factory=dict)
    votes: tuple[Voted, ...] = ()
    admitted: Mapping[NodeId, tuple[Admitted, ...]] = field(default_factory=dict)
    seniority: tuple[NodeId, ...] = ()

    def refusal(self, chain: bytes) -> str | None:
        """Why the bearer of a chain (that holds as such) is no member any more; ``None`` where it is one."""
        if not self.expelled:
            return None
        return _refusal(links_of(chain), self.expelled, frozenset())

    def voters(self, target: NodeId) -> tuple[NodeId, ...]:
        """Who voted to expel ``target``, whether or not that suffices."""
        return tuple(sorted(vote.author for vote in self.votes if vote.subject == target))


def links_of(chain: bytes) -> tuple[Link, ...]:
    """A chain's certificates, the bearer's first; ``RemoteProtocolError`` where it cannot be decoded."""
    return _links(chain)


@lru_cache(maxsize=CHAINS_CACHED_MAX)
def _links(chain: bytes) -> tuple[Link, ...]:
    signed = CHAIN_CODEC.decode(chain, "chain")
    return tuple(Link(CERTIFICATE_CODEC.decode(each.body, "chain"), certificate_mark(each.body)) for each in signed)


def _refusal(chain: tuple[Link, ...], expelled: Mapping[NodeId, Expulsion], acts_known: frozenset[bytes]) -> str | None:
    """``acts_known``: acts of the bearer in whose name it speaks here; one of them may be known to its expellers."""
    bearer = chain[0].certificate.node
    if bearer in expelled and not acts_known & expelled[bearer].known:
        return "expelled from the mesh"
    for below, link in pairwise(chain):
        issuer = link.certificate.node
        if issuer in expelled and issuer != below.certificate.node and below.mark not in expelled[issuer].known:
            return "certificate by an expelled admin"
    return None


def judge(mesh: MeshId, admissions: Iterable[Held], votes: Iterable[Held]) -> Standing:
    """The standing of everybody, from the statements on ``admit`` and ``expel``."""
    admitted = [act for each in admissions if (act := _admitted(each, mesh)) is not None]
    voted = [vote for each in votes if (vote := _voted(each, mesh)) is not None]
    court = _Court(admitted, voted)
    court.decide()
    by_subject: dict[NodeId, list[Admitted]] = {}
    for act in admitted:
        if court.counts(act):
            by_subject.setdefault(act.subject, []).append(act)
    return Standing(
        mesh,
        court.expelled,
        tuple(voted),
        {subject: tuple(acts) for subject, acts in by_subject.items()},
        tuple(node for _, node in sorted(court.admins().values())),
    )


class _Court:
    """Decides on expulsions one after another (see the module's docstring)."""

    def __init__(self, admitted: list[Admitted], voted: list[Voted]) -> None:
        self._admitted = admitted
        self._voted = voted
        self.expelled: dict[NodeId, Expulsion] = {}

    def decide(self) -> None:
        """Find every effective expulsion."""
        if not self._voted:
            return
        targets = sorted({vote.subject for vote in self._voted})
        while True:
            admins = self.admins()
            due = [found for target in targets if (found := self._due(target, admins)) is not None]
            if not due:
                return
            # Admins first, for the votes of those that go do not count against ordinary members either.
            _, target, votes = min(due, key=lambda each: (each[1] not in admins, each[0], each[1]))
            known = frozenset(mark for vote in votes for mark in vote.vote.known)
            reason = next((vote.vote.reason for vote in votes if vote.vote.reason), "")
            self.expelled[target] = Expulsion(tuple(vote.author for vote in votes), known, reason)

    def counts(self, act: _Act) -> bool:
        """Whether an act is one of an admin, and not void."""
        if not act.chain[0].certificate.is_admin:
            return False
        if not self.expelled:
            return True
        return _refusal(act.chain, self.expelled, frozenset((act.mark, *_certified(act)))) is None

    def admins(self) -> dict[NodeId, _Seniority]:
        """Everybody known to be an admin and not expelled, with seniority. The recovery key is none: it is no one."""
        found: dict[NodeId, _Seniority] = {}

        def note(link: Link, depth: int) -> None:
            node = link.certificate.node
            if node not in self.expelled and _is_acting_admin(link.certificate):
                found[node] = min(found.get(node, (depth, node)), (depth, node))

        for act in (*self._admitted, *self._voted):
            if not self.counts(act):
                continue
            for position, link in enumerate(act.chain):
                note(link, len(act.chain) - 1 - position)
            if isinstance(act, Admitted):
                note(act.link, len(act.chain))
        return found

    def _due(
        self, target: NodeId, admins: Mapping[NodeId, _Seniority]
    ) -> tuple[tuple[_Seniority, ...], NodeId, list[Voted]] | None:
        """The expulsion of ``target``, if it is due: its voters' seniority, itself, the votes."""
        if target in self.expelled:
            return None
        resigned = self._resigned(target, admins)
        if resigned is not None:
            return ((len(resigned.chain) - 1, target),), target, [resigned]
        votes = [vote for vote in self._voted if vote.subject == target and vote.author != target and self.counts(vote)]
        ranked = sorted(((len(vote.chain) - 1, vote.author), vote) for vote in _newest(votes))
        needed = self._needed(target, votes, admins)
        if len(ranked) < needed:
            return None
        return tuple(rank for rank, _ in ranked[:needed]), target, [vote for _, vote in ranked]

    def _resigned(self, target: NodeId, admins: Mapping[NodeId, _Seniority]) -> Voted | None:
        if target in admins and len(admins) == 1:
            return None
        own = (vote for vote in self._voted if vote.author == vote.subject == target)
        return next((vote for vote in own if _refusal(vote.chain, self.expelled, frozenset()) is None), None)

    def _needed(self, target: NodeId, votes: list[Voted], admins: Mapping[NodeId, _Seniority]) -> int:
        if target not in admins:
            return 1
        if len(admins) == 1:
            return len(votes) + 1  # the last admin stays, whoever votes
        return 1 if any(self._says_small(vote) for vote in votes) else VOTES_NEEDED_FOR_ADMIN

    def _says_small(self, vote: Voted) -> bool:
        """Whether a vote's word that the mesh has three members or fewer is refuted by nobody's admission."""
        members = vote.vote.members
        if vote.author not in members or vote.subject not in members:
            return False
        return not any(
            act.subject not in members
            and act.subject not in self.expelled
            and vote.mark not in act.cites
            and not act.link.certificate.capabilities & CAPABILITY_RECOVERY
            for act in self._admitted
            if self.counts(act)
        ) and all(
            link.certificate.node in (*members, *self.expelled) for link in vote.chain if link.certificate.founding
        )


def _newest(votes: list[Voted]) -> list[Voted]:
    return list({vote.author: vote for vote in votes}.values())


def _is_acting_admin(certificate: Certificate) -> bool:
    return certificate.is_admin and not certificate.capabilities & CAPABILITY_RECOVERY


def _certified(act: _Act) -> tuple[bytes, ...]:
    return (act.link.mark,) if isinstance(act, Admitted) else ()


def _author_chain(each: Held, mesh: MeshId) -> tuple[Link, ...]:
    chain = PROOF_CODEC.decode(each.statement.proof, "proof").chain
    verify_chain(chain, mesh)
    return _links(chain)


@lru_cache(maxsize=ACTS_CACHED_MAX)
def _admitted(each: Held, mesh: MeshId) -> Admitted | None:
    try:
        chain = _author_chain(each, mesh)
        act: Admission = ADMISSION_CODEC.decode(each.body, "admission")
        certificate = CERTIFICATE_CODEC.decode(act.certificate.body, "admission")
    except RemoteProtocolError:
        return None
    if certificate.node != each.key.subject or certificate.mesh != mesh:
        return None
    link = Link(certificate, certificate_mark(act.certificate.body))
    return Admitted(each.key.author, certificate.node, each.mark, chain, link, frozenset(act.cites), act.succeeds)


@lru_cache(maxsize=ACTS_CACHED_MAX)
def _voted(each: Held, mesh: MeshId) -> Voted | None:
    try:
        chain = _author_chain(each, mesh)
        vote: Vote = VOTE_CODEC.decode(each.body, "vote")
    except RemoteProtocolError:
        return None
    if len(each.key.subject) != len(each.key.author):
        return None
    return Voted(each.key.author, NodeId(each.key.subject), each.mark, chain, vote)
