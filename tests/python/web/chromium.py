"""A real browser without a window, spoken to over the Chrome DevTools Protocol."""

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    # Whatever a page may try, no other host has an address.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
PATIENCE = 60.0
KEYS = {
    "Enter": {"code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
    "Tab": {"code": "Tab", "windowsVirtualKeyCode": 9},
    "Escape": {"code": "Escape", "windowsVirtualKeyCode": 27},
    "ArrowLeft": {"code": "ArrowLeft", "windowsVirtualKeyCode": 37},
    "ArrowUp": {"code": "ArrowUp", "windowsVirtualKeyCode": 38},
    "ArrowRight": {"code": "ArrowRight", "windowsVirtualKeyCode": 39},
    "ArrowDown": {"code": "ArrowDown", "windowsVirtualKeyCode": 40},
    "Home": {"code": "Home", "windowsVirtualKeyCode": 36},
    "End": {"code": "End", "windowsVirtualKeyCode": 35},
}


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class NavigatedError(Exception):
    """The page that an expression was for has given way to another one."""


class Tab:
    """One page, and everything that it asked for and complained of."""

    def __init__(self, connection: ClientConnection, timezone: str) -> None:
        self._connection = connection
        self._timezone = timezone
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.frames: list[str] = []
        self.bytes = 0
        self._session: str | None = None

    async def open(self) -> None:
        target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.send(f"{domain}.enable")
        await self.send("Emulation.setTimezoneOverride", timezoneId=self._timezone)
        await self.window(1280, 900)

    async def listen(self) -> None:
        with suppress(ConnectionClosed):
            async for text in self._connection:
                message = json.loads(text)
                if "id" in message:
                    self._answers.pop(message["id"]).set_result(message)
                else:
                    self._hear(message["method"], message["params"])

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.webSocketCreated":
                self.requests.append(params["url"])
            case "Network.webSocketFrameReceived":
                self.frames.append(params["response"]["payloadData"])
            case "Network.loadingFinished":
                self.bytes += int(params["encodedDataLength"])
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in {"error", "warning", "assert"}:
                self.complaints.append(json.dumps(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(json.dumps(params["entry"]))

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        await self._connection.send(json.dumps(message))
        async with asyncio.timeout(PATIENCE):
            found = await answer
        if "error" in found and "navigated" in found["error"]["message"]:
            raise NavigatedError(found["error"]["message"])
        assert "error" not in found, found
        result: dict[str, Any] = found["result"]
        return result

    async def goto(self, url: str) -> None:
        self._loaded.clear()
        await self.send("Page.navigate", url=url)
        async with asyncio.timeout(PATIENCE):
            await self._loaded.wait()

    async def value(self, expression: str) -> Any:
        """What an expression, or the promise that it is, comes to."""
        found = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait in the page, frame by frame, until a condition holds there, or in the next page."""
        look = (
            "new Promise((resolve, reject) => {"
            f"const give_up = performance.now() + {PATIENCE * 1000 / 2};"
            f"const look = () => {{ if ({condition}) resolve(performance.now());"
            "else if (performance.now() > give_up) reject(new Error("
            f"{json.dumps(condition)} + ' never came: ' + document.body.innerText.slice(0, 600)));"
            "else requestAnimationFrame(look); }; look(); })"
        )
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.value(look)
                    return
                except NavigatedError:
                    # The page that was looked at is gone; what is asked for is on the next one.
                    await asyncio.sleep(0)

    async def press(self, key: str, modifiers: int = 0) -> None:
        given = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, modifiers=modifiers, **given
            )

    async def type(self, text: str) -> None:
        await self.send("Input.insertText", text=text)

    async def point(self, x: float, y: float) -> None:
        await self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def window(self, width: int, height: int) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def scheme(self, name: str) -> None:
        await self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": name}],
        )

    async def screenshot(self, *, whole: bool = False) -> bytes:
        found = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(found["data"])


@asynccontextmanager
async def browsing(folder: Path, timezone: str = "Europe/Athens") -> AsyncIterator[Tab]:
    """A new browser with nothing in it, for as long as this lasts."""
    program = find_chromium()
    assert program is not None
    # Root has no sandbox.
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    process = await asyncio.create_subprocess_exec(
        program,
        *flags,
        f"--user-data-dir={folder}",
        "about:blank",
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        url = None
        async with asyncio.timeout(PATIENCE):
            while url is None:
                line = (await process.stderr.readline()).decode(errors="replace")
                assert line, "the browser ended"
                found = re.search(r"DevTools listening on (ws://\S+)", line)
                url = found[1] if found else None
        drain = asyncio.create_task(process.stderr.read())
        async with connect(url, max_size=None, proxy=None) as connection:
            tab = Tab(connection, timezone)
            listening = asyncio.create_task(tab.listen())
            await tab.open()
            try:
                yield tab
            finally:
                listening.cancel()
        drain.cancel()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
