"""Link-state routing: who is next to whom, what every node says of itself, and the paths that follow.

Read :mod:`routing.linkstate` first: it is the core that keeps the link-state database equal everywhere. Then the
parts it uses (:mod:`routing.lsdb`, :mod:`routing.flood`, :mod:`routing.lsa`), then how neighbours are found and
watched (:mod:`routing.discovery`, :mod:`routing.adjacency`), then what is computed from it (:mod:`routing.graph`,
:mod:`routing.spf`, :mod:`routing.mwt`, :mod:`routing.plan`), how it becomes routes (:mod:`routing.fib`) and how
control messages travel without any (:mod:`routing.control`).
"""
