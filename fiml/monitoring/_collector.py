"""How a collector's answers are read: little of them, for a while, and no redirect."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from time import monotonic
from typing import Any, Final

from requests import PreparedRequest, RequestException, Response, Session
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

__all__ = ["collector_session"]

_MOST_THAT_IS_READ: Final = 65_536
_SECONDS_TO_READ: Final = 10.0


def collector_session() -> Session:
    """A session for an exporter of spans."""
    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


class _Adapter(HTTPAdapter):
    """Leaves of an answer what it says of itself.

    The exporter looks at the status only, but requests would read all that comes, unpack it, and
    keep its cookies.
    """

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        response = super().send(request, *args, **{**options, "stream": True})
        _read_little(response)
        response.raw = BytesIO()
        # To the exporter a redirect that it does not follow is a success.
        if 300 <= response.status_code < 400:
            raise RequestException(
                f"the collector redirects ({response.status_code}), which is not followed"
            )
        return response


def _read_little(response: Response) -> None:
    # A connection whose answer was read to its end can be used again.
    left = _MOST_THAT_IS_READ
    until = monotonic() + _SECONDS_TO_READ
    with suppress(HTTPError, OSError):
        while left > 0 and monotonic() < until:
            chunk = response.raw.read1(left, decode_content=False)
            if not chunk:
                response.raw.release_conn()
                return
            left -= len(chunk)
    response.close()
