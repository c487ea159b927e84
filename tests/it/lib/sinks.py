"""Where messages go in tests: a real SMTP server and a webhook, both on 127.0.0.1, both remembering what came."""
import email
import email.policy
import hashlib
import hmac
import http.server
import json
import re
import socket
import ssl
import threading
import uuid

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

DEADLINE = 20.0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Sink:
    """Messages in the order in which they came; each is a dict with `to`, `text`, `pin` and more."""

    def __init__(self):
        self.messages = []
        self._came = threading.Condition()
        self.refuse = None  # a status or SMTP reply that is given instead of taking the message

    def put(self, message):
        with self._came:
            self.messages.append(message)
            self._came.notify_all()

    def count(self, to):
        with self._came:
            return sum(m["to"] == to for m in self.messages)

    def wait(self, to, after=0, deadline=DEADLINE, which=lambda m: True):
        """The first message to `to` beyond the first `after` ones that `which` likes."""
        def find():
            mine = [m for m in self.messages if m["to"] == to]
            return next((m for m in mine[after:] if which(m)), None)
        with self._came:
            if not self._came.wait_for(find, deadline):
                raise AssertionError(f"no message to {to} within {deadline:g} s; there are {[(m['to'], m.get('subject')) for m in self.messages[-5:]]}")
            return find()

    def pin(self, to, after=0, deadline=DEADLINE):
        """The PIN of the first message with one beyond the first `after` messages to `to`."""
        return self.wait(to, after, deadline, lambda m: m["pin"])["pin"]


class MailSink(Sink):
    """cert: (certificate, key), and then TLS, by STARTTLS or from the first byte. login: (user, password) as bytes, without which it takes nothing."""

    def __init__(self, cert=None, implicit=False, login=None, port=None):
        super().__init__()
        self.port = port or free_port()
        tls, options = None, {}
        if cert:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(*cert)
        if login:
            options = {"auth_required": True, "authenticator": lambda server, session, envelope, mechanism, data: AuthResult(success=(data.login, data.password) == login),
                       "auth_require_tls": cert is not None and not implicit}
        if implicit:
            self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ssl_context=tls, **options)
        else:
            self._controller = Controller(self, hostname="127.0.0.1", port=self.port, tls_context=tls, **options)
        self._controller.start()
        self.url = f"{'smtps' if implicit else 'smtp'}://127.0.0.1:{self.port}"

    async def handle_DATA(self, server, session, envelope):
        if self.refuse:
            return self.refuse
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = mail.get_body(preferencelist=("plain", "html"))
        text = body.get_content() if body else ""
        pin = re.search(r"(?<!\w)\d{6}(?!\w)", text)  # not the digits of an address
        for to in envelope.rcpt_tos:
            self.put({"to": to, "from": envelope.mail_from, "subject": str(mail["subject"]), "text": text, "pin": pin and pin.group(), "headers": dict(mail.items()),
                      "raw": envelope.content, "tls": server.transport.get_extra_info("ssl_object") is not None})
        return "250 taken"

    def close(self):
        self._controller.stop()


class SmsSink(Sink):
    def __init__(self):
        super().__init__()
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status = sink.refuse or 200
                if not sink.refuse:
                    sink.put(dict(json.loads(body), raw=body, headers=dict(self.headers.items())))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *unused):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/sms"

    def heard(self, porch, message, event="key", key="1", at=0, signed=lambda t, body: f"{t}.callback.".encode() + body, **how):
        """As the provider of calls: tells that a key was pressed, or that the call is over. The reply, whose signature is checked, says what to say next."""
        body = json.dumps({"id": message["id"], "event": event, "nonce": uuid.uuid4().hex, **({"key": key} if event == "key" else {})}).encode()
        t = int(porch.clock.now() + at)
        mac = hmac.new(porch.webhook_key(), signed(t, body), hashlib.sha256).hexdigest()
        return self.asked(porch, body, f"t={t},v1={mac}", **how)

    @staticmethod
    def asked(porch, body, signature, **how):
        """A question as it is."""
        reply = porch.api().call("POST", "/v1/voice-calls", body, headers={"Porchlight-Signature": signature}, **how)
        if reply.status < 300:
            t, v1 = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", reply.headers["Porchlight-Signature"]).groups()
            text = json.dumps(reply.body, ensure_ascii=False, separators=(",", ":")) if reply.body else ""
            mac = hmac.new(porch.webhook_key(), f"{t}.answer.{signature[-64:]}.{text}".encode(), hashlib.sha256)
            assert mac.hexdigest() == v1 and abs(int(t) - porch.clock.now()) < 60
        return reply

    @staticmethod
    def said(reply):
        """The PIN in what a call says, which must say it twice."""
        twice = re.findall(r"\d(?:, \d){5}", reply.ok(200)["text"])
        assert len(twice) == 2 and twice[0] == twice[1], reply.body
        return twice[0].replace(", ", "")

    def close(self):
        self._server.shutdown()
        self._server.server_close()
