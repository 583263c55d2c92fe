"""A way to a server that can be closed, or go silent, and be opened again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Gateway:
    """Forwards to a server until it is closed (refuses) or silent (accepts and passes nothing on).

    The target may change: a server that starts again need not have the port it had.
    """

    def __init__(self, conninfo: str | None) -> None:
        """Without a server nobody ever answers."""
        self.target = conninfo
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._may_pass = asyncio.Event()
        if conninfo is not None:
            self._may_pass.set()

    def conninfo(self) -> str:
        return make_conninfo(
            self.target or "dbname=nowhere user=nobody",
            host="127.0.0.1",
            port=self._port,
            sslmode="disable",
            gssencmode="disable",
        )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Break every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        pumps, self._pumps = self._pumps, set()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        writers, self._writers = self._writers, set()
        for writer in writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        if self._server is not None:
            await self._server.wait_closed()

    def fall_silent(self) -> None:
        self._may_pass.clear()

    def speak_again(self) -> None:
        self._may_pass.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pumps.add(task)
        self._writers.add(writer)
        with suppress(OSError, asyncio.CancelledError):
            await self._may_pass.wait()
            target = conninfo_to_dict(self.target or "")
            host, port = str(target.get("host", "127.0.0.1")), target.get("port", 5432)
            if host.startswith("/"):
                upstream = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            else:
                upstream = await asyncio.open_connection(host, int(port))
            self._writers.add(upstream[1])
            await asyncio.gather(self._pump(reader, upstream[1]), self._pump(upstream[0], writer))
        self._pumps.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            await self._may_pass.wait()
            sink.write(data)
            await sink.drain()
        sink.close()
