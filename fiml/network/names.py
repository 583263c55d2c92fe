"""Under which names a server may be asked, so that a page of another name cannot use it."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter, ValidationError

from fiml.errors import SettingsError
from fiml.sessions._arguments import shown
from fiml.settings import Settings

__all__ = ["LOOPBACK", "http_url", "in_url", "is_own_name", "known_hosts", "known_origins"]

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

# Clients compare an issuer character by character: no slash may come at its end (RFC 8414, 3.3).
_URL: Final = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True))
_HOST: Final = re.compile(r"(?:\[([^\]]*)\]|([^\[\]:]*))(?::[0-9]{1,5})?")
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


def is_own_name(given: str, host: str) -> bool:
    """Whether a request's `Host` is one that what listens here without a public name may have.

    On loopback a loopback name or address; elsewhere the name that was listened on, or any address:
    a page has a name, and could have it lead anywhere, but no address that is not its own.

    Args:
        given: the header.
        host: what is listened on.
    """
    found = _HOST.fullmatch(given)
    if found is None:
        return False
    name = (found[1] or found[2] or "").lower()
    if name and name == host.lower():
        return True
    if host in LOOPBACK or _is_loopback(host):
        return name in LOOPBACK or _is_loopback(name)
    return _is_address(name)


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


def _is_loopback(text: str) -> bool:
    return _is_address(text) and ip_address(text).is_loopback


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _own_names(host: str) -> list[str]:
    return sorted({in_url(name) for name in (*LOOPBACK, host) if name not in _EVERY_ADDRESS})
