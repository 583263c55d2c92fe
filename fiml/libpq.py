"""What libpq makes of a connection string, for programs that are told by its variables.

libpq takes each keyword from the connection string, else from the service that is named, else from
a variable. A program that finds variables alone is to come to the same: a service goes before them,
so what it says has to be in them, and its name must not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo, PGconn

from fiml.errors import SettingsError

__all__ = [
    "checked_conninfo",
    "connection_parameters",
    "connection_variables",
    "variables_put_aside",
    "without_service",
]

# A version of TLS that libpq refuses, in each of the keywords that take one.
_REFUSED: Final = "none"
_TAKE_A_VERSION: Final = ("ssl_min_protocol_version", "ssl_max_protocol_version")
# Which is no keyword's variable.
_OLD_FORM_OF_SSLMODE: Final = "PGREQUIRESSL"


def checked_conninfo(name: str, given: str) -> str:
    """A connection string as libpq takes it, of one that may name a driver as SQLAlchemy does.

    Args:
        name: the setting that it comes from.
        given: the connection string.

    Raises:
        SettingsError: it is none; the message names the setting.
    """
    scheme, separator, rest = given.partition("://")
    plain = scheme.partition("+")[0] + separator + rest
    try:
        return make_conninfo(plain)
    except psycopg.ProgrammingError:
        # What libpq says about it would show the password.
        raise SettingsError(
            f"{name} is no PostgreSQL connection string; "
            "expected postgresql://user:password@host:port/database or libpq's key=value form"
        ) from None


def without_service(conninfo: str, environ: Mapping[str, str]) -> str:
    """A connection string that says itself what its service, or that of PGSERVICE, says.

    libpq needs none. psycopg does where it looks addresses up by itself, as it does for every
    asynchronous connection: it knows PGHOST, and no service.

    Args:
        conninfo: a connection string, or nothing.
        environ: as for `connection_parameters`.

    Raises:
        SettingsError: there is no such service, or its file cannot be read.
    """
    if not _service(conninfo, environ):
        return conninfo
    return make_conninfo("", **connection_parameters(conninfo, environ))


def connection_parameters(conninfo: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The keywords of a connection string, those of its service included, with their values.

    Args:
        conninfo: a connection string, or nothing.
        environ: names the service where the string does not; it is looked for as this process's
            own environment says.

    Raises:
        SettingsError: there is no such service, or its file cannot be read.
    """
    given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    service = _service(conninfo, environ)
    if not service:
        return given
    given.pop("service", None)
    found: dict[str, str] = {}
    for keyword in _TAKE_A_VERSION:
        found |= _found_by_libpq(conninfo, service, keyword, environ)
    return {**found, **given}


def connection_variables(
    parameters: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """An environment in which libpq connects with these parameters, whatever stood there before.

    Keywords that libpq has no variable for are left out.

    Args:
        parameters: by keyword.
        environ: everything else, and what the parameters do not say of the connection.
    """
    names = _variables_by_keyword()
    variables = {names[key]: value for key, value in parameters.items() if key in names}
    return {
        **{name: value for name, value in environ.items() if name != "PGSERVICE"},
        **variables,
    }


@contextmanager
def variables_put_aside() -> Iterator[None]:
    """Have none of the variables that libpq takes a connection from in this process meanwhile."""
    names = {*_variables_by_keyword().values(), _OLD_FORM_OF_SSLMODE}
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _variables_by_keyword() -> dict[str, str]:
    return {
        option.keyword.decode(): option.envvar.decode()
        for option in Conninfo.get_defaults()
        if option.envvar is not None
    }


def _service(conninfo: str, environ: Mapping[str, str]) -> str | None:
    named = conninfo_to_dict(conninfo).get("service") or environ.get("PGSERVICE")
    return str(named) if named else None


def _found_by_libpq(
    conninfo: str, service: str, keyword: str, environ: Mapping[str, str]
) -> dict[str, str]:
    # libpq reads the file of services where a connection begins, and nowhere else. This connection
    # ends at the value that is refused, before an address is looked up.
    attempt = make_conninfo(conninfo, service=service, **{keyword: _REFUSED})
    connection = PGconn.connect_start(attempt.encode())
    try:
        options = {option.keyword.decode(): option for option in connection.info}
        told = connection.error_message.decode(errors="replace").strip()
    finally:
        connection.finish()
    refused = options.pop(keyword).val
    if refused is None:
        raise SettingsError(f"the connection's service cannot be used: {told}")
    del options["service"]
    return {
        name: option.val.decode()
        for name, option in options.items()
        if option.val is not None
        # libpq's own default would be a demand on another version of it.
        and (
            option.val != option.compiled
            or (option.envvar is not None and option.envvar.decode() in environ)
        )
    }
