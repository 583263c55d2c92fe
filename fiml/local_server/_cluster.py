"""The database cluster: where it is, whose it is, which binaries fit it, how it is made."""

import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from fiml.errors import LocalServerError
from fiml.local_server._account import Account, account_to_use
from fiml.local_server._binaries import Binaries, find_binaries
from fiml.local_server._child import start_child
from fiml.local_server._home import Home

USER = "postgres"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that can be started."""

    folder: Path
    binaries: Binaries
    account: Account | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def password(self) -> str:
        return read_password(self.folder)


def read_password(cluster_folder: Path) -> str:
    return (cluster_folder / "password").read_text()


def prepare_cluster(home: Home, *, durable: bool) -> Cluster:
    """Return the home's cluster, made by initdb when there is none. The keeper's lock is held.

    Raises LocalServerError when it cannot be made or used.
    """
    account = account_to_use()
    base = _base_folder(home, account)
    folder = base / "cluster"
    if not folder.exists():
        binaries = _reachable(find_binaries()[0], account, base)
        _initdb(folder, binaries, account, durable=durable)
        return Cluster(folder, binaries, account)

    data = folder / "data"
    if account is not None:
        # An ordinary user may have made it, and PostgreSQL wants to run as its owner.
        owner = data.stat()
        account = replace(account, uid=owner.st_uid, gid=owner.st_gid)
    major = int((data / "PG_VERSION").read_text())
    fitting = [binaries for binaries in find_binaries() if binaries.major == major]
    if not fitting:
        raise LocalServerError(
            f"{data} was made by PostgreSQL {major}, which is no longer here; "
            f"install it again or remove {home.folder}"
        )
    return Cluster(folder, _reachable(fitting[0], account, base), account)


def _base_folder(home: Home, account: Account | None) -> Path:
    """Where the cluster is: in the home, or outside when the account cannot enter the home."""
    if home.elsewhere.exists():
        recorded = Path(home.elsewhere.read_text())
        # Other users can write where this folder is: one that root did not make is not ours.
        if recorded.is_dir() and not recorded.is_symlink() and recorded.owner() == "root":
            return recorded
    if account is None or account.can_enter(home.folder):
        return home.folder
    if (home.folder / "cluster").exists():
        raise LocalServerError(
            f"PostgreSQL runs as '{account.name}', not as root, and that user can no longer enter "
            f"{home.folder}; permit it again or remove that folder"
        )
    for candidate in dict.fromkeys((Path("/var/tmp"), Path(tempfile.gettempdir()))):  # noqa: S108
        if candidate.is_dir() and account.can_enter(candidate):
            folder = Path(tempfile.mkdtemp(prefix="session-analytics-", dir=candidate))
            folder.chmod(0o711)
            home.elsewhere.write_text(str(folder))
            return folder
    raise LocalServerError(
        f"PostgreSQL runs as '{account.name}', not as root, and that user can enter neither "
        f"{home.folder} nor a folder for temporary files; run this as an ordinary user, or set "
        "DATABASE_URL to a server that is running"
    )


def _reachable(binaries: Binaries, account: Account | None, base: Path) -> Binaries:
    """Return binaries that the account can run: these, or for embedded ones a copy."""
    if account is None or account.can_run(binaries.postgres):
        return binaries
    if binaries.source == "embedded":
        copy = base / f"binaries-{binaries.version}"
        if not copy.exists():
            _copy_embedded(binaries, copy)
        original = binaries.folder.parents[2]
        copied = replace(binaries, folder=copy / binaries.folder.relative_to(original))
        if account.can_run(copied.postgres):
            return copied
    raise LocalServerError(
        f"PostgreSQL runs as '{account.name}', not as root, and that user cannot run "
        f"{binaries.postgres}; run this as an ordinary user, or set DATABASE_URL to a server "
        "that is running"
    )


def _copy_embedded(binaries: Binaries, destination: Path) -> None:
    install = binaries.folder.parent
    package = install.parent
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=destination.parent))
    shutil.copytree(
        install,
        unfinished / package.name / install.name,
        symlinks=True,
        ignore=shutil.ignore_patterns("include"),
    )
    # The wheel's shared libraries lie beside its package, or inside it on macOS.
    for libraries in (*package.parent.glob(f"{package.name}.libs"), *package.glob(".dylibs")):
        shutil.copytree(libraries, unfinished / libraries.relative_to(package.parent))
    for path in (unfinished, *unfinished.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    unfinished.rename(destination)


def _initdb(folder: Path, binaries: Binaries, account: Account | None, *, durable: bool) -> None:
    # What an interrupted run left has no name that a later one looks for.
    for leftover in folder.parent.glob("unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
    try:
        data = unfinished / "data"
        data.mkdir(mode=0o700)
        password = unfinished / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        if account is not None:
            unfinished.chmod(0o711)
            account.own(data)
            account.own(password)
        with tempfile.TemporaryFile() as output:
            process = start_child(
                [
                    binaries.initdb,
                    f"--pgdata={data}",
                    f"--username={USER}",
                    f"--pwfile={password}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--no-instructions",
                    *([] if durable else ["--no-sync"]),
                ],
                account=account,
                folder=unfinished,
                output=output,
                signal_when_orphaned=signal.SIGKILL,
            )
            if process.wait() != 0:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise LocalServerError(f"{binaries.initdb} failed:\n{said}")
        if account is not None:
            password.chmod(0o600)
            shutil.chown(password, 0, 0)
        unfinished.rename(folder)
    except (OSError, subprocess.SubprocessError) as error:
        raise LocalServerError(f"no database cluster could be made in {folder}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
