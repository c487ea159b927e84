"""Services that are linked to accounts (RFC 6749, 7009, 7636, 8414, 9207, 9700). The service is openid-client, the person has Chromium; what a thief would send is sent by hand."""
import concurrent.futures
import json
import re
import urllib.parse

import pytest
import requests
from lib import rest
from lib.browser import Chromium
from lib.events import Events
from lib.porch import Porch
from lib.service import Refused, Service
from lib.sinks import free_port
from lib.wait import until
from test_docs import paste
from test_factors import code, grant, with_app

BACK = "http://127.0.0.1:9/linked"  # nobody listens there: where the browser was sent is enough
BACK_WITH_QUERY = BACK + "?kind=a"
SCOPE = "systems:read devices:read"


@pytest.fixture(scope="module")
def porch(tmp_path_factory):
    port = free_port()
    p = Porch(tmp_path_factory.mktemp("oauth") / "data", extra=("--http", f"127.0.0.1:{port}", "--set", f"oauth.issuer=http://127.0.0.1:{port}"))
    try:
        yield p.start()
    finally:
        p.close()


@pytest.fixture(scope="module")
def assistant(porch):
    return porch.ctl("oauth-client", "add", "Assistant <b>&", BACK, BACK_WITH_QUERY, "https://assistant.example/back")


@pytest.fixture
def service(porch, assistant):
    s = Service(f"http://{porch.http}", assistant)
    yield s
    s.close()


def asked(url):
    return dict(urllib.parse.parse_qsl(urllib.parse.urlparse(url).query))


def consent(api, url, **changes):
    """Yes, as an app says it in which the person signed in a moment ago. The reply."""
    return api.post("/v1/account/services", {**asked(url), **changes})


def link(porch, service, account=None):
    """(account, tokens)"""
    account = account or porch.sign_up()
    back = consent(account.api, service.do("url", redirect_uri=BACK, scope=SCOPE)).ok(201)["redirect_to"]
    return account, service.do("grant", url=back)


def with_token(porch, token):
    api = rest.Api(porch)
    api.token = token
    return api


def post(porch, path, client, **form):
    """A call by hand, held against the contract as all others: (status, error or tokens)."""
    reply = requests.post(f"http://{porch.http}{path}", data=form, auth=(client["client_id"], client["client_secret"]), timeout=30)
    body = reply.json() if reply.content else None
    porch.contract.check("POST", path, reply.status_code, None, reply.headers.get("Content-Type", ""), body)
    return reply.status_code, body


def error(reply):
    return reply[0], reply[1]["error"]


