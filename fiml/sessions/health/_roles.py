"""Roles: whether they are there, may no more than they must, and have what they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fiml.sessions.health._asking import Connection, all_rows, one_row
from fiml.sessions.health._findings import Finding, Limits, Severity
from fiml.sessions.roles import Purpose
from fiml.settings import Settings

__all__ = ["roles"]

_NAMED_AT_MOST: Final = 5
_MIGRATE: Final = "Run `session-analytics migrate`"

_ROLES: Final = """
select
    roles.purpose,
    roles.role_name,
    quote_ident(roles.role_name) as quoted_name,
    pg_roles.oid is not null as is_there,
    coalesce(pg_roles.rolsuper or pg_roles.rolbypassrls, false) as is_too_mighty,
    case
        when pg_roles.oid is not null
            then array(select analytics.missing_privileges(roles.purpose, roles.role_name))
        else '{}'
    end as missing
from analytics.roles
left join pg_roles on roles.role_name = pg_roles.rolname
order by roles.purpose
"""
_OPENED: Final = """
select
    array(select analytics.open_to_public()) as objects,
    coalesce(
        (
            select quote_ident(pg_namespace.nspname)
            from pg_namespace
            cross join lateral aclexplode(
                coalesce(pg_namespace.nspacl, acldefault('n', pg_namespace.nspowner))
            ) as given
            where
                pg_namespace.nspname = %s
                and given.grantee = 0
                and given.privilege_type = 'CREATE'
        ),
        ''
    ) as source_schema
"""
# Of the login, whatever role it has taken.
_LOGIN: Final = """
select
    quote_ident(pg_roles.rolname) as name,
    pg_roles.rolsuper or pg_roles.rolbypassrls as is_too_mighty,
    (
        select quote_ident(roles.role_name)
        from analytics.roles
        where roles.purpose = 'builder'
    ) as builder
from pg_roles
where pg_roles.rolname = session_user
"""


async def roles(connection: Connection, settings: Settings, _limits: Limits) -> list[Finding]:
    """Whether each role is there and as it was made; what PUBLIC has, and this login."""
    known = await all_rows(connection, _ROLES)
    opened = await one_row(connection, _OPENED, [settings.source_schema])
    login = await one_row(connection, _LOGIN)
    findings = [*_of_roles(known), *_of_public(opened)]
    if not known:
        findings.append(
            Finding(
                "roles.none",
                Severity.OK,
                "roles",
                "None: one login does everything, and whoever has it can do everything. They are "
                "made by `session-analytics migrate` with a login that has CREATEROLE.",
            )
        )
    if not findings:
        findings.append(
            Finding(
                "roles",
                Severity.OK,
                "roles",
                "Each is there, has what it needs and is no superuser; PUBLIC has nothing.",
            )
        )
    return [*findings, *_of_login(login)]


def _of_roles(known: Sequence[Any]) -> Iterator[Finding]:
    there = {role.purpose for role in known if role.is_there}
    missing = [purpose.value for purpose in Purpose if purpose not in there]
    if known and missing:
        yield Finding(
            "roles.missing",
            Severity.WARNING,
            "roles are missing",
            f"None for {_listed(missing)}: who does that work needs a login that may more.",
            f"{_MIGRATE} with a login that has CREATEROLE.",
        )
    mighty = [role for role in known if role.is_too_mighty]
    if mighty:
        statements = " ".join(
            f"alter role {role.quoted_name} nosuperuser nobypassrls;" for role in mighty
        )
        yield Finding(
            "roles.too_mighty",
            Severity.WARNING,
            "roles may too much",
            f"{_listed([role.role_name for role in mighty])}: superuser, or passes row security "
            "by. No grant limits what its members do.",
            f"Run in psql: {statements}",
        )
    for role in known:
        if role.missing:
            yield Finding(
                "roles.privileges",
                Severity.WARNING,
                "a role lacks privileges",
                f"{role.role_name}: {_listed(role.missing)}. What needs them is refused.",
                f"{_MIGRATE}.",
            )


def _of_public(opened: Any) -> Iterator[Finding]:
    if opened.objects:
        yield Finding(
            "roles.public",
            Severity.WARNING,
            "open to everybody",
            f"PUBLIC, which is every login, has privileges on {_listed(opened.objects)}.",
            f"{_MIGRATE}, which takes them back.",
        )
    if opened.source_schema:
        yield Finding(
            "roles.source_schema",
            Severity.WARNING,
            "everybody may create in the source schema",
            f"What PUBLIC makes in {opened.source_schema} could be found by functions that run "
            "with their owner's rights.",
            f"Run in psql: revoke create on schema {opened.source_schema} from PUBLIC;",
        )


def _of_login(login: Any) -> Iterator[Finding]:
    # Where there are no roles, there is none that a lesser login could be given.
    if login.is_too_mighty and login.builder is not None:
        yield Finding(
            "login",
            Severity.WARNING,
            "this login may too much",
            f"{login.name}: superuser, or passes row security by. Whoever has it has the server.",
            "Let SESSION_ANALYTICS_BUILDER_URL name a login that is neither, and a member of "
            f"{login.builder}.",
        )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
