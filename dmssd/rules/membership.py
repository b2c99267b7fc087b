"""Membership by statements, as one node acts on it: what it states when it admits or votes, what it does when told.

The statements are in the replica, what they mean is decided by :mod:`dmssd.security.standing`; here is what this node
makes of it: which capabilities a newcomer gets, what a vote of ours says, which certificate is our best.
"""

import contextlib
from collections.abc import Iterable, Mapping
from itertools import pairwise

from dmssd.rules.names import Names
from dmssd.security.acts import (
    ADMISSION_CODEC,
    CITED_MAX,
    KNOWN_MAX,
    REASON_CHARACTERS_MAX,
    SMALL_MESH,
    TOPIC_ADMIT,
    TOPIC_EXPEL,
    VOTE_CODEC,
    Admission,
    Vote,
)
from dmssd.security.certificate import (
    CAPABILITY_ADMIN,
    CAPABILITY_RECOVERY,
    CHAIN_CODEC,
    Certificate,
    Credentials,
    own_certificate,
    verify_chain,
)
from dmssd.security.identity import Identity
from dmssd.security.signer import PROOF_CODEC
from dmssd.security.standing import Link, Standing, judge, links_of
from gossip.replica import Publish, Replica
from sansio.errors import RemoteProtocolError, RequestError
from sansio.ids import NodeId


class Membership:
    """What this node knows of everybody's standing. ``admins``: so many members, the first, may admit others."""

    def __init__(self, credentials: Credentials, admins: int) -> None:
        self.credentials = credentials
        self.standing = Standing(credentials.mesh)
        self.first_admins = admins

    @property
    def me(self) -> NodeId:
        """The node itself."""
        return self.credentials.identity.node

    @property
    def is_admin(self) -> bool:
        """Whether what this node signs admits and expels."""
        return self.credentials.certificate.is_admin and self.me not in self.standing.expelled

    def refresh(self, replica: Replica) -> bool:
        """Judge anew; whether others are expelled than before."""
        before = frozenset(self.standing.expelled)
        self.standing = judge(self.credentials.mesh, replica.topic(TOPIC_ADMIT), replica.topic(TOPIC_EXPEL))
        return frozenset(self.standing.expelled) != before

    def members(self, chains: Iterable[bytes]) -> dict[NodeId, Certificate]:
        """Everybody known to be a member, with the best certificate seen. ``chains``: those that LSAs were proved by.

        The recovery key is no member, though it has a certificate; nor is whoever goes on under another key, whose
        resignation may not have come yet.
        """
        found: dict[NodeId, Certificate] = {}

        def note(link: Link) -> None:
            certificate, held = link.certificate, found.get(link.node)
            if held is certificate:
                return  # by far the most: the chains of all acts of an admin have the same links
            if link.node in self.standing.expelled or certificate.capabilities & CAPABILITY_RECOVERY:
                return
            if held is None or _worth(certificate) > _worth(held):
                found[link.node] = certificate

        note(links_of(self.credentials.chain)[0])
        for chain in (self.credentials.chain, *chains):
            if self.standing.refusal(chain) is None:
                for link in links_of(chain):
                    note(link)
        for acts in self.standing.admitted.values():
            for act in acts:
                note(act.link)
                for link in act.chain:
                    note(link)
        for node in self._succeeded(found) - {self.me}:
            del found[node]
        return found

    def _succeeded(self, found: Mapping[NodeId, Certificate]) -> set[NodeId]:
        """Those with a successor: by their own word, or by that of an admin who could have expelled them alone."""
        acts = (act for held in self.standing.admitted.values() for act in held if act.succeeds in found)
        return {
            act.succeeds
            for act in acts
            if act.succeeds is not None and (act.author == act.succeeds or not found[act.succeeds].is_admin)
        }

    def capabilities_for_newcomer(self, members: int) -> int:
        """What one more member gets, where there are so many already."""
        return CAPABILITY_ADMIN if members < self.first_admins else 0

    # What we state

    def admission(self, chain: bytes, succeeds: NodeId | None = None) -> Publish:
        """State that we issued the first certificate of ``chain``; in succession to a member, if that is given."""
        signed = CHAIN_CODEC.decode(chain, "own chain")[0]
        act = Admission(signed, tuple(sorted(vote.mark for vote in self.standing.votes)[:CITED_MAX]), succeeds)
        return Publish(TOPIC_ADMIT, own_certificate(chain).node, ADMISSION_CODEC.encode(act))

    def unstated(self, chains: Iterable[bytes], replica: Replica) -> list[Publish]:
        """Statements that are missing: that we are an admin, and what we issued before there were statements."""
        if not self.is_admin:
            return []
        found = {self.me: self.credentials.chain}
        for chain in chains:
            links = links_of(chain)
            if len(links) > 1 and links[1].certificate.node == self.me:
                found[links[0].certificate.node] = chain
        return [
            self.admission(chain)
            for node, chain in sorted(found.items())
            if replica.get(TOPIC_ADMIT, self.me, node) is None and node not in self.standing.expelled
        ]

    def vote(self, target: NodeId, reason: str, chains: Iterable[bytes], members: Iterable[NodeId]) -> Publish:
        """Our vote to expel ``target``; ``RequestError`` where we have none, or it is the last admin."""
        if not self.is_admin:
            raise RequestError(
                "this node may not expel members: do it on one that has the admin capability, "
                "which dmssd member list shows"
            )
        if target == self.me:
            raise RequestError("a node does not expel itself: say dmssd leave, or expel it on another admin")
        chains = tuple(chains)
        certificate = self.members(chains).get(target)
        present = sorted({*members, self.me, target} - self.standing.expelled.keys())
        vote = Vote(
            self._known(target, chains),
            tuple(present) if len(present) <= SMALL_MESH else (),
            reason[:REASON_CHARACTERS_MAX],
            of_admin=certificate is not None and certificate.is_admin,
        )
        return Publish(TOPIC_EXPEL, target, VOTE_CODEC.encode(vote))

    def resignation(self, reason: str, chains: Iterable[bytes]) -> Publish:
        """Our vote upon ourselves: what we did until now counts, what anybody does with our key later does not."""
        return Publish(TOPIC_EXPEL, self.me, VOTE_CODEC.encode(Vote(self._known(self.me, chains), (), reason)))

    def withdrawal(self, target: NodeId, replica: Replica) -> Publish:
        """Take our vote back; ``RequestError`` where there is none."""
        held = replica.get(TOPIC_EXPEL, self.me, target)
        if held is None or not held.body:
            raise RequestError("this node has no vote against that member: dmssd status shows who has")
        return Publish(TOPIC_EXPEL, target, b"")

    def _known(self, target: NodeId, chains: Iterable[bytes]) -> tuple[bytes, ...]:
        marks = {vote.mark for vote in self.standing.votes if vote.author == target}
        for acts in self.standing.admitted.values():
            marks |= {mark for act in acts if act.author == target for mark in (act.mark, act.link.mark)}
            marks |= {mark for act in acts for mark in _issued(act.chain, target)}
        for chain in chains:
            marks.update(_issued(links_of(chain), target))
        return tuple(sorted(marks)[:KNOWN_MAX])

    # What concerns ourselves

    def better(self, replica: Replica) -> Credentials | None:
        """Our credentials by the best certificate that an admin stated for us, if that is better than the present."""
        offered = self.offered(self.me, replica)
        if offered is None or self._rank(offered) <= self._rank(self.credentials.chain):
            return None
        with contextlib.suppress(RemoteProtocolError):
            return Credentials.load(self.credentials.identity, offered)
        return None

    def offered(self, node: NodeId, replica: Replica) -> bytes | None:
        """The best chain that admins' statements give ``node``; ``None`` where nobody admits it, or it was expelled."""
        chains = []
        for held in replica.topic(TOPIC_ADMIT):
            if held.key.subject != node or held.key.author == node:
                continue
            with contextlib.suppress(RemoteProtocolError):
                act: Admission = ADMISSION_CODEC.decode(held.body, "admission")
                above = CHAIN_CODEC.decode(PROOF_CODEC.decode(held.statement.proof, "proof").chain, "chain")
                chain = CHAIN_CODEC.encode((act.certificate, *above))
                if verify_chain(chain, self.credentials.mesh).node == node and self.standing.refusal(chain) is None:
                    chains.append(chain)
        return max(chains, key=self._rank, default=None)

    def recovery(self, identity: Identity, replica: Replica) -> Credentials:
        """The credentials of a recovery key; ``RequestError`` where it is none of this mesh, or was expelled."""
        chain = self.offered(identity.node, replica)
        if chain is None or not own_certificate(chain).capabilities & CAPABILITY_RECOVERY:
            raise RequestError(
                "this is no recovery key of the mesh that this node is in, or it was expelled: check the key; "
                "a node that is no member yet must join first"
            )
        return Credentials.load(identity, chain)

    def _rank(self, chain: bytes) -> tuple[bool, int, int, int]:
        return (self.standing.refusal(chain) is None, *_worth(own_certificate(chain)), -len(links_of(chain)))