def test_a_person_links_a_service_in_a_browser(porch, service, assistant):
    account = porch.sign_up()
    system = account.api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
    url = service.do("url", redirect_uri=BACK, scope=SCOPE)
    mails = porch.mail.count(account.email)
    with Chromium(url) as page, Events(porch, account.api.token) as events:
        seen = page.run("document.body.innerText")
        assert "Assistant <b>&" in seen and "see your systems" in seen and "watch your cameras live" not in seen
        fill = "(e, v) => { document.querySelector(e).value = v }"
        page.run(f"({fill})('[name=email]', {account.email!r}); ({fill})('[name=password]', 'not this one'); document.querySelector('#sign-in button').click()")
        until(lambda: "wrong" in page.run("document.querySelector('#said').textContent"), "the page says that the password is wrong")
        page.run(f"({fill})('[name=password]', {account.password!r}); document.querySelector('#sign-in button').click()")
        pin = porch.mail.pin(account.email, mails)
        until(lambda: page.run("!document.querySelector('#answer').hidden"), "the page asks for the PIN")
        page.run(f"({fill})('[name=answer]', '{pin}'); document.querySelector('#answer button').click()")
        until(lambda: page.run("!document.querySelector('#consent').hidden"), "the page asks for a yes")

        # Where it goes then cannot be opened; what the server answered is what the browser goes to.
        page.run("window.went = null; const ask = fetch; window.fetch = async (...a) => { const r = await ask(...a); "
                 "if (a[0].endsWith('/services')) window.went = (await r.clone().json()).redirect_to; if (a[0].endsWith('/current')) await new Promise(() => 0); return r }; "
                 "document.querySelector('#consent button').click()")
        back = until(lambda: page.run("window.went"), "the page was told where to go")
        tokens = service.do("grant", url=back)
        given = events.wait("account.access_changed")["data"]
    assert (given["kind"], given["change"]) == ("service", "given")
    assert tokens["scope"] == SCOPE and tokens["token_type"] == "bearer"
    home = with_token(porch, tokens["access_token"]).get("/v1/home").ok(200)
    assert [s["id"] for s in home["systems"]] == [system]
    with_token(porch, tokens["access_token"]).get("/v1/account").refused("scope_missing")
    porch.mail.wait(account.email, which=lambda m: 'A service was linked: "Assistant <b>&"' in m["text"])
    listed, = account.api.get("/v1/account/services").ok(200)["services"]
    assert (listed["id"], listed["name"], listed["scopes"]) == (given["id"], "Assistant <b>&", SCOPE.split())
    exported = account.api.post("/v1/account/export", grant=porch.step_up(account, "export_account")).ok(200)
    assert [s["id"] for s in exported["services"]] == [given["id"]]
    # The page's own session is over, and its client is no longer known as signed in.
    assert not [c for c in account.api.get("/v1/account/clients").ok(200)["clients"] if c["name"].startswith("Linking") and c["signed_in"]]


class Linking:
    """The page in a browser with a passkey device of its own, as a person uses it: what stands in a field, which button is pressed."""
    def __init__(self, page, url):
        self.page, self.url = page, url

    def fill(self, **fields):
        for name, value in fields.items():
            self.page.run(f"document.querySelector('[name={name}]').value = {json.dumps(value)}")

    def press(self, text):
        self.page.run(f"[...document.querySelectorAll('form:not([hidden]) button:not([hidden])')].find((b) => b.textContent === {json.dumps(text)}).click()")

    def shows(self, form, words=""):
        until(lambda: self.page.run(f"!document.querySelector('#{form}').hidden && document.querySelector('#{form}').innerText.includes({json.dumps(words)})"), f"the page shows {form}: {words}")

    def says(self, words):
        until(lambda: words in self.page.run("document.querySelector('#said').textContent"), f"the page says: {words}")

    def again(self):
        """From the start."""
        self.page.go(self.url)

    def sign_in(self, account):
        self.fill(email=account.email, password=account.password)
        self.press("Sign in")


@pytest.fixture
def keys(own_porch):
    """A system with passkeys, as a browser on this machine can use them: they are for names, and its own is localhost."""
    port = free_port()
    origin = f"http://localhost:{port}"
    return own_porch(extra=("--http", f"127.0.0.1:{port}", "--set", f"oauth.issuer={origin}", "--set", "passkey.rp_id=localhost", "--set", f"passkey.origins={origin}")), origin


