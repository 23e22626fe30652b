from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from redis import Redis
from standardwebhooks import Webhook

from jobs.errors import Conflict
from jobs.outbound import Dialer, OutboundError, Target
from jobs.webhooks import Secrets, _pause_s, sign


def test_a_signature_is_that_of_the_scheme() -> None:
    """The example of the Standard Webhooks specification's own libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body, at = b'{"test": 2432232314}', 1614265330
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature == Webhook(secret).sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(at, UTC), body.decode()
    )


def test_secrets(redis: Redis) -> None:
    secrets = Secrets(redis)
    assert secrets.get("") is None
    first, other = secrets.create(""), secrets.create("a")
    assert first != other
    for secret in (first, other):
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    with pytest.raises(Conflict):
        secrets.create("")
    assert secrets.get("") == first
    assert secrets.create("", replace=True) == secrets.get("") != first
    assert secrets.get("a") == other


@pytest.mark.parametrize(
    ("asked", "pause_s"),
    [("0", 0), ("120", 120), ("-1", None), ("", None), ("soon", None), ("9" * 5000, None), ("١٢", None)],
)
def test_the_pause_that_a_receiver_asks_for(asked: str, pause_s: float | None) -> None:
    assert _pause_s(asked) == pause_s


@pytest.mark.parametrize(("ahead_s", "pause_s"), [(3600, 3600), (-3600, 0)])
def test_the_date_that_a_receiver_asks_for(ahead_s: int, pause_s: float) -> None:
    asked = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)
    assert _pause_s(asked) == pytest.approx(pause_s, abs=30)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:8123/hook?a=b", Target("127.0.0.1", 8123, "/hook?a=b", secure=False)),
        ("http://localhost", Target("localhost", 80, "/", secure=False)),
        ("https://[::1]:8443/", Target("::1", 8443, "/", secure=True)),
    ],
)
def test_what_is_allowed_in_development(url: str, target: Target) -> None:
    assert Dialer(private=True).read(url) == target
    with pytest.raises(OutboundError):
        Dialer().read(url)


@pytest.mark.parametrize(
    "url", ["", "ftp://localhost/", "http:///x", "http://a:b@localhost/", "http://localhost:0x/"]
)
def test_what_is_never_allowed(url: str) -> None:
    with pytest.raises(OutboundError):
        Dialer(private=True).read(url)
