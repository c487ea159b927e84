"""What an undo of a changed address and a reset of the password leave to whoever had the account meanwhile: nothing that acts or signs in (S-P11, S-A8)."""
import base64
import concurrent.futures
import hashlib

import pytest
import requests
from lib import rest
from lib.events import Events
from lib.outside import Scripted, query
from lib.porch import Porch
from lib.sinks import free_port
from simhub import add_camera, add_hub, make
from simrelay import SimRelay
from test_account_contact import change, undo, undo_token
from test_account_password import finish, prove, reset_link
from test_links import settings
from test_scoped_tokens import token

BACK = "http://127.0.0.1:9/linked"
VERIFIER = "v" * 43
NEW = "a porch that is mine again"


@pytest.fixture(scope="module")
def provider():
    made = Scripted()
    yield made
    made.close()


@pytest.fixture(scope="module")
def porch(tmp_path_factory, provider):
    folder, port = tmp_path_factory.mktemp("theft"), free_port()
    issuer = ["--http", f"127.0.0.1:{port}", "--set", f"oauth.issuer=http://127.0.0.1:{port}"]
    links = [w.replace("https://app.example/home", "porchlight://account") for w in settings(folder, scripted=(provider.issuer, "a secret"))]
    p = Porch(folder / "data", extra=issuer + links)
    try:
        yield p.start()
    finally:
        p.close()


@pytest.fixture(scope="module")
def assistant(porch):
    return porch.ctl("oauth-client", "add", "Assistant", BACK)


class Thief:
    """What can be made of an account by who is signed in and reads its mail: a token that watches, a linked service, a code that nobody has brought yet, a linked account elsewhere."""

    def __init__(self, porch, account, assistant, provider):
        self.porch, self.assistant, self.provider, self.who = porch, assistant, provider, f"elsewhere of {account.id}"
        self.relay = SimRelay(porch, f"sim-{account.id}").open()
        self.relay.answers("session.open", "viewer.add")
        device, camera = make(porch, "hub", "wireless")
        system = account.api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
        self.hub, _ = add_hub(porch, account.api, system, device)
        camera = add_camera(account.api, self.hub, system, camera)
        self.script, _ = token(porch, account, ["live:view", "live:talk", "devices:write", "events:read"])
        self.live = self.script.post(f"/v1/devices/{camera}/live", {}).ok(201)["live_id"]
        self.events = Events(porch, self.script.token).__enter__()
        self.linked = self.bring(self.code(account)).json()
        self.unspent = self.code(account)
        assert self.elsewhere(account).status == 201

    def code(self, account):
        challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
        asked = {"client_id": self.assistant["client_id"], "redirect_uri": BACK, "response_type": "code", "scope": "systems:read", "state": "s", "code_challenge": challenge,
                 "code_challenge_method": "S256"}
        return query(account.api.post("/v1/account/services", asked).ok(201)["redirect_to"])["code"]

    def ask(self, **form):
        return requests.post(f"http://{self.porch.http}/oauth/token", data=form, auth=(self.assistant["client_id"], self.assistant["client_secret"]), timeout=30)

    def bring(self, code):
        return self.ask(grant_type="authorization_code", code=code, redirect_uri=BACK, code_verifier=VERIFIER)

    def came_back(self, begun, path, api, **more):
        self.provider.gives(self.provider.keys[0].token(self.provider.claims(begun, sub=self.who)))
        return api.post(path, {"code": "c", "state": query(begun["authorization_url"])["state"], **more})

    def elsewhere(self, account):
        begun = account.api.post("/v1/account/links/scripted", grant=self.porch.step_up(account, "change_factors")).ok(201).body
        return self.came_back(begun, "/v1/account/links/scripted/complete", account.api)

    def log_in_from_elsewhere(self):
        begun = rest.Api(self.porch).post("/v1/sessions/links/scripted").ok(201).body
        return self.came_back(begun, "/v1/sessions/links/scripted/complete", rest.Api(self.porch), key=begun["key"])

    def service(self):
        return rest.Api(self.porch).get("/v1/systems", token=self.linked["access_token"])

    def is_out(self, account):
        """Each way in is shut, and what ran is cut."""
        self.relay.expect("session.close", live_id=self.live)
        assert self.events.closed() == 4401
        self.script.get(f"/v1/live/{self.live}").refused("unauthenticated")
        self.service().refused("unauthenticated")
        assert self.ask(grant_type="refresh_token", refresh_token=self.linked["refresh_token"]).json()["error"] == "invalid_grant"
        assert self.bring(self.unspent).json()["error"] == "invalid_grant"
        self.log_in_from_elsewhere().refused("link_unknown")
        with self.porch.db() as db:
            tables = ("session", "client", "delegation", "delegation_token", "oauth_code", "oauth_service", "oauth_refresh", "outside_link", "outside_subject", "outside_flow")
            assert not [t for t in tables if db.execute(f"SELECT 1 FROM {t} WHERE account_id = %s", [account.id]).fetchall()]

    def close(self):
        self.events.__exit__(None, None, None)
        self.hub.close()
        self.relay.close()