def test_the_page_takes_what_a_log_in_takes_and_links_some_systems_only(keys):
    porch, origin = keys
    account, secret, codes = with_app(porch)
    systems = [account.api.post("/v1/systems", {"name": name}).ok(201)["id"] for name in ("Home", "Cabin <i>", "Office")]
    service = Service(origin, porch.ctl("oauth-client", "add", "Assistant", BACK))
    texts = porch.sms.count(account.phone)
    url = service.do("url", redirect_uri=BACK, scope=SCOPE)
    with Chromium(url) as page:
        linking = Linking(page, url)
        page.protocol("WebAuthn.enable")
        page.protocol("WebAuthn.addVirtualAuthenticator", options={"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
                                                                    "isUserVerified": True, "automaticPresenceSimulation": True})
        # An authenticator app: it is asked for, and nothing is sent. Wrong ones count as everywhere.
        linking.sign_in(account)
        linking.shows("answer", "six digits that your authenticator app shows")
        linking.fill(answer="000000")
        linking.press("Go on")
        linking.says("not right")
        linking.fill(answer=code(porch, secret))
        linking.press("Go on")
        linking.shows("consent", account.email)

        # A recovery code in its place.
        linking.again()
        linking.sign_in(account)
        linking.shows("answer", "Use a recovery code")
        linking.press("Use a recovery code")
        linking.shows("answer", "good once")
        linking.fill(answer=codes[0].lower())
        linking.press("Go on")
        linking.shows("consent", account.email)
        assert porch.sms.count(account.phone) == texts  # who has something better at hand is sent nothing unasked

        # A PIN where somebody wants one.
        linking.again()
        linking.sign_in(account)
        linking.shows("answer", "Send a PIN by e-mail")
        mails = porch.mail.count(account.email)
        linking.press("Send a PIN by e-mail")
        linking.shows("answer", "A PIN was sent to")
        linking.fill(answer=porch.mail.pin(account.email, mails))
        linking.press("Go on")
        linking.shows("consent", account.email)

        # A passkey: made here, then as the answer to a challenge, then alone.
        options = json.dumps(account.api.post("/v1/account/factors/passkeys/options").ok(200)["public_key"])
        made = page.run(f"navigator.credentials.create({{ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON({options}) }}).then((c) => c.toJSON())")
        account.api.post("/v1/account/factors/passkeys", {"name": "Chromium", "credential": made}, grant=grant(porch, account)).ok(201)
        linking.again()
        linking.sign_in(account)
        linking.shows("answer", "Show your passkey")
        linking.press("Go on")
        linking.shows("consent", account.email)
        linking.again()
        linking.press("Sign in with a passkey")
        linking.shows("consent", account.email)

        # Only in these.
        assert page.run("document.querySelector('#some').innerText").strip().split("\n ") == ["Home", "Cabin <i>", "Office"]
        page.run("document.querySelector('[name=which][value=some]').click()")
        linking.press("Link Assistant")
        linking.says("at least one")
        page.run(f"document.querySelector('[value=\"{systems[1]}\"]').click()")
        page.run("window.went = null; const ask = fetch; window.fetch = async (...a) => { const r = await ask(...a); "
                 "if (a[0].endsWith('/services')) window.went = (await r.clone().json()).redirect_to; if (a[0].endsWith('/current')) await new Promise(() => 0); return r }")
        linking.press("Link Assistant")
        tokens = service.do("grant", url=until(lambda: page.run("window.went"), "the page was told where to go"))
        assert not [line for line in page.console if "Content Security Policy" in line]
    later = account.api.post("/v1/systems", {"name": "Later"}).ok(201)["id"]
    for token in (tokens, service.do("refresh", token=tokens["refresh_token"])):
        api = with_token(porch, token["access_token"])
        assert [s["id"] for s in api.get("/v1/home").ok(200)["systems"]] == [systems[1]]
        for other in (systems[0], systems[2], later):
            api.get(f"/v1/systems/{other}").refused("not_found")
    assert account.api.get("/v1/account/services").ok(200)["services"][0]["systems"] == [systems[1]]
    service.close()


def test_the_page_cannot_be_framed_nor_made_to_run_what_is_not_ours(porch, service):
    url = service.do("url", redirect_uri=BACK, scope=SCOPE + " live:view live:talk")
    page = requests.get(url, timeout=30, allow_redirects=False)
    assert "<li>watch your cameras live</li><li>talk through your cameras' speakers while it watches</li></ul>" in page.text
    assert page.status_code == 200 and page.headers["X-Frame-Options"] == "DENY" and page.headers["Referrer-Policy"] == "no-referrer"
    policy = page.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy and "default-src 'none'" in policy and "unsafe" not in policy
    assert "Assistant &lt;b&gt;&amp;" in page.text and "<b>&" not in page.text and not re.search(r"<script>|\son\w+=|style=", page.text)
    assert "Set-Cookie" not in page.headers  # there is nothing that a forged form could ride on
    deny = re.search(r'id="deny" href="([^"]+)"', page.text)[1].replace("&amp;", "&")
    with pytest.raises(Refused, match="access_denied"):  # the library found state and iss to be right
        service.do("grant", url=deny)


