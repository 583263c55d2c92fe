"""Dumping a database, and restoring it elsewhere."""

import subprocess

import psycopg

from fiml.local_server._binaries import find_binaries


def dump_and_restore(source: str, target: str) -> None:
    with psycopg.connect(source) as connection:
        major = connection.info.server_version // 10_000
    # A dump is made by programs no older than its server, and read by a server no older than them.
    folder = min(
        (found for found in find_binaries() if found.major >= major), key=lambda found: found.major
    ).folder
    dumped = subprocess.run(
        # Roles are the cluster's: where they are not, nothing can be granted to them.
        [folder / "pg_dump", "--no-owner", "--no-privileges", source],
        capture_output=True,
        check=True,
    )
    subprocess.run(
        [folder / "psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", target],
        input=dumped.stdout,
        capture_output=True,
        check=True,
    )