def _worth(certificate: Certificate) -> tuple[int, int]:
    return (certificate.capabilities, certificate.expiry or 2**63)


def _issued(links: Iterable[Link], issuer: NodeId) -> list[bytes]:
    return [below.mark for below, link in pairwise(links) if link.certificate.node == issuer]


def expulsion_reasons(standing: Standing, me: NodeId, name: Names) -> list[str]:
    """What people must know of votes, one line each: that this node is expelled, and votes that do not suffice yet."""

    def called(node: NodeId) -> str:
        return name.get(node) or node.hex()[:8]

    lines = []
    if me in standing.expelled:
        by = ", ".join(map(called, standing.expelled[me].voters))
        why = f" ({standing.expelled[me].reason})" if standing.expelled[me].reason else ""
        lines.append(
            f"this node was expelled from the mesh by {by}{why}: nobody in it talks to this node any more;"
            " next: ask its admins, then dmssd init NAME or dmssd join PEER under a new identity"
            " (remove the state directory)"
        )
    undecided = sorted({vote.subject for vote in standing.votes} - standing.expelled.keys())
    return lines + [
        f"{', '.join(map(called, standing.voters(target)))} voted to expel {called(target)}, which takes two admins;"
        f" next: dmssd expel {called(target)} on another admin, or dmssd expel --withdraw there"
        for target in undecided
    ]
