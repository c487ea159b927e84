"""The cloud that the reference hub dials: a WebSocket server of a few lines, whose messages are held against proto/hub.asyncapi.yaml both ways."""
import asyncio
import base64
import json
import os
import subprocess

import jsonschema
import nacl.signing
import websockets
import yaml

from .household import AtHome, b64
from .openapi import ROOT
from .porch import BUILD

SEED = bytes(range(32))
DEADLINE = 20
# As the cloud gives it to the app.
CLAIM = {"id": "01a1fd7f-2100-7aaa-8bbb-0ccc0ddd0eee", "serial": "HUB00001", "challenge": "BOr3kFWdmqDzgLHsBWtfZQ",
         "public_key": b64(bytes(nacl.signing.SigningKey(SEED).verify_key))}

with open(os.path.join(ROOT, "proto", "hub.asyncapi.yaml"), encoding="utf-8") as f:
    DOC = yaml.safe_load(f)


def validator(name):
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": DOC["components"]})


def check(message, direction=None):
    """The message is of the documented form, and may go that way."""
    name = message["type"]
    validator(name).validate(message)
    if direction:
        assert {"$ref": f"#/channels/hub/messages/{name}"} in DOC["operations"][direction]["messages"], f"{name} does not go {direction}"


def example(name):
    return json.loads(json.dumps(DOC["components"]["messages"][name]["examples"][0]["payload"]))


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verify(signature, *lines):
    nacl.signing.SigningKey(SEED).verify_key.verify("\n".join(lines).encode(), unb64(signature))


class Cloud:
    """One connection of the hub: says hello with it, then hands on what it says."""

    def __init__(self, ws):
        self.ws = ws
        self.hello = None

    async def send(self, message):
        check(message, "toHub")
        await self.ws.send(json.dumps(message))

    async def get(self, name, **want):
        """The next message of this type with these members; others are checked and passed over."""
        while True:
            m = json.loads(await asyncio.wait_for(self.ws.recv(), DEADLINE))
            check(m, "fromHub")
            if m["type"] == name and all(m.get(k) == v for k, v in want.items()):
                return m

    async def welcome(self, **changes):
        challenge = example("challenge")
        await self.send(challenge)
        self.hello = await self.get("hello")
        verify(self.hello["signature"], "porchlight-hello-v1", self.hello["role"], self.hello["serial"], challenge["nonce"], challenge["server_name"])
        await self.send({**example("welcome"), "reconnect": {"min_s": 0, "max_s": 1}, **changes})
        return self


class Hub:
    """The reference hub as a process, and the server that it dials."""

    def __init__(self, tmp_path):
        self.dir = tmp_path
        self.process = None
        self.connections = asyncio.Queue()
        (tmp_path / "key").write_text(SEED.hex())

    async def open(self):
        async def serve(ws, *_):
            await self.connections.put(ws)
            await ws.wait_closed()

        self.server = await websockets.serve(serve, "127.0.0.1", 0, subprotocols=["porchlight.hub.v1"])
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def start(self, *more):
        log = open(self.dir / "hub.log", "ab")
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "hub", "porchlight-hub"), "--server", f"ws://127.0.0.1:{self.port}/hub/v1", "--serial", "HUB00001", "--key", str(self.dir / "key"),
             "--camera", "CAM00001=test", "--onboarding", "127.0.0.1:0", "--state", str(self.dir / "state"), *more], stdout=subprocess.PIPE, stderr=log, text=True)
        self.onboarding = json.loads(self.process.stdout.readline()).get("onboarding")

    async def connection(self):
        return Cloud(await asyncio.wait_for(self.connections.get(), DEADLINE))

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(DEADLINE) == 0

    def kill(self):
        self.process.kill()
        self.process.wait(DEADLINE)

    def app(self):
        return AtHome(self.onboarding)

    async def close(self):
        self.stop()
        self.server.close()
        await self.server.wait_closed()


def with_hub(tmp_path, story):
    async def run():
        hub = await Hub(tmp_path).open()
        try:
            await asyncio.wait_for(story(hub), 3 * DEADLINE)
        finally:
            await hub.close()

    asyncio.run(run())
