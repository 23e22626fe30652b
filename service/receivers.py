"""Whether those whom a request wants to be told of its end may be told, and can be."""

from __future__ import annotations

import time
from typing import get_args

from jobs.errors import InvalidRequest
from jobs.outbound import OutboundError
from jobs.spec import Webhook, WebhookEvent
from jobs.webhooks import Secrets, Subscription, dialer
from service.auth import Caller
from service.links import own_url
from service.state import Doors

RESOLVED_S = 10.0
"""For all names of one request, together."""


class Receivers:
    """Checks the webhooks of one request; the same one again, as the jobs of a batch often have it, at no cost."""

    def __init__(self, sender: Caller, services: Doors) -> None:
        self._sender = sender
        self._services = services
        self._dialer = dialer(services.settings)
        self._ends = time.monotonic() + RESOLVED_S
        self._last: tuple[Webhook, Subscription] | None = None

    def subscribe(self, webhook: Webhook | None) -> Subscription | None:
        """What a job keeps of its webhook.

        Raises:
            InvalidRequest: its owner has no secret, or the address is not allowed.
        """
        if webhook is None:
            return None
        if self._last is None or self._last[0] != webhook:
            self._last = webhook, self._check(webhook)
        return self._last[1]

    def _check(self, webhook: Webhook) -> Subscription:
        if Secrets(self._services.redis).get(self._sender.owner) is None:
            command = "draganything webhooks secret" + (f" --key {self._sender.owner}" * bool(self._sender.owner))
            raise InvalidRequest.at("/webhook", f"There is no secret to sign with; `{command}` makes one.")
        try:
            target = self._dialer.read(webhook.url)
            if time.monotonic() > self._ends:
                raise OutboundError("Looking up the names of the webhooks takes too long.")  # noqa: TRY301
            self._dialer.locate(target)
        except OutboundError as error:
            raise InvalidRequest.at("/webhook/url", str(error)) from None
        return Subscription(
            url=webhook.url,
            host=f"{target.host}:{target.port}",
            events=tuple(dict.fromkeys(webhook.events or get_args(WebhookEvent))),
            base_url=self._sender.base_url or own_url(self._services.settings),
        )
