"""A viewer by aiortc (Debian's 1.4: SHA1_80 alone): decodes H.264 and Opus, reads the frame numbers (hub/strip.h), measures the tone.

    with AiortcViewer(api, whep_url) as viewer: viewer.watch(75)"""
import asyncio
import logging
import re
import threading

import numpy
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from cryptography.hazmat.bindings.openssl.binding import Binding

lib, ffi = Binding.lib, Binding.ffi
DEADLINE = 60.0
BLOCKS, LINES = 32, 16


def strip_number(luma):
    """The number on the first lines of a picture; None: none, or a damaged one."""
    width, word = luma.shape[1], 0
    for block in range(BLOCKS):
        start, end = block * width // BLOCKS, (block + 1) * width // BLOCKS
        margin = (end - start) // 4
        shade = luma[LINES // 4:LINES - LINES // 4, start + margin:end - margin].mean()
        if 85 < shade < 165:
            return None
        word = word << 1 | (shade >= 165)
    crc = 0xFF
    for byte in (word >> 24 & 0xFF, word >> 16 & 0xFF, word >> 8 & 0xFF):
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return word >> 8 if crc == word & 0xFF else None


def behind(net, answer):
    return re.sub(r"(a=candidate:\S+ \d+ udp \d+ )\S+ \d+", rf"\g<1>{net.host} {net.port}", answer, flags=re.I) if net else answer


class AiortcViewer:
    def __init__(self, api, whep_url, net=None):
        """`net`: a Netsim to the relay that its packets go through."""
        self.api, self.whep_url, self.net = api, whep_url, net
        self.numbers, self.frames, self.samples, self.rate = [], 0, [], 0
        self.loop = asyncio.new_event_loop()
        logging.getLogger("aiortc").setLevel(logging.ERROR)

    def __enter__(self):
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self._do(self._connect())
        return self

    def __exit__(self, *_):
        self._do(self.peer.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE)

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE)

    async def _connect(self):
        self.peer, self.enough = RTCPeerConnection(), asyncio.Event()
        for kind in ("video", "audio"):
            self.peer.addTransceiver(kind, direction="recvonly")
        self.peer.on("track", lambda track: asyncio.ensure_future(self._see(track) if track.kind == "video" else self._hear(track)))
        await self.peer.setLocalDescription(await self.peer.createOffer())
        reply = await self.loop.run_in_executor(None, lambda: self.api.call("POST", self.whep_url, self.peer.localDescription.sdp, headers={"Content-Type": "application/sdp"}))
        self.address = reply.ok(201).headers["Location"]
        await self.peer.setRemoteDescription(RTCSessionDescription(behind(self.net, reply.body), "answer"))

    async def _see(self, track):
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self.frames += 1
            self.numbers.append(strip_number(frame.to_ndarray(format="gray")))
            if self.frames >= self.want:
                self.enough.set()

    async def _hear(self, track):
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self.rate = frame.sample_rate
            self.samples = [*self.samples[-50:], frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0] / 32768]

    want = 1 << 30

    def watch(self, frames):
        """What it saw and heard by the time that so many frames were decoded."""
        async def wait():
            self.want = frames
            await asyncio.wait_for(self.enough.wait(), DEADLINE)
        self._do(wait())
        numbers = [n for n in self.numbers if n is not None]
        steps = [b - a for a, b in zip(numbers, numbers[1:])]
        sound = numpy.concatenate(self.samples)
        spectrum = numpy.abs(numpy.fft.rfft(sound * numpy.hanning(len(sound))))
        dtls = self.peer.getTransceivers()[0].receiver.transport
        profile = ffi.string(lib.SSL_get_selected_srtp_profile(dtls.ssl._ssl).name)
        return {"frames": self.frames, "damaged": self.numbers.count(None), "missing": sum(s - 1 for s in steps if s > 0), "backwards": sum(s <= 0 for s in steps),
                "hz": float(spectrum.argmax()) * self.rate / len(sound), "level": float(numpy.sqrt((sound ** 2).mean())),
                "cipher": {b"SRTP_AES128_CM_SHA1_80": "AES_CM_128_HMAC_SHA1_80", b"SRTP_AEAD_AES_128_GCM": "AEAD_AES_128_GCM"}.get(profile, profile)}
