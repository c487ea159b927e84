"""The event socket of an app (`/v1/events`): collects events on a thread; tests wait for the one that they mean."""
import asyncio
import json
import threading

import websockets

from . import codes
from .porch import trust, ws_url

DEADLINE = 20.0


class Events:
    """with Events(porch, token) as e: e.wait("live.state", lambda d: d["state"] == "live")"""

    def __init__(self, porch, token, cursor=None, protocol="porchlight.events.v1"):
        self.url, self.trust = ws_url(porch, "/v1/events"), trust(porch)
        self.protocol = protocol
        self.token, self.cursor = token, cursor
        self.events = []      # every message but `ready`, in order
        self.close_code = None
        self.close_reason = None
        self._came = threading.Condition()
        self._ready = False
        self._loop = asyncio.new_event_loop()
        self._socket = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        with self._came:
            if not self._came.wait_for(lambda: self._ready or self.close_code is not None, DEADLINE) or not self._ready:
                raise AssertionError(f"no `ready` on {self.url}: closed with {self.close_code} {self.close_reason}")
        return self

    def __exit__(self, *unused):
        if self._socket and self.close_code is None:
            asyncio.run_coroutine_threadsafe(self._socket.close(), self._loop)
        self._thread.join(DEADLINE)

    def _run(self):
        try:
            self._loop.run_until_complete(self._talk())
        finally:
            self._loop.close()

    async def _talk(self):
        try:
            async with websockets.connect(self.url, subprotocols=[self.protocol], open_timeout=DEADLINE, ping_interval=None, ssl=self.trust) as ws:
                self._socket = ws
                await ws.send(json.dumps({"type": "auth", "token": self.token, **({"cursor": self.cursor} if self.cursor is not None else {})}))
                async for text in ws:
                    message = json.loads(text)
                    codes.in_message(self.protocol, message)
                    self._take(message)
        except (OSError, asyncio.TimeoutError, websockets.exceptions.WebSocketException) as e:
            self._failed = e
        with self._came:
            ws = self._socket
            self.close_code = ws.close_code if ws else 0
            self.close_reason = ws.close_reason if ws else str(getattr(self, "_failed", ""))
            codes.in_close(self.protocol, self.close_code if ws else 0, self.close_reason)
            self._came.notify_all()

    def _take(self, message):
        with self._came:
            if message["type"] == "ready":
                self._ready = True
            else:
                self.events.append(message)
            if "cursor" in message:
                self.cursor = message["cursor"]
            self._came.notify_all()

    def send(self, message):
        asyncio.run_coroutine_threadsafe(self._socket.send(json.dumps(message)), self._loop).result(DEADLINE)

    def wait(self, name, which=lambda data: True, deadline=DEADLINE):
        """The first event of this name (its `event` member) whose data `which` likes."""
        def find():
            return next((e for e in self.events if e.get("event") == name and which(e.get("data") or {})), None)
        with self._came:
            if not self._came.wait_for(lambda: find() or self.close_code is not None, deadline) or not find():
                raise AssertionError(f"no event {name} within {deadline:g} s (closed: {self.close_code} {self.close_reason}); came: {self.events[-8:]}")
            return find()

    def closed(self, deadline=DEADLINE):
        """Waits until the server has closed the socket; the close code."""
        with self._came:
            if not self._came.wait_for(lambda: self.close_code is not None, deadline):
                raise AssertionError(f"the event socket was not closed within {deadline:g} s")
            return self.close_code
