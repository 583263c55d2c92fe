"""A connection to PostgreSQL that breaks at a chosen moment."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class BreakingProxy:
    """Forwards to a server, and breaks one connection in place of passing an answer on.

    The answer is there: what the client asked for has happened, and the client never hears of it.
    """

    def __init__(self, conninfo: str) -> None:
        self._target = conninfo_to_dict(conninfo)
        self._conninfo = conninfo
        self._writers: list[asyncio.StreamWriter] = []
        self.break_at: bytes | None = None
        self.broken = 0

    @property
    def conninfo(self) -> str:
        host, port = self._server.sockets[0].getsockname()[:2]
        return make_conninfo(
            self._conninfo, host=host, port=port, sslmode="disable", gssencmode="disable"
        )

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = str(self._target.get("host", "127.0.0.1")), self._target.get("port", 5432)
        if host.startswith("/"):
            upstream = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            upstream = await asyncio.open_connection(host, int(port))
        self._writers += [writer, upstream[1]]
        with suppress(OSError):
            await asyncio.gather(
                self._pump(reader, upstream[1]), self._pump(upstream[0], writer, is_answer=True)
            )

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        while data := await source.read(65_536):
            if is_answer and self.break_at is not None and self.break_at in data:
                self.break_at = None
                self.broken += 1
                break
            sink.write(data)
            await sink.drain()
        sink.close()
