"""Who is here: SWIM membership with Lifeguard, as a synchronous core without I/O.

Read :mod:`gossip.swim` first: the core, its events and its actions. The rest are the parts it uses, one idea each:
:mod:`gossip.members` (states and which claim wins), :mod:`gossip.messages` (the wire), :mod:`gossip.probes` (who is
probed next and what is outstanding), :mod:`gossip.suspicion` and :mod:`gossip.health` (Lifeguard's two formulas),
:mod:`gossip.broadcasts` (what is piggybacked), :mod:`gossip.antientropy` (push-pull in pages), :mod:`gossip.config`
and :mod:`gossip.events` (the settings and the door).
"""