@pytest.mark.parametrize("changes, what", [
    ({"client_id": "00000000-0000-7000-8000-000000000000"}, None), ({"client_id": "x"}, None), ({"redirect_uri": BACK + "x"}, None), ({"redirect_uri": BACK.upper()}, None),
    ({"redirect_uri": "https://evil.example/"}, None), ({"response_type": "token"}, "unsupported_response_type"), ({"scope": "everything"}, "invalid_scope"), ({"scope": ""}, "invalid_scope"),
    ({"code_challenge_method": "plain"}, "invalid_request"), ({"code_challenge": "short"}, "invalid_request")], ids=str)
def test_a_wrong_request_goes_back_to_who_asked_or_nowhere(porch, account, service, changes, what):
    good = asked(service.do("url", redirect_uri=BACK_WITH_QUERY, scope=SCOPE))
    reply = requests.get(f"http://{porch.http}/oauth/authorize", params={**good, **changes}, timeout=30, allow_redirects=False)
    if what is None:
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid_request") and "Location" not in reply.headers
    else:
        assert reply.status_code == 303
        back = asked(reply.headers["Location"])
        assert reply.headers["Location"].startswith(BACK_WITH_QUERY + "&") and (back["error"], back["state"], back["iss"]) == (what, good["state"], f"http://{porch.http}")
    consent(account.api, "?" + urllib.parse.urlencode(good), **changes).refused("invalid_request")


def test_who_did_not_just_sign_in_needs_a_step_up(porch, service):
    account = porch.sign_up()
    url = service.do("url", redirect_uri=BACK, scope=SCOPE)
    with porch.db() as db:
        db.execute("UPDATE client SET created_at = created_at - interval '11 minutes' WHERE account_id = %s", [account.id])
    consent(account.api, url).refused("step_up_required")
    account.api.post("/v1/account/services", asked(url), grant=porch.step_up(account, "link_service")).ok(201)


def test_a_code_is_good_once_and_for_who_asked(porch, account, service, assistant):
    other = porch.ctl("oauth-client", "add", "Other service", "https://other.example/")
    url = service.do("url", redirect_uri=BACK, scope=SCOPE)
    right = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": service.do("verifier")}

    def code():
        return asked(consent(account.api, url).ok(201)["redirect_to"])["code"]

    assert error(post(porch, "/oauth/token", other, code=code(), **right)) == (400, "invalid_grant")
    assert error(post(porch, "/oauth/token", assistant, code=code(), **{**right, "code_verifier": "x" * 43})) == (400, "invalid_grant")
    assert error(post(porch, "/oauth/token", assistant, code=code(), **{**right, "redirect_uri": "https://assistant.example/back"})) == (400, "invalid_grant")
    assert error(post(porch, "/oauth/token", assistant, code="ploc_" + "A" * 43, **right)) == (400, "invalid_grant")
    assert error(post(porch, "/oauth/token", {**assistant, "client_secret": other["client_secret"]}, code=code(), **right)) == (401, "invalid_client")
    assert error(post(porch, "/oauth/token", {**assistant, "client_secret": ""}, code=code(), **right)) == (401, "invalid_client")
    assert error(post(porch, "/oauth/token", assistant, grant_type="password", username="x", password="y")) == (400, "unsupported_grant_type")
    assert account.api.get("/v1/account/services").ok(200)["services"] == []

    # A wrong verifier spends the code: there is no second guess.
    once = code()
    post(porch, "/oauth/token", assistant, code=once, **{**right, "code_verifier": "x" * 43})
    assert error(post(porch, "/oauth/token", assistant, code=once, **right)) == (400, "invalid_grant")

    # RFC 6749, 4.1.2: what the first use made is gone with the second.
    once = code()
    status, tokens = post(porch, "/oauth/token", assistant, code=once, **right)
    assert status == 200
    api = with_token(porch, tokens["access_token"])
    api.get("/v1/home").ok(200)
    assert error(post(porch, "/oauth/token", assistant, code=once, **right)) == (400, "invalid_grant")
    api.get("/v1/home").refused("unauthenticated")
    assert error(post(porch, "/oauth/token", assistant, grant_type="refresh_token", refresh_token=tokens["refresh_token"])) == (400, "invalid_grant")

    once = code()
    porch.clock.advance(60)
    assert error(post(porch, "/oauth/token", assistant, code=once, **right)) == (400, "invalid_grant")


