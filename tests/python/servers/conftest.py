"""Servers of each kind that this machine has."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fiml.local_server import LocalServer, local_server, remove_local_server
from fiml.local_server._binaries import find_binaries


@pytest.fixture
def start_server(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., LocalServer]]:
    """Starts a server that ends with the test: `start_server(source) -> LocalServer`."""
    with ExitStack() as stack:

        def start(source: str | None = None) -> LocalServer:
            if source is not None:
                monkeypatch.setenv("SESSION_ANALYTICS_POSTGRES", source)
            home = Path(tmp_path_factory.mktemp("server")) / "server"
            stack.callback(remove_local_server, home)
            return stack.enter_context(local_server(home, durable=False))

        yield start


@pytest.fixture(scope="session")
def sources() -> list[str]:
    """The kinds of PostgreSQL that are here: the machine's own, the package's."""
    return list(dict.fromkeys(found.source for found in find_binaries()))
