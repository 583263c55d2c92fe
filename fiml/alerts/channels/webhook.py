"""A webhook: a POST of JSON, signed as Standard Webhooks says (www.standardwebhooks.com)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from typing import Final

import httpx2

from fiml.alerts.channels.document import alert_document
from fiml.alerts.file import url_problem
from fiml.alerts.model import Secret, WebhookChannel
from fiml.alerts.notices import Notice
from fiml.errors import DeliveryError, SettingsError

__all__ = ["post", "signature"]

_PREFIX: Final = "whsec_"
_SHORTEST_KEY: Final = 24


async def post(channel: WebhookChannel, notice: Notice) -> None:
    """Post a notice; any answer of 2xx is a delivery, and a redirect is none.

    Raises:
        DeliveryError: there was no such answer in time, or the channel's secrets cannot be used.
            The message never has the address, which may be a secret itself.
    """
    body = alert_document(notice).encode()
    try:
        url = channel.url.read() if isinstance(channel.url, Secret) else channel.url
        if problem := url_problem(url):
            raise DeliveryError(f"the address that is kept secret {problem}")
        headers = _headers(channel, notice.key, body)
        async with (
            asyncio.timeout(channel.timeout_seconds),
            httpx2.AsyncClient(follow_redirects=False, timeout=None) as client,
            # What it says beside the status is not read, however much it is.
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except SettingsError as error:
        raise DeliveryError(str(error)) from None
    except TimeoutError:
        raise DeliveryError(f"no answer within {channel.timeout_seconds} s") from None
    except httpx2.ConnectError:
        raise DeliveryError("the server cannot be reached, or not be trusted") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise DeliveryError(f"the exchange failed: {type(error).__name__}") from None
    if 300 <= status < 400:
        raise DeliveryError(f"answered {status}: redirects are not followed")
    if not 200 <= status < 300:
        raise DeliveryError(f"answered {status}")


def signature(secret: str, key: str, timestamp: str, body: bytes) -> str:
    """Sign what is sent: HMAC-SHA256 of key, time and body, in base64.

    Args:
        secret: text, or `whsec_` and base64.
        key: of the notice.
        timestamp: seconds since 1970.
        body: the JSON.

    Raises:
        DeliveryError: the secret is no base64, or too short.
    """
    held = secret.encode()
    if secret.startswith(_PREFIX):
        try:
            held = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            raise DeliveryError(f"the secret begins with {_PREFIX} and is no base64") from None
    if len(held) < _SHORTEST_KEY:
        raise DeliveryError(f"the secret has {len(held)} bytes; expected at least {_SHORTEST_KEY}")
    signed = b".".join((key.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(held, signed, hashlib.sha256).digest()).decode()


def _headers(channel: WebhookChannel, key: str, body: bytes) -> dict[str, str]:
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "session-analytics",
        "Idempotency-Key": key,
        "Webhook-Id": key,
        "Webhook-Timestamp": timestamp,
    }
    if channel.secret is not None:
        headers["Webhook-Signature"] = signature(channel.secret.read(), key, timestamp, body)
    return headers
