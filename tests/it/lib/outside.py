"""Providers of outside accounts (OpenID Connect): oidc-provider (npm) in a process of its own, and one that answers whatever a test says."""
import base64
import hashlib
import html
import http.server
import json
import os
import re
import ssl
import subprocess
import threading
import time
import urllib.parse

import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .browser import WEB, driver


def query(url):
    return dict(urllib.parse.parse_qsl(urllib.parse.urlparse(url).query))


class Provider:
    """A real one. Its log-in page takes any name."""

    def __init__(self, clients):
        driver()  # brings what npm has to bring
        self.process = subprocess.Popen(["node", os.path.join(WEB, "provider.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.process.stdin.write(json.dumps({"clients": clients}) + "\n")
        self.process.stdin.flush()
        self.issuer = json.loads(self.process.stdout.readline())["issuer"]

    def go(self, begun, who):
        """What a person does in a browser, page by page: logs in as `who`, says yes. What comes back to the app."""
        browser = requests.Session()
        browser.trust_env = False
        reply = browser.get(begun["authorization_url"], timeout=30, allow_redirects=False)
        for _ in range(12):
            if reply.is_redirect:
                to = urllib.parse.urljoin(reply.url, reply.headers["Location"])
                if to.startswith(begun["redirect_uri"] + "?"):
                    return query(to)
                reply = browser.get(to, timeout=30, allow_redirects=False)
                continue
            assert reply.ok, reply.text
            form = re.search(r'<form[^>]*action="([^"]+)"', reply.text)
            assert form, reply.text
            fields = dict(re.findall(r'name="(prompt)" value="(\w+)"', reply.text))
            reply = browser.post(urllib.parse.urljoin(reply.url, html.unescape(form[1])), data={**fields, "login": who, "password": "any"}, timeout=30, allow_redirects=False)
        raise AssertionError("the provider sends its visitors round in circles")

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()


def number(n):
    return b64(n.to_bytes((n.bit_length() + 7) // 8, "big"))


class Key:
    """A key of a provider, by which tests sign what no library would."""

    def __init__(self, kid, kind="RS256"):
        self.kid, self.kind = kid, kind
        self.private = rsa.generate_private_key(65537, 2048) if kind == "RS256" else ec.generate_private_key(ec.SECP256R1())

    def jwk(self):
        public = self.private.public_key().public_numbers()
        if self.kind == "RS256":
            return {"kty": "RSA", "kid": self.kid, "alg": "RS256", "use": "sig", "n": number(public.n), "e": number(public.e)}
        return {"kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "x": b64(public.x.to_bytes(32, "big")), "y": b64(public.y.to_bytes(32, "big"))}

    def token(self, claims, **header):
        signed = b64({"alg": self.kind, "kid": self.kid, **header}) + "." + b64(claims)
        if self.kind == "RS256":
            made = self.private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = decode_dss_signature(self.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
            made = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return signed + "." + b64(made)


class Scripted:
    """A provider that does what the test says. Nobody logs in there: a test makes up the code, and `claims` and `replies` say what is answered for it."""

    def __init__(self, client_id="porch", clock=None, cert=None):
        self.client_id, self.clock = client_id, clock
        self.keys = [Key("k1")]
        self.replies = {}  # path: function of the form to (status, body) or (status, body, headers)
        self.asked = []    # (path, form, Authorization)
        handler = type("Handler", (self._Handler,), {"provider": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        if cert:  # (certificate, key): it speaks TLS
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*cert)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.issuer = f"{'https' if cert else 'http'}://127.0.0.1:{self.server.server_port}"
        self.metadata = {"issuer": self.issuer, "authorization_endpoint": self.issuer + "/auth?tenant=1", "token_endpoint": self.issuer + "/token", "jwks_uri": self.issuer + "/jwks"}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    class _Handler(http.server.BaseHTTPRequestHandler):
        provider = None

        def answer(self, form):
            path = self.path.split("?")[0]
            self.provider.asked.append((path, form, self.headers.get("Authorization")))
            status, body, *headers = self.provider.reply(path, form)
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers[0] if headers else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                pass  # it was cut off, as a test may want

        def do_GET(self):
            self.answer({})

        def do_POST(self):
            self.answer(dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode())))

        def log_message(self, *_):
            pass

    def reply(self, path, form):
        if path in self.replies:
            return self.replies[path](form)
        if path == "/.well-known/openid-configuration":
            return 200, self.metadata
        if path == "/jwks":
            return 200, {"keys": [k.jwk() for k in self.keys]}
        return 404, {}

    def now(self):
        return time.time() + (self.clock.offset if self.clock else 0)

    def claims(self, begun, **changes):
        """Those of a good ID token for what was begun; a change of None leaves one out."""
        good = {"iss": self.issuer, "aud": self.client_id, "sub": "someone", "exp": int(self.now()) + 300, "iat": int(self.now()), "nonce": query(begun["authorization_url"])["nonce"]}
        return {k: v for k, v in {**good, **changes}.items() if v is not None}

    def gives(self, token, **more):
        """What the token endpoint answers from now on."""
        self.replies["/token"] = lambda form: (200, {"token_type": "Bearer", "access_token": "at", "id_token": token, **more})

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def left_half(text):
    return b64(hashlib.sha256(text.encode()).digest()[:16])