@pytest.fixture
def stolen(porch, assistant, provider):
    account = porch.sign_up()
    thief = Thief(porch, account, assistant, provider)
    yield account, thief
    thief.close()


def owner_again(porch, account, mails=0):
    """By the link that is on its way; what was ended can be made anew."""
    link = reset_link(porch, account, mails)
    finish(porch, link, prove(porch, account, link)["grant"], NEW).ok(204)
    account.password = NEW
    account.api = porch.log_in(account)


def test_s_p11_an_undo_ends_tokens_services_codes_and_links(porch, stolen):
    account, thief = stolen
    old, mails = account.email, porch.mail.count(account.email)
    change(porch, account, "email", rest.new_email()).ok(200)
    undo(porch, undo_token(porch.mail, old, mails)).ok(204)
    thief.is_out(account)
    said = porch.mail.wait(old, mails, which=lambda m: "was undone" in m["subject"])["text"]
    assert "tokens" in said and "services" in said and "elsewhere" in said


def test_s_a8_a_reset_ends_tokens_services_codes_and_links_and_says_so(porch, stolen):
    account, thief = stolen
    mails = porch.mail.count(account.email)
    owner_again(porch, account, mails)
    with porch.db() as db:
        assert db.execute("SELECT count(*) FROM session WHERE account_id = %s", [account.id]).fetchone()[0] == 1  # the owner's new one
    account.api.delete("/v1/sessions/current").ok(204)
    with porch.db() as db:
        db.execute("DELETE FROM client WHERE account_id = %s", [account.id])
    thief.is_out(account)
    said = porch.mail.wait(account.email, mails, which=lambda m: "password was changed" in m["subject"])["text"]
    assert "was reset" in said and "tokens" in said and "services" in said and "elsewhere" in said and "Passkeys" in said
    account.api = porch.log_in(account)
    thief.bring(thief.code(account)).json()["access_token"]  # by the owner's own yes it is linked again
    assert thief.elsewhere(account).status == 201


def test_a_changed_password_leaves_what_was_given_and_says_so(porch, stolen):
    account, thief = stolen
    mails = porch.mail.count(account.email)
    account.api.post("/v1/account/password", {"password": NEW}, grant=porch.step_up(account, "change_password")).ok(204)
    thief.script.get(f"/v1/live/{thief.live}").ok(200)
    thief.service().ok(200)
    thief.log_in_from_elsewhere().ok(202)
    said = porch.mail.wait(account.email, mails, which=lambda m: "password was changed" in m["subject"])["text"]
    assert "go on working" in said and "okens" in said and "services" in said and "elsewhere" in said


def test_s_p11_what_is_given_at_the_moment_of_an_undo_does_not_outlive_it(porch, assistant, provider):
    """A token, a yes to a service, a code that is brought and a link: each is asked for while the undo runs, and either comes before it, or is refused."""
    account = porch.sign_up()
    old = account.email
    change(porch, account, "email", rest.new_email()).ok(200)
    account.email, undone = account.api.get("/v1/account").ok(200)["email"], undo_token(porch.mail, old)
    thief = Thief.__new__(Thief)
    thief.porch, thief.assistant, thief.provider = porch, assistant, provider
    brought = thief.code(account)
    begun = account.api.post("/v1/account/links/scripted", grant=porch.step_up(account, "change_factors")).ok(201).body
    provider.gives(provider.keys[0].token(provider.claims(begun, sub=f"elsewhere of {account.id}")))
    grants = [porch.step_up(account, "make_token") for _ in range(3)]
    back = {"code": "c", "state": query(begun["authorization_url"])["state"]}
    jobs = [lambda: thief.bring(brought)] + [lambda: account.api.post("/v1/account/links/scripted/complete", back)]
    jobs += [lambda g=g: account.api.post("/v1/account/tokens", {"name": "x", "scopes": ["systems:read"]}, grant=g) for g in grants]
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        rush = [pool.submit(j) for j in jobs]
        pool.submit(undo, porch, undone).result().ok(204)
        [r.result() for r in rush]
    tables = ("session", "delegation", "oauth_code", "oauth_service", "outside_link", "outside_subject")
    with porch.db() as db:
        assert not [t for t in tables if db.execute(f"SELECT 1 FROM {t} WHERE account_id = %s", [account.id]).fetchall()]