def test_16_who_bring_one_code_get_one_link_at_most(porch, account, service, assistant):
    back = consent(account.api, service.do("url", redirect_uri=BACK, scope=SCOPE)).ok(201)["redirect_to"]
    form = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": service.do("verifier"), "code": asked(back)["code"]}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: post(porch, "/oauth/token", assistant, **form), range(16)))
    assert sorted({r[0] for r in replies}) == [200, 400] and [r[0] for r in replies].count(200) == 1
    assert account.api.get("/v1/account/services").ok(200)["services"] == []  # and the second has taken it back


def test_of_codes_of_one_service_that_come_at_once_each_is_taken_and_one_link_stays(porch, service, assistant):
    url = service.do("url", redirect_uri=BACK, scope=SCOPE)
    form = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": service.do("verifier")}
    for linked in (False, True):  # nothing was linked before, and something was
        account = porch.sign_up()
        if linked:
            link(porch, service, account)
        codes = [asked(consent(account.api, url).ok(201)["redirect_to"])["code"] for _ in range(8)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda code: post(porch, "/oauth/token", assistant, **form, code=code), codes))
        assert [r[0] for r in replies] == [200] * 8, replies
        assert len(account.api.get("/v1/account/services").ok(200)["services"]) == 1
        good = [r for r in replies if with_token(porch, r[1]["access_token"]).get("/v1/home").status == 200]
        assert len(good) == 1


def test_tokens_are_renewed_and_a_stolen_one_ends_the_link(porch, service, assistant):
    account, first = link(porch, service)
    mails = porch.mail.count(account.email)
    second = service.do("refresh", token=first["refresh_token"])
    assert second["refresh_token"] != first["refresh_token"] and second["scope"] == SCOPE
    for tokens in (first, second):
        with_token(porch, tokens["access_token"]).get("/v1/home").ok(200)
    again = service.do("refresh", token=first["refresh_token"])  # the reply was lost: within 30 s, and with the secret
    third = service.do("refresh", token=again["refresh_token"])
    porch.clock.advance(31)
    with pytest.raises(Refused, match="invalid_grant"):
        service.do("refresh", token=second["refresh_token"])
    for tokens in (first, second, third):
        with_token(porch, tokens["access_token"]).get("/v1/home").refused("unauthenticated")
    with pytest.raises(Refused, match="invalid_grant"):
        service.do("refresh", token=third["refresh_token"])
    porch.mail.wait(account.email, mails, which=lambda m: "A linked service was unlinked" in m["text"])
    assert account.api.get("/v1/account/services").ok(200)["services"] == []


def test_an_access_token_ends_after_an_hour_and_the_link_goes_on(porch, service):
    account, tokens = link(porch, service)
    assert tokens["expires_in"] == 3600
    porch.clock.advance(3601)
    with_token(porch, tokens["access_token"]).get("/v1/home").refused("unauthenticated")
    with_token(porch, service.do("refresh", token=tokens["refresh_token"])["access_token"]).get("/v1/home").ok(200)


