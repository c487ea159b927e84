"""What a relay reports is not lost with the connection that it was said on. The relay is the real one, the cloud is played."""
import asyncio
import json
import uuid

import websockets
from lib.wait import DEADLINE
from simhub import b64
from test_relay_lock import Relay

LIVES = [str(uuid.uuid4()) for _ in range(3)]


def opened(live_id):
    return {"type": "session.open", "id": str(uuid.uuid4()), "live_id": live_id, "generation": 1, "expires_in_ms": 1,
            "source": {"ice": {"ufrag": live_id[-12:], "pwd": "p" * 24, "peer_ufrag": "peer"}, "suite": "AEAD_AES_128_GCM", "keys": {"receive": b64(bytes(28)), "send": b64(b"\1" * 28)},
                       "video": {"ssrc": 1, "payload_type": 96}, "audio": {"ssrc": 2, "payload_type": 97}}}


def test_reports_are_said_again_until_the_cloud_has_them(tmp_path):
    """Three sessions expire. The cloud dies without an answer, comes back and confirms the first, dies again: the other two come again, with their numbers, in order."""
    heard, done = [], asyncio.Event()

    async def serve(socket):
        mine, number = [], len(heard)
        heard.append(mine)
        await socket.send(json.dumps({"type": "challenge", "nonce": "bm9uY2Utbm9uY2Utbm9uY2U", "server_name": "porchlight"}))
        await socket.recv()
        await socket.send(json.dumps({"type": "welcome", "session": str(uuid.uuid4()), "server_time": "2026-01-01T00:00:00.000Z", "reconnect": {"min_s": 0.01, "max_s": 0.02}}))
        if number == 0:
            for live_id in LIVES:
                await socket.send(json.dumps(opened(live_id)))
        async for text in socket:
            message = json.loads(text)
            print(message)
            if message["type"] != "session.event":
                continue
            mine.append((message["seq"], message["live_id"], message["event"], message["code"]))
            if number == 1:
                await socket.send(json.dumps({"type": "session.heard", "seq": 1}))
            if len(mine) == (2 if number == 2 else 3):
                await asyncio.wait_for(await socket.ping(), DEADLINE)  # what was said before has arrived; one ping at a time: the library answers no second one while it owes a pong
                socket.transport.abort()
                break
        if number == 2:
            done.set()

    async def play():
        async with websockets.serve(serve, "127.0.0.1", 0, subprotocols=["porchlight.relay.v1"]) as server:
            relay = await asyncio.to_thread(Relay, tmp_path, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/relay/v1")
            try:
                await asyncio.wait_for(done.wait(), DEADLINE)
            except asyncio.TimeoutError:
                raise AssertionError(f"{heard} {relay.lines}")
            finally:
                await asyncio.to_thread(relay.end)

    asyncio.run(play())
    assert [seq for seq, *_ in heard[0]] == [1, 2, 3] and {live_id for _, live_id, *_ in heard[0]} == set(LIVES)
    assert {(event, code) for _, _, event, code in heard[0]} == {("ended", "expired")}
    assert heard[1] == heard[0] and heard[2][:2] == heard[0][1:]
