"""The outbox against providers that misbehave: what is marked as sent was taken ("Nothing lost")."""
import json
import socketserver
import threading

import pytest

from lib import rest
from lib.wait import until


class TwiceAnswering(socketserver.ThreadingTCPServer):
    """A webhook whose second answer to a request comes late: on the wire just when the next request of that connection does, which it has not read."""
    allow_reuse_address = daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.taken = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/sms"

    class Handler(socketserver.StreamRequestHandler):
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

        def handle(self):
            length = 0
            while (line := self.rfile.readline().strip()):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = self.rfile.read(length)
            if not body:
                return
            message = json.loads(body)
            self.server.taken[message["to"]] = message["pin"]
            self.wfile.write(self.answer)
            if self.rfile.read(1):  # the connection is used again
                self.wfile.write(self.answer)


@pytest.fixture
def webhook():
    server = TwiceAnswering()
    yield server
    server.shutdown()
    server.server_close()


def test_a_provider_that_answers_twice_loses_no_message(own_porch, webhook):
    porch = own_porch(start=False, transports=False)
    porch.args += ["--smtp", porch.mail.url, "--sms-webhook", webhook.url]
    porch.start()
    for _ in range(2):
        api, email, phone = porch.api(), rest.new_email(), rest.new_phone()
        challenge = api.post("/v1/accounts", {"email": email, "password": "a quiet porch at night", "country": "US"}).ok(202)["challenge"]
        challenge = api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": porch.mail.pin(email)}, key=challenge["key"]).ok(200)["next"]["challenge"]
        api.post(f"/v1/challenges/{challenge['id']}/destination", {"phone": phone, "channel": "sms"}, key=challenge["key"]).ok(202)
        pin = until(lambda: webhook.taken.get(phone), "the text message was taken by the provider")
        api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": pin}, key=challenge["key"]).ok(201)
