"""An installation with a login for each of its roles, and what the catalogue says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fiml.sessions.health import Finding, examine
from fiml.sessions.migrations import migrate
from fiml.sessions.roles import Purpose, role_names, roles_in_use
from fiml.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]

NOWHERE = "host=127.0.0.1 port=1 dbname=nowhere"
_PASSWORD = "a password of the tests"

# Explicit and default privileges alike; what an owner may do with what is its own says nothing.
PRIVILEGES = """
with roles as (
    select 0::oid as oid, 'PUBLIC' as purpose
    union all
    select pg_roles.oid, roles.purpose
    from analytics.roles
    inner join pg_roles on roles.role_name = pg_roles.rolname
),

objects as (
    select
        'schema ' || nspname as object,
        nspname as schema_name,
        nspowner as owner,
        coalesce(nspacl, acldefault('n', nspowner)) as acl
    from pg_namespace
    union all
    select
        case relkind when 'v' then 'view ' else 'table ' end || nspname || '.' || relname,
        nspname,
        relowner,
        coalesce(relacl, acldefault('r', relowner))
    from pg_class
    inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
    where relkind in ('r', 'p', 'v', 'm', 'f')
    union all
    select
        'sequence ' || nspname || '.' || relname,
        nspname,
        relowner,
        coalesce(relacl, acldefault('s', relowner))
    from pg_class
    inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
    where relkind = 'S'
    union all
    select
        'column ' || nspname || '.' || relname || '.' || attname,
        nspname,
        null,
        attacl
    from pg_attribute
    inner join pg_class on pg_attribute.attrelid = pg_class.oid
    inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
    where attacl is not null and attnum > 0
    union all
    select
        'function ' || nspname || '.' || proname || '('
        || pg_get_function_identity_arguments(pg_proc.oid) || ')'
        || case when prosecdef then ' with its owner''s rights' else '' end,
        nspname,
        proowner,
        coalesce(proacl, acldefault('f', proowner))
    from pg_proc
    inner join pg_namespace on pg_proc.pronamespace = pg_namespace.oid
)

select
    objects.object,
    coalesce(owners.purpose, 'nobody of ours') as owner,
    (
        select string_agg(given.purpose || ' ' || given.privileges, '; ' order by given.purpose)
        from (
            select
                roles.purpose,
                string_agg(
                    lower(privilege_type)
                    || case when is_grantable then ' with grant option' else '' end,
                    ', ' order by privilege_type
                ) as privileges
            from aclexplode(objects.acl)
            inner join roles on grantee = roles.oid
            where grantee is distinct from objects.owner
            group by roles.purpose
        ) as given
    ) as privileges,
    objects.owner is null as is_column
from objects
left join roles as owners on objects.owner = owners.oid
where
    objects.schema_name in ('analytics', 'marts', 'serving')
    or objects.schema_name = (select source_schema from analytics.settings)
order by objects.object collate "C"
"""


@dataclass(frozen=True)
class Installation:
    """A migrated database, and a login for each of its roles."""

    name: str
    superuser: str

    def conninfo(self, *purposes: Purpose) -> str:
        """The conninfo of the login that is a member of just these roles."""
        return make_conninfo(self.superuser, user=self.login(*purposes), password=_PASSWORD)

    def login(self, *purposes: Purpose) -> str:
        return f"{self.name}_{'_'.join(purposes)}"

    def settings(self, *purposes: Purpose) -> Settings:
        return Settings(conninfo=self.conninfo(*purposes), timeout_seconds=30)

    def environment(self) -> dict[str, str]:
        """What names a login for each purpose; DATABASE_URL leads nowhere."""
        return {
            "DATABASE_URL": NOWHERE,
            "SESSION_ANALYTICS_APP_URL": self.conninfo(Purpose.APP),
            "SESSION_ANALYTICS_BUILDER_URL": self.conninfo(Purpose.BUILDER),
            "SESSION_ANALYTICS_READER_URL": self.conninfo(Purpose.READER),
        }

    @contextmanager
    def connected(self, *purposes: Purpose) -> Iterator[Connection]:
        """A connection in autocommit; of the superuser where no purpose is named."""
        conninfo = self.conninfo(*purposes) if purposes else self.superuser
        with psycopg.connect(conninfo, autocommit=True) as connection:
            yield connection

    def make_login(self, *purposes: Purpose) -> None:
        with self.connected() as connection:
            roles = roles_in_use(connection)
            connection.execute(
                sql.SQL("create role {} login password {} in role {}").format(
                    sql.Identifier(self.login(*purposes)),
                    sql.Literal(_PASSWORD),
                    sql.SQL(", ").join(sql.Identifier(roles[purpose]) for purpose in purposes),
                )
            )

    def drop_logins(self, maintenance: str) -> None:
        """Drop every login that was made, after the database was."""
        with psycopg.connect(maintenance, autocommit=True) as connection:
            drop_roles(connection, f"{self.name}_")


@contextmanager
def installed(superuser: str) -> Iterator[Installation]:
    """Migrate a database that is there, with a login for each purpose while the block runs."""
    name = str(conninfo_to_dict(superuser)["dbname"])
    installation = Installation(name, superuser)
    migrate(superuser)
    for purpose in Purpose:
        installation.make_login(purpose)
    installation.make_login(Purpose.APP, Purpose.READER)
    # Settings are of logins: made when the next migration, of nothing, finds them.
    migrate(superuser)
    yield installation


def drop_roles(connection: Connection, prefix: str) -> None:
    for (name,) in connection.execute(
        "select rolname from pg_roles where starts_with(rolname, %s)", [prefix]
    ).fetchall():
        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


def privileges(connection: Connection) -> str:
    """A line for each object of ours, or column, with who may do what with it."""
    lines = []
    for described, owner, given, is_column in connection.execute(PRIVILEGES).fetchall():
        if is_column and given is None:
            continue
        whose = "" if is_column else f", of {owner}"
        lines.append(f"{described}{whose}: {given or '-'}")
    return "\n".join(lines) + "\n"


def relations(connection: Connection) -> list[str]:
    """Every relation of ours and of the application, qualified."""
    return [
        name
        for (name,) in connection.execute(
            """
            select pg_class.oid::regclass::text
            from pg_class
            inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
            where nspname in ('analytics', 'marts', 'serving', 'public') and relkind in ('r', 'v')
            order by 1
            """
        ).fetchall()
    ]


def one(connection: Connection, query: LiteralString, *parameters: object) -> Any:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def own_names(name: str) -> list[str]:
    """The names of the roles that a database gets by default."""
    return list(role_names(name).values())


def findings_on_roles(conninfo: str) -> dict[str, Finding]:
    """What `doctor` says of roles with this login."""
    return {
        finding.code: finding
        for finding in asyncio.run(examine(Settings(conninfo=conninfo)))
        if finding.code.partition(".")[0] == "roles"
    }
