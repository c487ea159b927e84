"""A simulated hub (or hubless camera) on the real gateway: speaks porchlight.hub.v1 with a factory key, step by step as a test wants it.

    with SimHub(porch, serial, key) as hub:
        hub.hello()                       proves itself; self.welcome is the answer
        hub.prove(claim)                  signs the claim's challenge
        hub.expect("bound")["device_id"]

It answers nothing by itself but the WebSocket's pings: what a test does not write does not happen."""
import base64
import json
import threading
import time
import uuid

import nacl.signing
import websockets
import websockets.sync.client  # noqa: F401

DEADLINE = 20.0
SUITES = ["AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"]


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
