"""``python -I -S die_with_parent.py PARENT_PID PROGRAM ARGS…``: become PROGRAM, killed when the parent dies.

A program of its own because asking for the signal between fork and exec (``preexec_fn``) is not safe in a process
that has threads. The request outlives exec. Linux only. It imports nothing of ours so that it costs milliseconds.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    parent_pid, program = int(argv[1]), argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent_pid:  # it died before we asked
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.exit(f"{program[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv)
