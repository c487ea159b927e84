"""A passkey's device in software, written from W3C WebAuthn Level 3 and RFC 9052 with libraries that the server does not use."""
import base64
import hashlib
import json
import os
import struct

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Device:
    """One credential. `algorithm`: COSE's -7, -8 or -257."""

    def __init__(self, rp_id, origin, algorithm=-7):
        self.rp_id, self.origin, self.algorithm = rp_id, origin, algorithm
        self.id, self.count, self.counts = os.urandom(32), 0, True
        self.key = {-7: lambda: ec.generate_private_key(ec.SECP256R1()), -8: ed25519.Ed25519PrivateKey.generate,
                    -257: lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)}[algorithm]()

    def _cose(self):
        public = self.key.public_key()
        if self.algorithm == -7:
            n = public.public_numbers()
            return {1: 2, 3: -7, -1: 1, -2: n.x.to_bytes(32, "big"), -3: n.y.to_bytes(32, "big")}
        if self.algorithm == -8:
            return {1: 1, 3: -8, -1: 6, -2: public.public_bytes_raw()} if hasattr(public, "public_bytes_raw") else {1: 1, 3: -8, -1: 6, -2: _raw(public)}
        n = public.public_numbers()
        return {1: 3, 3: -257, -1: n.n.to_bytes(256, "big"), -2: n.e.to_bytes(3, "big")}

    def _sign(self, data):
        if self.algorithm == -7:
            return self.key.sign(data, ec.ECDSA(hashes.SHA256()))
        return self.key.sign(data) if self.algorithm == -8 else self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def _client_data(self, kind, challenge, /, **change):
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False, **change}).encode()

    def make(self, options, *, flags=UP | UV, rp_id=None, kind="webauthn.create", **client):
        """RegistrationResponseJSON for PublicKeyCredentialCreationOptionsJSON."""
        head = hashlib.sha256((rp_id or self.rp_id).encode()).digest() + bytes([flags | AT]) + struct.pack(">I", self.count)
        auth = head + bytes(16) + struct.pack(">H", len(self.id)) + self.id + cbor2.dumps(self._cose())
        client_data = self._client_data(kind, options["challenge"], **client)
        return {"id": b64(self.id), "rawId": b64(self.id), "type": "public-key", "clientExtensionResults": {}, "authenticatorAttachment": "platform",
                "response": {"clientDataJSON": b64(client_data), "attestationObject": b64(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": auth})),
                             "authenticatorData": b64(auth), "transports": ["internal"], "publicKeyAlgorithm": self.algorithm}}

    def use(self, options, *, flags=UP | UV, rp_id=None, kind="webauthn.get", break_signature=False, **client):
        """AuthenticationResponseJSON for PublicKeyCredentialRequestOptionsJSON."""
        if self.counts:
            self.count += 1
        auth = hashlib.sha256((rp_id or self.rp_id).encode()).digest() + bytes([flags]) + struct.pack(">I", self.count)
        client_data = self._client_data(kind, options["challenge"], **client)
        signature = bytearray(self._sign(auth + hashlib.sha256(client_data).digest()))
        if break_signature:
            signature[-1] ^= 1
        return {"id": b64(self.id), "rawId": b64(self.id), "type": "public-key", "clientExtensionResults": {},
                "response": {"clientDataJSON": b64(client_data), "authenticatorData": b64(auth), "signature": b64(bytes(signature)), "userHandle": None}}


def _raw(public):
    from cryptography.hazmat.primitives import serialization
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
