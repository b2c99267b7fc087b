"""Who belongs to the mesh and who may admit: a pure function of the replicated statements.

*Expelling.* An ordinary member is expelled by the vote of one admin, an admin by the votes of two; in a mesh of three
or fewer by one. An admin is who is known for one, or who a vote against it says is one: admissions may come later than
votes. That the mesh is so small is said in the vote, with its members' names, and is refuted by any admission of
somebody else that was made without knowledge of the vote. The last admin is never expelled. Of an expelled admin only
those acts count (certificates, votes) that were known to those who expelled it: their votes name them. What an expelled
admin signs later, or what it signs under an earlier sequence number, changes nothing.

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
from heapq import heappop, heappush
from itertools import pairwise

from dmssd.security.acts import ADMISSION_CODEC, VOTE_CODEC, Admission, Vote, certificate_mark
from dmssd.security.certificate import (
    CAPABILITY_RECOVERY,
    CERTIFICATE_CODEC,
    CHAIN_CODEC,
    CHAIN_MAX,
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
    """One certificate of a chain, with its mark and whose it is."""

    certificate: Certificate
    mark: bytes
    node: NodeId


@dataclass(frozen=True, slots=True)
class _Act:
    """A statement on membership whose author's chain holds.

    ``chain``: the author's own certificate first; ``speakers``: whose certificates it has; ``shows``: the acting admins
    that there are by it, with how many certificates lie between them and the founder.
    """

    author: NodeId
    subject: NodeId
    mark: bytes
    chain: tuple[Link, ...]
    speakers: frozenset[NodeId]
    shows: tuple[_Seniority, ...]


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
    return tuple(_link(each.body, "chain") for each in signed)


def _link(body: bytes, source: str) -> Link:
    certificate = CERTIFICATE_CODEC.decode(body, source)
    return Link(certificate, certificate_mark(body), certificate.node)


def _refusal(chain: tuple[Link, ...], expelled: Mapping[NodeId, Expulsion], acts_known: frozenset[bytes]) -> str | None:
    """``acts_known``: acts of the bearer in whose name it speaks here; one of them may be known to its expellers."""
    bearer = chain[0].node
    if bearer in expelled and not acts_known & expelled[bearer].known:
        return "expelled from the mesh"
    for below, link in pairwise(chain):
        issuer = link.node
        if issuer in expelled and issuer != below.node and below.mark not in expelled[issuer].known:
            return "certificate by an expelled admin"
    return None


def judge(mesh: MeshId, admissions: Iterable[Held], votes: Iterable[Held]) -> Standing:
    """The standing of everybody, from the statements on ``admit`` and ``expel``."""
    admitted = [act for each in admissions if (act := _admitted(each, mesh)) is not None]
    voted = [vote for each in votes if (vote := _voted(each, mesh)) is not None]
    court = _Court(admitted, voted)
    court.decide()
    by_subject: dict[NodeId, list[Admitted]] = {}
    for act in court.admitted:
        by_subject.setdefault(act.subject, []).append(act)
    return Standing(
        mesh,
        court.expelled,
        tuple(voted),
        {subject: tuple(acts) for subject, acts in by_subject.items()},
        tuple(node for _, node in sorted((depth, node) for node, depth in court.admins.items())),
    )


_Due = tuple[bool, tuple[_Seniority, ...], NodeId]
"""An expulsion that is due, in the order in which they take effect: is it of no admin, its voters' seniority, whom."""


