"""S-S5: whatever ends a client's session ends all that runs by it: REST, the event socket, the picture that a native viewer and a WebRTC viewer see; on one node and
on two. Here stands that it ends, each wait bounded; how soon (2 s) is measured by bench/accounts."""
import os

import pytest
from lib import rest
from lib.aiortc_viewer import AiortcViewer
from lib.events import Events
from lib.household import Household, Viewer
from lib.porch import Porch, own_address
from lib.wait import until

NEW = "another quiet porch at dawn"
ENDLESS = ("--frames", 1000000)
LONG = bool(os.environ.get("PORCH_LONG"))


@pytest.fixture(scope="module", params=[1, 2], ids=["one node", "two nodes"])
def p(request, tmp_path_factory):
    """WebRTC clients do not send to a loopback address."""
    porch = Porch(tmp_path_factory.mktemp("revocation") / "data", extra=["--nodes", str(request.param), "--media", f"{own_address()}:0"])
    try:
        yield porch.start()
        assert porch.stop() == 0
    finally:
        porch.close()


def at(porch, number):
    """The node with this number, or the only one."""
    return porch.node(number % len(porch.ready["nodes"]))


def lines(path):
    """How many pictures a viewer has traced."""
    if not os.path.exists(path):
        return 0
    with open(path, encoding="ascii") as f:
        return len(f.readlines())


def ended(viewer):
    """It says so itself when not a packet has come for ten seconds."""
    out, err = viewer.process.communicate(timeout=60)
    assert '"end":"relay_silent"' in out, (out, err[-2000:])


class Still:
    """look() is true when a reading is what it was at the look before: a running picture adds 25 in that second."""

    def __init__(self, read):
        self.read, self.last = read, None

    def look(self):
        before, self.last = self.last, self.read()
        return self.last == before


class Watching:
    """A second client of the account, at the other node than its hub: signed in, with an event socket, and with a native viewer whose picture runs."""

    def __init__(self, porch, home, camera, folder, **client):
        self.home, self.node = home, at(porch, 1)
        self.api = rest.log_in(self.node, home.account, **client)
        self.live = self.api.post(f"/v1/devices/{home.cameras[camera]}/live", {}).ok(201)
        self.events = Events(self.node, self.api.token).__enter__()
        self.trace = os.path.join(folder, "trace")
        self.viewer = Viewer(porch, self.live["srtp"], folder, *ENDLESS, "--trace", self.trace)
        until(lambda: self.pictures() >= 5, "pictures come")

    def pictures(self):
        return lines(self.trace)

    def has_lost_all(self):
        """All but its picture, which is looked at for all of them together."""
        assert self.events.closed() == 4401
        for n in range(2):
            rest.Api(at(self.node._porch, n)).get("/v1/account", token=self.api.token).refused("unauthenticated")
        rest.Api(self.node).post("/v1/sessions/refresh", {"refresh_token": self.api.tokens["refresh_token"]}).refused("unauthenticated")
        self.home.ended(self.live["live_id"], "revoked")
        self.api.post(f"/v1/devices/{self.home.cameras[0]}/live", {}).refused("unauthenticated")

    def close(self):
        self.events.__exit__()
        if self.viewer.process.poll() is None:
            self.viewer.kill()


def revoke(home, victim):
    grant = rest.step_up(home.account.api.porch, home.account, "revoke_clients")
    home.api.delete(f"/v1/account/clients/{victim.api.tokens['client_id']}", grant=grant).ok(204)


def revoke_others(home, _):
    home.api.delete("/v1/account/clients", grant=rest.step_up(home.account.api.porch, home.account, "revoke_clients")).ok(204)


def change_password(home, _):
    home.api.post("/v1/account/password", {"password": NEW}, grant=rest.step_up(home.account.api.porch, home.account, "change_password")).ok(204)
    home.account.password = NEW


def log_out(_, victim):
    victim.api.delete("/v1/sessions/current").ok(204)


def steal(_, victim):
    """Its refresh token is used twice (S-S3)."""
    token = victim.api.tokens["refresh_token"]
    rest.Api(victim.node).post("/v1/sessions/refresh", {"refresh_token": token}).ok(200)
    rest.Api(victim.node).post("/v1/sessions/refresh", {"refresh_token": token}).refused("token_reused")


def test_s_s5_what_ends_a_client_ends_its_sockets_and_its_picture(p, tmp_path):
    account = rest.sign_up(at(p, 0))
    home = Household(at(p, 0), account, cameras=2)
    victims, owners = [], None
    try:
        own = home.live(1).ok(201)
        own_trace = str(tmp_path / "own-trace")
        owners = Viewer(p, own["srtp"], tmp_path / "own", *ENDLESS, "--trace", own_trace)
        for end in (revoke, revoke_others, change_password, log_out, steal) if len(p.ready["nodes"]) == 1 else (revoke, steal):
            os.makedirs(tmp_path / end.__name__)
            victims.append(Watching(p, home, 0, str(tmp_path / end.__name__)))
            end(home, victims[-1])
            victims[-1].has_lost_all()
        # The client that did all this has lost nothing: its picture runs on.
        seen = lines(own_trace)
        until(lambda: lines(own_trace) >= seen + 25, "the owner's picture goes on")
        assert home.api.get(f"/v1/live/{own['live_id']}").ok(200)["state"] == "live"
        # And the account with all that is left.
        os.makedirs(tmp_path / "last")
        last = Watching(p, home, 0, str(tmp_path / "last"))
        victims.append(last)
        home.api.delete("/v1/account", grant=rest.step_up(account.api.porch, account, "delete_account")).ok(204)
        assert last.events.closed() == 4401
        for api in (last.api, home.api):
            api.get("/v1/account").refused("unauthenticated")
        until(Still(lambda: [lines(t) for t in [v.trace for v in victims] + [own_trace]]).look, "no picture comes any more", every=1.0)
        if LONG:
            for viewer in [v.viewer for v in victims] + [owners]:
                ended(viewer)
    finally:
        for v in victims:
            v.close()
        if owners and owners.process.poll() is None:
            owners.kill()
        home.close()


def test_s_s5_a_webrtc_viewer_of_a_revoked_client_sees_nothing_more(p):
    """It joined the session of another client; that session ends for both, and whoever may opens a new one."""
    account = rest.sign_up(at(p, 0))
    home = Household(at(p, 0), account)
    try:
        api = rest.log_in(at(p, 1), account)
        live = api.post(f"/v1/devices/{home.cameras[0]}/live", {}).ok(201)
        with AiortcViewer(api, live["whep_url"]) as viewer:
            until(lambda: viewer.frames >= 10, "pictures come", 60)
            home.api.delete(f"/v1/account/clients/{api.tokens['client_id']}", grant=rest.step_up(account.api.porch, account, "revoke_clients")).ok(204)
            home.ended(live["live_id"], "revoked")
            until(Still(lambda: viewer.frames).look, "no picture comes any more", 60, every=1.0)
            for call in (lambda: api.delete(viewer.address), lambda: api.call("POST", live["whep_url"], viewer.peer.localDescription.sdp, headers={"Content-Type": "application/sdp"})):
                call().refused("unauthenticated")
        assert home.live().ok(201)["live_id"] != live["live_id"]
    finally:
        home.close()
