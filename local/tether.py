"""Become a command that dies with its parent: ``python tether.py PARENT_PID COMMAND [ARGUMENT]...``.

A parent killed with SIGKILL cannot stop its children; on Linux the kernel does it (prctl(2), PR_SET_PDEATHSIG).
Elsewhere the command is run untied. Imports nothing of ours: it starts with ``python -I -S``.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:  # it died before the line above
            sys.exit("the parent is gone")
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
