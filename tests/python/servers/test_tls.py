"""A connection that is encrypted and whose other end is who it should be."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.conninfo import make_conninfo

from fiml.database import Database
from fiml.errors import DatabaseUnavailableError
from fiml.local_server import LocalServer
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.migrations import migrate
from fiml.settings import Settings
from fiml.warehouse._dbt import dbt_arguments, dbt_environment, run_dbt
from fiml.warehouse.builds import build

pytestmark = pytest.mark.anyio

NAME = "localhost"


@dataclass(frozen=True)
class Encrypted:
    """A server with a certificate for NAME, signed by itself."""

    server: LocalServer
    certificate: Path

    def conninfo(self, host: str, certificate: Path | None = None) -> str:
        return make_conninfo(
            self.server.conninfo(),
            host=host,
            sslmode="verify-full",
            sslrootcert=str(certificate or self.certificate),
        )


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for a name, and its key: two files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    public, private = folder / "server.crt", folder / "server.key"
    public.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return public, private


@pytest.fixture
def encrypted(start_server: Callable[..., LocalServer], tmp_path: Path) -> Encrypted:
    server = start_server()
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        row = connection.execute("show data_directory").fetchone()
        assert row is not None
        data = Path(row[0])
        public, private = certificate(tmp_path, NAME)
        for made in (public, private):
            # Where the server may read it, and nobody else the key.
            there = data / made.name
            there.touch(mode=0o600)
            there.write_bytes(made.read_bytes())
            os.chown(there, data.stat().st_uid, data.stat().st_gid)
        connection.execute("alter system set ssl = on")
        connection.execute("select pg_reload_conf()")
    # The postmaster reads it when it comes to it.
    deadline = monotonic() + 60
    while True:
        try:
            migrate(make_conninfo(server.conninfo(), sslmode="require"))
            break
        except DatabaseUnavailableError:
            assert monotonic() < deadline
    return Encrypted(server, public)


async def test_everything_works_over_a_verified_connection(encrypted: Encrypted) -> None:
    settings = Settings(conninfo=encrypted.conninfo(NAME))
    build(settings)
    async with Database(settings) as database:
        assert (await SessionAnalytics(database).get_session_stats())["status"] == "success"

        async def is_encrypted(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> object:
            cursor = await connection.execute(
                "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
            )
            row = await cursor.fetchone()
            return row and row[0]

        assert await database.run(is_encrypted) is True


async def test_a_server_of_another_name_is_refused(encrypted: Encrypted) -> None:
    with pytest.raises(DatabaseUnavailableError, match="does not match host name"):
        await Database(Settings(conninfo=encrypted.conninfo("127.0.0.1"))).open()


async def test_dbt_refuses_a_server_of_another_name(encrypted: Encrypted, tmp_path: Path) -> None:
    """By itself: a build would not come as far as dbt."""
    told: list[str] = []
    settings = Settings(conninfo=encrypted.conninfo("127.0.0.1"))
    arguments = dbt_arguments(["build"], project_dir=settings.project_dir, target_path=tmp_path)
    code = run_dbt(
        arguments,
        dbt_environment(settings),
        settings.project_dir,
        lambda event: told.append(event.message),
    )
    assert code != 0
    assert "does not match host name" in "".join(told)


async def test_a_server_that_somebody_else_signed_is_refused(
    encrypted: Encrypted, tmp_path: Path
) -> None:
    another, _ = certificate(tmp_path / "another", NAME)
    with pytest.raises(DatabaseUnavailableError, match="certificate verify failed"):
        await Database(Settings(conninfo=encrypted.conninfo(NAME, another))).open()
