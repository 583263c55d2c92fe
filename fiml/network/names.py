"""Under which names a server may be asked, so that a page of another name cannot use it."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter, ValidationError

from fiml.errors import SettingsError
from fiml.sessions._arguments import shown
from fiml.settings import Settings

__all__ = ["LOOPBACK", "http_url", "in_url", "known_hosts", "known_origins"]

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

# Clients compare an issuer character by character: no slash may come at its end (RFC 8414, 3.3).
_URL: Final = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True))
_EVERY_ADDRESS: Final = ("", "0.0.0.0", "::")  # noqa: S104 - no name that a client may use


def known_hosts(settings: Settings, host: str) -> list[str]:
    """What a request's `Host` may be; `:*` stands for any port.

    Against DNS rebinding: a page that a browser loaded under another name cannot come here.

    Raises:
        SettingsError: the audience begins like a URL and is none.
    """
    hosts = [f"{name}:*" for name in _own_names(host)]
    if http_url(settings.auth_audience):
        public = urlsplit(settings.auth_audience)
        hosts += [public.netloc, f"{public.hostname}:*"]
    return hosts


def known_origins(settings: Settings, host: str) -> list[str]:
    """What a request's `Origin` may be; `:*` stands for any port.

    Raises:
        SettingsError: the audience begins like a URL and is none.
    """
    origins = [f"http://{name}:*" for name in _own_names(host)]
    if http_url(settings.auth_audience):
        public = urlsplit(settings.auth_audience)
        origins.append(f"{public.scheme}://{public.netloc}")
    return origins


def http_url(text: str) -> AnyHttpUrl | None:
    """The URL that a setting is; None where it is none and does not look like one.

    Raises:
        SettingsError: it begins like a URL and is none.
    """
    if not text.startswith(("http://", "https://")):
        return None
    try:
        return _URL.validate_python(text)
    except ValidationError:
        raise SettingsError(f"{shown(text)} is no URL, though it begins like one") from None


def in_url(host: str) -> str:
    """A name or an address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def _own_names(host: str) -> list[str]:
    return sorted({in_url(name) for name in (*LOOPBACK, host) if name not in _EVERY_ADDRESS})
