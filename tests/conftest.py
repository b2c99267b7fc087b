"""For every test: a run that was started in the background is no other run."""

import signal

# A shell without job control starts background programs with SIGINT ignored, and that is inherited: a daemon or a
# command that a test starts and interrupts would not hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
