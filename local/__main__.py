"""``python -m local up`` and ``python -m local demo``."""

from local.cli import commands

commands()
