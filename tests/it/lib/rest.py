"""A REST client as an app has one. Every exchange is logged and held against the contract."""
import dataclasses
import itertools
import json
import random
import threading

import requests

from . import codes

_number = itertools.count(random.randrange(1000, 9000) * 100)


@dataclasses.dataclass
class Reply:
    status: int
    body: object
    headers: dict

    @property
    def code(self):
        return self.body.get("code") if isinstance(self.body, dict) else None

    def __getitem__(self, name):
        return self.body[name]

    def ok(self, *statuses):
        """Itself when it is one of these statuses (none given: any 2xx); else fails with the whole answer."""
        assert self.status in statuses if statuses else 200 <= self.status < 300, f"{self.status} {self.body}"
        return self

    def refused(self, code):
        """Itself when it is the problem with this code; else fails."""
        assert self.code == code, f"wanted {code}, got {self.status} {self.body}"
        return self


class Api:
    """One client. `token` travels with every call once it is set."""

    def __init__(self, porch, address=None):
        self.porch = porch
        self.token = None
        self.tokens = None
        self._address = address
        self._local = threading.local()

    @property
    def session(self):
        # One connection pool a thread: tests send in parallel. When the clock was moved, connections that were idle are past the server's idle time: a new pool.
        offset = self.porch.clock.offset if self.porch.clock else 0
        if getattr(self._local, "offset", None) != offset:
            if hasattr(self._local, "session"):
                self._local.session.close()
            self._local.session = requests.Session()
            self._local.session.trust_env = False
            self._local.session.verify = self._ca() or True
            self._local.offset = offset
        return self._local.session

    def _ca(self):
        return ((getattr(self.porch, "ready", None) or {}).get("tls") or {}).get("ca")

    def call(self, method, path, body=None, *, key=None, grant=None, token=..., idempotency=None, headers=None, timeout=30, check=True):
        sent = dict(headers or {})
        token = self.token if token is ... else token
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if key:
            sent["Challenge-Key"] = key
        if grant:
            sent["Step-Up-Grant"] = grant
        if idempotency:
            sent["Idempotency-Key"] = idempotency
        data = None
        if body is not None:
            data = body if isinstance(body, (bytes, str)) else json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        http = self.session.request(method, f"{'https' if self._ca() else 'http'}://{self._address or self.porch.http}{path}", data=data, headers=sent, timeout=timeout, allow_redirects=False)
        kind = http.headers.get("Content-Type", "")
        parsed = (http.json() if "json" in kind else http.text) if http.content else None
        codes.in_reply(method, path, http.status_code, parsed)
        self.porch.log(method, path, body, http.status_code, parsed)
        if check:
            self.porch.contract.check(method, path, http.status_code, body if isinstance(body, dict) else None, kind, parsed)
        return Reply(http.status_code, parsed, dict(http.headers))

    def get(self, path, **how):
        return self.call("GET", path, **how)

    def post(self, path, body=None, **how):
        return self.call("POST", path, body, **how)

    def patch(self, path, body=None, **how):
        return self.call("PATCH", path, body, **how)

    def delete(self, path, **how):
        return self.call("DELETE", path, **how)

    def take_tokens(self, reply):
        self.tokens = reply.body
        self.token = reply["access_token"]
        return reply


@dataclasses.dataclass
class Account:
    """A household's account with one signed-in client."""
    api: Api
    email: str
    phone: str
    password: str
    id: str = None


CLIENT = {"name": "Test phone", "platform": "android"}


def new_email():
    return f"person{next(_number)}@home.example"


def new_phone():
    return f"+1202{2000000 + next(_number)}"


def sign_up(porch, email=None, phone=None, password="a quiet porch at night", client=None):
    """The whole way: e-mail PIN, phone number, phone PIN, tokens."""
    api, email, phone = Api(porch), email or new_email(), phone or new_phone()
    mails, texts = porch.mail.count(email), porch.sms.count(phone)
    challenge = api.post("/v1/accounts", {"email": email, "password": password, "country": "US", "client": client or CLIENT}).ok(202)["challenge"]
    pin = porch.mail.pin(email, mails)
    following = api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": pin}, key=challenge["key"]).ok(200)["next"]
    assert following["needs"] == "destination"
    challenge = following["challenge"]
    api.post(f"/v1/challenges/{challenge['id']}/destination", {"phone": phone, "channel": "sms"}, key=challenge["key"]).ok(202)
    pin = porch.sms.pin(phone, texts)
    reply = api.take_tokens(api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": pin}, key=challenge["key"]).ok(200, 201))
    return Account(api, email, phone, password, reply["account_id"])


def log_in(porch, account, client=None):
    """A second client of the account: password, then the PIN by e-mail. Returns its Api."""
    api = Api(porch)
    mails = porch.mail.count(account.email)
    reply = api.post("/v1/sessions", {"email": account.email, "password": account.password, "client": client or dict(CLIENT, name="Second phone")}).ok(201, 202)
    if reply.status == 202:
        challenge = reply["challenge"]
        reply = api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": porch.mail.pin(account.email, mails)}, key=challenge["key"]).ok(200, 201)
    api.take_tokens(reply)
    return api


def step_up(porch, account, purpose, api=None):
    """A fresh step-up grant for a purpose."""
    api = api or account.api
    mails = porch.mail.count(account.email)
    challenge = api.post("/v1/step-up", {"purpose": purpose}).ok(201, 202)["challenge"]
    return api.post(f"/v1/challenges/{challenge['id']}/verify", {"pin": porch.mail.pin(account.email, mails)}, key=challenge["key"]).ok(200)["grant"]