class _Court:
    """Decides on expulsions one after another (see the module's docstring).

    An expulsion makes acts void and never brings one back. So after each only that is looked at again which can have
    changed: everything if the expelled one was an admin or spoke, which is rare; else the votes against admins, which
    may have said that the mesh is small.

    ``admitted``: the admissions that count. ``admins``: everybody known to be an admin and not expelled, with the least
    number of certificates up to the founder. The recovery key is none: it is no one.
    """

    def __init__(self, admitted: list[Admitted], voted: list[Voted]) -> None:
        self.admitted = [act for act in admitted if act.chain[0].certificate.is_admin]
        self._voted = [vote for vote in voted if vote.chain[0].certificate.is_admin]
        self._resigning = {vote.author: vote for vote in voted if vote.author == vote.subject}
        self.expelled: dict[NodeId, Expulsion] = {}
        self._count()

    def decide(self) -> None:
        """Find every effective expulsion."""
        heap: list[_Due] = []
        due: dict[NodeId, _Due | None] = {}
        changed: Iterable[NodeId] = self._undecided()
        while True:
            for target in changed:
                due[target] = found = self._due(target)
                if found is not None:
                    heappush(heap, found)
            while heap and heap[0] is not due[heap[0][-1]]:
                heappop(heap)
            if not heap:
                return
            _, _, target = heappop(heap)
            due[target] = None
            changed = self._expel(target)

    def _expel(self, target: NodeId) -> Iterable[NodeId]:
        """Whose votes may suffice now, or not any more."""
        votes = [vote for _, vote in self._resigned(target) or _ranked(self._against[target])]
        known = frozenset(mark for vote in votes for mark in vote.vote.known)
        reason = next((vote.vote.reason for vote in votes if vote.vote.reason), "")
        self.expelled[target] = Expulsion(tuple(vote.author for vote in votes), known, reason)
        if target not in self.admins and target not in self._speakers:
            return [node for node in self._undecided() if self._takes_several(node, self._against.get(node, []))]
        before = self._undecided()
        self.admitted = [act for act in self.admitted if target not in act.speakers or self._counts(act)]
        self._voted = [vote for vote in self._voted if target not in vote.speakers or self._counts(vote)]
        self._count()
        return before

    def _undecided(self) -> list[NodeId]:
        return [node for node in {**self._against, **self._resigning} if node not in self.expelled]

    def _count(self) -> None:
        """Everything that follows from which acts count."""
        self.admins: dict[NodeId, int] = {}
        for act in (*self.admitted, *self._voted):
            for depth, node in act.shows:
                if depth < self.admins.get(node, CHAIN_MAX + 1):
                    self.admins[node] = depth
        for node in self.expelled:
            self.admins.pop(node, None)
        # Those who resign matter as little as anybody else who is expelled, those who admitted them do.
        speakers = {act.speakers for act in (*self.admitted, *self._voted)}
        speakers |= {vote.speakers - {vote.author} for vote in self._resigning.values()}
        self._speakers = frozenset[NodeId]().union(*speakers)
        self._against: dict[NodeId, list[Voted]] = {}
        for vote in self._voted:
            if vote.author != vote.subject and vote.subject not in self.expelled:
                self._against.setdefault(vote.subject, []).append(vote)
        self._refuting: dict[int, frozenset[NodeId]] = {}

    def _counts(self, act: _Act) -> bool:
        """Whether an act of an admin is not void."""
        return _refusal(act.chain, self.expelled, frozenset((act.mark, *_certified(act)))) is None

    def _due(self, target: NodeId) -> _Due | None:
        """The expulsion of ``target``, if it is due."""
        votes = self._against.get(target, [])
        resigned = self._resigned(target)
        ranked, needed = (resigned, 1) if resigned else (_ranked(votes), self._needed(target, votes))
        if len(ranked) < needed:
            return None
        # Admins first, for the votes of those that go do not count against ordinary members either.
        return target not in self.admins, tuple(rank for rank, _ in ranked[:needed]), target

    def _resigned(self, target: NodeId) -> list[tuple[_Seniority, Voted]]:
        """The target's own vote, if it has one that takes effect."""
        own = self._resigning.get(target)
        if own is None or (target in self.admins and len(self.admins) == 1):
            return []
        return _ranked([own]) if _refusal(own.chain, self.expelled, frozenset()) is None else []

    def _needed(self, target: NodeId, votes: list[Voted]) -> int:
        if not self._takes_several(target, votes):
            return 1
        if target in self.admins and len(self.admins) == 1:
            return len(votes) + 1  # the last admin stays, whoever votes
        return 1 if any(self._says_small(vote) for vote in votes) else VOTES_NEEDED_FOR_ADMIN

    def _takes_several(self, target: NodeId, votes: list[Voted]) -> bool:
        return target in self.admins or any(vote.vote.of_admin for vote in votes)

    def _says_small(self, vote: Voted) -> bool:
        """Whether a vote's word that the mesh has three members or fewer is refuted by nobody's admission."""
        members = vote.vote.members
        if vote.author not in members or vote.subject not in members:
            return False
        refuting = self._refuting.get(id(vote))
        if refuting is None:
            refuting = self._refuting[id(vote)] = frozenset(
                act.subject
                for act in self.admitted
                if act.subject not in members
                and vote.mark not in act.cites
                and not act.link.certificate.capabilities & CAPABILITY_RECOVERY
            )
        return refuting <= self.expelled.keys() and all(
            link.node in members or link.node in self.expelled for link in vote.chain if link.certificate.founding
        )


def _ranked(votes: list[Voted]) -> list[tuple[_Seniority, Voted]]:
    """The newest vote of each author, the most senior first."""
    newest = {vote.author: vote for vote in votes}.values()
    return sorted((((len(vote.chain) - 1, vote.author), vote) for vote in newest), key=lambda each: each[0])


def _shows(chain: tuple[Link, ...]) -> tuple[_Seniority, ...]:
    above = range(len(chain) - 1, -1, -1)
    return tuple((depth, link.node) for depth, link in zip(above, chain, strict=True) if _is_acting_admin(link))


def _is_acting_admin(link: Link) -> bool:
    return link.certificate.is_admin and not link.certificate.capabilities & CAPABILITY_RECOVERY


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
        link = _link(act.certificate.body, "admission")
    except RemoteProtocolError:
        return None
    if link.node != each.key.subject or link.certificate.mesh != mesh:
        return None
    speakers, shows, cites = frozenset(above.node for above in chain), _shows((link, *chain)), frozenset(act.cites)
    return Admitted(each.key.author, link.node, each.mark, chain, speakers, shows, link, cites, act.succeeds)


@lru_cache(maxsize=ACTS_CACHED_MAX)
def _voted(each: Held, mesh: MeshId) -> Voted | None:
    try:
        chain = _author_chain(each, mesh)
        vote: Vote = VOTE_CODEC.decode(each.body, "vote")
    except RemoteProtocolError:
        return None
    if len(each.key.subject) != len(each.key.author):
        return None
    speakers = frozenset(link.node for link in chain)
    return Voted(each.key.author, NodeId(each.key.subject), each.mark, chain, speakers, _shows(chain), vote)