def test_a_public_service_has_no_secret_and_no_grace(porch):
    client = porch.ctl("oauth-client", "add", "Desk gadget", BACK, "--public")
    assert client["client_secret"] is None
    gadget = Service(f"http://{porch.http}", client)
    _, first = link(porch, gadget)
    gadget.do("refresh", token=first["refresh_token"])
    with pytest.raises(Refused, match="invalid_grant"):
        gadget.do("refresh", token=first["refresh_token"])
    gadget.close()


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_a_service_gives_its_link_up_rfc_7009(porch, service, assistant, which):
    account, tokens = link(porch, service)
    other = porch.ctl("oauth-client", "add", f"No friend {which}", "https://other.example/")
    assert post(porch, "/oauth/revoke", other, token=tokens[which])[0] == 200  # nothing is said, and nothing is done
    with_token(porch, tokens["access_token"]).get("/v1/home").ok(200)
    service.do("revoke", token=tokens[which])
    with_token(porch, tokens["access_token"]).get("/v1/home").refused("unauthenticated")
    assert account.api.get("/v1/account/services").ok(200)["services"] == []
    service.do("revoke", token=tokens[which])
    assert error(post(porch, "/oauth/revoke", {**assistant, "client_secret": "x"}, token=tokens[which])) == (401, "invalid_client")


def test_s_s5_the_owner_unlinks_and_a_new_link_takes_the_old_ones_place(porch, service, other_account):
    account, old = link(porch, service)
    _, tokens = link(porch, service, account)
    with_token(porch, old["access_token"]).get("/v1/home").refused("unauthenticated")
    linked, = account.api.get("/v1/account/services").ok(200)["services"]
    account.api.delete(f"/v1/account/tokens/{linked['id']}").refused("not_found")
    account.api.delete(f"/v1/account/services/{linked['id']}").ok(204)
    with_token(porch, tokens["access_token"]).get("/v1/home").refused("unauthenticated")
    with pytest.raises(Refused, match="invalid_grant"):
        service.do("refresh", token=tokens["refresh_token"])


def test_s_s6_links_go_with_the_account_and_with_the_service(porch, service):
    account, tokens = link(porch, service)
    account.api.delete("/v1/account", grant=porch.step_up(account, "delete_account")).ok(204)
    with_token(porch, tokens["access_token"]).get("/v1/home").refused("unauthenticated")

    def gone():
        with porch.db() as db:
            return not [t for t in ("oauth_code", "oauth_service", "oauth_refresh", "delegation") if db.execute(f"SELECT 1 FROM {t} WHERE account_id = %s", [account.id]).fetchall()]
    until(gone, "no row of the account is left")

    client = porch.ctl("oauth-client", "add", "Short lived", BACK)
    short = Service(f"http://{porch.http}", client)
    account, tokens = link(porch, short)
    assert "Short lived" in [c["name"] for c in porch.ctl("oauth-clients")["clients"]]
    porch.ctl("oauth-client", "remove", client["client_id"])
    with_token(porch, tokens["access_token"]).get("/v1/home").refused("unauthenticated")
    assert error(post(porch, "/oauth/token", client, grant_type="refresh_token", refresh_token=tokens["refresh_token"])) == (401, "invalid_client")
    short.close()


def test_s_s1_nothing_of_it_is_kept_or_logged_as_it_is(porch, service, assistant):
    account, tokens = link(porch, service)
    with porch.db() as db:
        kept = "".join(str(db.execute(f"SELECT * FROM {t}").fetchall()) for t in ("oauth_client", "oauth_code", "oauth_service", "oauth_refresh", "delegation", "delegation_token"))
    for secret in (tokens["access_token"], tokens["refresh_token"], assistant["client_secret"]):
        assert secret not in kept and secret not in porch.logs(100000)


@pytest.mark.parametrize("uri", ["http://assistant.example/back", "https://", "https://a.example/#x", "http://localhost.a.example/", "http://127.0.0.1.a.example/x", "http://localhost:x@a.example/",
                                 "javascript:alert(1)", "https://a.example/\"x"])
def test_where_a_service_may_be_answered(porch, uri):
    porch.ctl("oauth-client", "add", "Bad", uri, code=1)


def test_the_chapter_on_linking(porch, tmp_path):
    assert paste(porch, ["docs/linking.md"], tmp_path)
