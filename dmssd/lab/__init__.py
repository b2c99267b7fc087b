"""Real daemons in network namespaces on one machine, with faults.

``shapes`` says what is joined to what; ``design`` gives every node, link and address its name; ``plumbing`` makes the
namespaces; ``processes`` starts and ends the daemons; ``faults`` breaks links; ``state`` remembers all of it on disk
before it is made, so that a crash at any moment can be cleaned up; ``lab.Lab`` is the whole, for the command line,
tests and benches. Never imported by the daemon.
"""
