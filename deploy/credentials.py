"""``python3 deploy/credentials.py DIR``: random credentials for a Valkey and an S3 store of one's own.

Compose runs it at each start, the overlay cpu-demo needs it once. Credentials that are there stay as they are;
where this is root, all directories are given to the service's user. Needs the standard library only.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

USER = 10001
VALKEY = """\
bind *
port 6379
requirepass {password}
dir /data
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


def main() -> None:
    """Each server's own configuration, and the settings that lead the service to it; the last file is the last."""
    directory = Path(sys.argv[1])
    password, access, secret = secrets.token_urlsafe(32), secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    keys = [{"accessKey": access, "secretKey": secret}]
    identity = {
        "name": "draganything",
        "credentials": keys,
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    url = directory / "settings/DRAGANYTHING_REDIS_URL"
    if not url.exists():
        write(directory / "valkey-config/valkey.conf", VALKEY.format(password=password))
        write(directory / "valkey-config/password", password)
        write(directory / "s3-config/identities.json", json.dumps({"identities": [identity]}))
        write(directory / "settings/DRAGANYTHING_S3_ACCESS_KEY", access)
        write(directory / "settings/DRAGANYTHING_S3_SECRET_KEY", secret)
        write(url, f"redis://:{password}@valkey:6379/0")
    if os.geteuid() == 0:
        for path in (*directory.glob("*"), *directory.glob("*-config/*"), *directory.glob("settings/*")):
            os.chown(path, USER, USER)


def write(path: Path, text: str) -> None:
    """In one step, for the owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.write_text(text)
    new.chmod(0o400)
    new.rename(path)


if __name__ == "__main__":
    main()
