"""Who is here: SWIM membership with Lifeguard, as a synchronous core without I/O.

Read :mod:`gossip.swim` first: the core, its events and its actions. Its parts, one idea each, stand on a common
:mod:`gossip.ground`: :mod:`gossip.claims` (what is believed), :mod:`gossip.probing` (who is asked),
:mod:`gossip.speech` (how news travels), :mod:`gossip.pushpull` (what was missed is compared), :mod:`gossip.leaving`.

What those use: :mod:`gossip.members` (states and which claim wins), :mod:`gossip.messages` (the wire),
:mod:`gossip.probes` (whose turn it is and what is outstanding), :mod:`gossip.suspicion` and :mod:`gossip.health`
(Lifeguard's two formulas), :mod:`gossip.broadcasts` (what is piggybacked), :mod:`gossip.antientropy` (a table in
pages), :mod:`gossip.config` and :mod:`gossip.events` (the settings and the door).

Beside it :mod:`gossip.replica`: signed statements that all members hold.
"""
