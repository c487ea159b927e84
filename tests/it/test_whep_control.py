"""WHEP against a simulated relay: what the relay is told, what the answers say, and who may ask. No media here."""
import os
import re
from urllib.parse import urlsplit

import pytest
from simrelay import SimRelay
from test_live_control import Later, Sim
from simhub import SimHub, b64
from lib.openapi import ROOT
from lib.sharing import move_home
from lib.wait import until

FINGERPRINT = bytes(range(32))
OFFER = "\r\n".join("""v=0
o=- 1 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS
m=video 9 UDP/TLS/RTP/SAVPF 96 97 98
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:pEEr
a=ice-pwd:0123456789abcdefghijklmn
a=ice-options:trickle
a=fingerprint:sha-256 11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11
a=setup:actpass
a=mid:0
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=recvonly
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtpmap:98 H264/90000
a=rtcp-fb:98 transport-cc
a=rtcp-fb:98 ccm fir
a=rtcp-fb:98 nack
a=rtcp-fb:98 nack pli
a=fmtp:98 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=98
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=ice-ufrag:pEEr
a=ice-pwd:0123456789abcdefghijklmn
a=fingerprint:sha-256 11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11:11
a=setup:actpass
a=mid:1
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=recvonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
""".splitlines()) + "\r\n"
SDP, FRAGMENT = {"Content-Type": "application/sdp"}, {"Content-Type": "application/trickle-ice-sdpfrag"}
NOBODY = "A" * 80


class Home(Sim):
    def watch(self, live_id, offer=OFFER, api=None, **how):
        return (api or self.api).call("POST", f"/v1/live/{live_id}/whep", offer, headers=SDP, **how)

    def ended(self, live_id, code):
        until(lambda: self.api.get(f"/v1/live/{live_id}").ok(200).body.get("end_code") == code, f"the session ends as {code}")

    def patch(self, viewer, ufrag, match=None, api=None, pwd="abcdefghijklmnopqrstuvwx"):
        body = f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n"
        return (api or self.api).call("PATCH", viewer, body, headers=dict(FRAGMENT, **({"If-Match": match} if match else {})))


@pytest.fixture
def home(own_porch, monkeypatch):
    monkeypatch.setattr(SimRelay, "fingerprint", FINGERPRINT)
    h = Home(own_porch())
    h.relay.answers("session.open", "viewer.add", "viewer.remove", "viewer.restart", "session.close")
    yield h
    h.close()


def start(home, api=None):
    live = (api or home.api).post(f"/v1/devices/{home.cameras[0]}/live", {"transport": "webrtc"}).ok(201)
    assert "srtp" not in live.body and "viewer_id" not in live.body
    assert live["whep_url"] == f"/v1/live/{live['live_id']}/whep" and live["ice"] == []
    return live["live_id"]


def test_the_relay_is_asked_once_and_its_certificate_stands_in_the_answer(home):
    live_id = start(home)
    reply = home.watch(live_id).ok(201)
    told = home.relay.expect("viewer.add", live_id=live_id)
    web = told["webrtc"]
    assert web["fingerprint"] == b64(b"\x11" * 32) and web["suites"] == ["AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"] and web["setup"] == "passive"
    assert web["ext"] == {"transport_cc": 3} and web["nack"] and web["pli"] and web["fir"] and not web["remb"] and "keys" not in told
    assert told["ice"]["peer_ufrag"] == "pEEr" and told["video"]["payload_type"] == 98 and told["audio"]["payload_type"] == 111 and web["rtx"]["payload_type"] == 97
    sdp = reply.body
    assert "a=fingerprint:sha-256 " + ":".join(f"{b:02X}" for b in FINGERPRINT) in sdp
    assert f"a=ice-ufrag:{told['ice']['ufrag']}" in sdp and f"a=ice-pwd:{told['ice']['pwd']}" in sdp and "a=ice-lite" in sdp and "a=setup:passive" in sdp
    assert re.search(r"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 9 typ host", sdp, re.I), sdp
    assert f"a=ssrc:{told['video']['ssrc']} cname:" in sdp and f"a=ssrc-group:FID {told['video']['ssrc']} {web['rtx']['ssrc']}" in sdp
    assert reply.headers["Location"].startswith(f"/v1/live/{live_id}/whep/") and reply.headers["ETag"].startswith('"')


def test_the_profile_that_the_hub_named_is_answered(home):
    both = OFFER.replace("96 97 98\r\n", "96 97 98 100\r\n").replace(
        "a=rtpmap:97 rtx", "a=rtpmap:100 H264/90000\r\na=fmtp:100 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f\r\na=rtpmap:97 rtx")
    for video, payload_type in (("H264/42c01f", 98), ("H264/4D0029", 100)):
        with SimHub(home.porch, home.device) as hub:
            hub.hello(cameras=home.made, video=video)
            live_id = start(home)
            home.watch(live_id, both).ok(201)
            assert home.relay.expect("viewer.add", live_id=live_id)["video"]["payload_type"] == payload_type
            home.api.delete(f"/v1/live/{live_id}").ok(204)


def test_candidates_are_taken_and_a_restart_is_answered(home):
    live_id = start(home)
    reply = home.watch(live_id).ok(201)
    viewer, tag = reply.headers["Location"], reply.headers["ETag"]
    added = home.relay.expect("viewer.add")
    assert home.patch(viewer, "pEEr", tag).status == 204
    assert home.patch(viewer, "pEEr", "*").status == 204  # the same ICE session: nothing is restarted
    home.patch(viewer, "pEEr").refused("precondition_required")
    home.patch(viewer, "nEWr", tag).refused("version_conflict")
    home.patch(viewer, "pEEr", '"AAAAAAAAAAA"').refused("version_conflict")
    again = home.patch(viewer, "nEWr", "*").ok(200)
    told = home.relay.expect("viewer.restart", live_id=live_id, viewer_id=added["viewer_id"])
    assert told["ice"]["peer_ufrag"] == "nEWr" and told["ice"]["ufrag"] != added["ice"]["ufrag"]
    assert again.headers["Content-Type"] == "application/trickle-ice-sdpfrag" and again.headers["ETag"] != tag
    assert f"a=ice-ufrag:{told['ice']['ufrag']}" in again.body and f"a=ice-pwd:{told['ice']['pwd']}" in again.body
    assert home.patch(viewer, "nEWr", again.headers["ETag"]).status == 204
    home.patch(viewer, "nEWr", tag).refused("version_conflict")  # candidates of the ICE session before
    home.api.call("PATCH", viewer, "a=ice-pwd:abcdefghijklmnopqrstuvwx\r\n", headers=dict(FRAGMENT, **{"If-Match": tag})).refused("offer_refused")
    home.api.call("PATCH", viewer, "hello", headers=dict(SDP, **{"If-Match": tag})).refused("unsupported_type")


def test_who_leaves_is_gone(home):
    live_id = start(home)
    viewer = home.watch(live_id).ok(201).headers["Location"]
    added = home.relay.expect("viewer.add")
    assert home.api.delete(viewer).status == 200
    home.relay.expect("viewer.remove", live_id=live_id, viewer_id=added["viewer_id"])
    home.relay.answers("session.open", "viewer.add")
    second = Later(lambda: home.api.delete(viewer))
    asked = home.relay.expect("viewer.remove")
    home.relay.send("error", re=asked["id"], code="not_found")
    second.reply().refused("not_found")


def test_a_viewer_is_its_own_clients_S_S10_S_M3(home):
    """Neither another account nor another client of the same one has a way to it, nor does one session's address serve in another."""
    live_id = start(home)
    viewer = home.watch(live_id).ok(201).headers["Location"]
    stranger, phone = home.porch.sign_up().api, home.porch.log_in(home.account)
    home.watch(live_id, api=stranger).refused("not_found")
    home.watch(live_id, "no offer at all", api=stranger).refused("not_found")
    for api in (stranger, phone):
        assert api.delete(viewer).refused("not_found").status == 404
        assert home.patch(viewer, "pEEr", "*", api=api).refused("not_found").status == 404
    for changed in (viewer[:-1] + ("A" if viewer[-1] != "A" else "B"), viewer.rsplit("/", 1)[0] + "/" + NOBODY, viewer + "A"):
        home.api.delete(changed).refused("not_found")
    home.api.delete(f"/v1/live/{live_id}").ok(204)
    home.watch(live_id).refused("live_ended")
    home.api.call("POST", f"/v1/live/{live_id}/whep", OFFER, headers=SDP, token=None).refused("unauthenticated")


def test_what_cannot_be_served_is_refused_by_name_V_C7(home):
    live_id = start(home)
    for offer, code, field in (("", "invalid_request", None), ("hello", "invalid_request", None), (OFFER.replace("H264", "H265"), "unsupported_media", "no_h264"),
                               (OFFER.replace("packetization-mode=1;", ""), "unsupported_media", "no_packetization_mode_1"),
                               (OFFER.replace("sha-256", "sha-1"), "offer_refused", "fingerprint_hash"), (OFFER.replace("a=rtcp-mux\r\n", ""), "offer_refused", "no_rtcp_mux")):
        refused = home.watch(live_id, offer).refused(code)
        assert field is None or refused["field"] == field, refused
    home.watch(live_id, "v=0\r\n" + "a=x\r\n" * 8000).refused("body_too_large")
    home.api.call("POST", f"/v1/live/{live_id}/whep", OFFER, headers={"Content-Type": "text/plain"}).refused("unsupported_type")
    assert not [m for m in home.relay.messages if m["type"] == "viewer.add"]


def test_a_relay_that_has_no_room_or_no_session_says_so(home):
    live_id = start(home)
    home.relay.answers("session.open", "session.close")
    watched = Later(lambda: home.watch(live_id))
    home.relay.send("error", re=home.relay.expect("viewer.add")["id"], code="node_full")
    watched.reply().refused("node_full")
    watched = Later(lambda: home.watch(live_id))
    home.relay.send("error", re=home.relay.expect("viewer.add")["id"], code="not_found")
    watched.reply().refused("live_ended")
    assert home.api.get(f"/v1/live/{live_id}").ok(200)["end_code"] == "relay_lost"


def test_a_revoked_client_that_watches_by_webrtc_is_cut_S_S5(home):
    live_id = start(home)
    phone = home.porch.log_in(home.account)
    home.watch(live_id, api=phone).ok(201)
    viewer = home.relay.expect("viewer.add", live_id=live_id)["viewer_id"]
    phone.delete("/v1/sessions/current").ok(204)
    home.relay.expect("viewer.remove", live_id=live_id, viewer_id=viewer)
    home.relay.event(live_id, "viewer_gone", viewer_id=viewer, code="removed")
    until(home.facts_handled, "the viewer is cut")
    assert home.api.get(f"/v1/live/{live_id}").ok(200)["state"] != "ended"  # who opened it watches on


def test_an_offer_that_was_refused_leaves_nothing_S_S5(home):
    live_id = start(home)
    phone = home.porch.log_in(home.account)
    for offer in ("hello", OFFER.replace("H264", "H265"), OFFER.replace("a=rtcp-mux\r\n", "")):
        assert home.watch(live_id, offer, api=phone).status != 201
    home.relay.answers("session.open", "session.close")
    for code in ("viewers_full", "node_full", None):
        watched = Later(lambda: home.watch(live_id, api=phone))
        asked = home.relay.expect("viewer.add")
        if code:
            home.relay.send("error", re=asked["id"], code=code)
        watched.reply().refused(code or "relay_timeout")
        if not code:
            home.relay.expect("viewer.remove", live_id=live_id, viewer_id=asked["viewer_id"])
    assert home.have_keys(live_id) == 1  # of who opened it


def test_a_client_revoked_while_its_offer_is_answered_gets_none_S_S5(home):
    live_id = start(home)
    phone = home.porch.log_in(home.account)
    home.relay.answers("session.open", "session.close")
    watched = Later(lambda: home.watch(live_id, api=phone))
    asked = home.relay.expect("viewer.add")
    phone.delete("/v1/sessions/current").ok(204)
    until(home.facts_handled, "what the client watched was ended")
    home.relay.ok(asked)
    watched.reply().refused("unauthenticated")
    home.relay.expect("viewer.remove", live_id=live_id, viewer_id=asked["viewer_id"])
    assert home.have_keys(live_id) == 1  # of who opened it


def test_a_relay_without_a_certificate_has_no_webrtc(own_porch):
    h = Home(own_porch())
    try:
        h.relay.answers("session.open", "session.close")
        h.watch(start(h)).refused("unsupported_media")
    finally:
        h.close()


def test_pages_learn_what_is_taken(home):
    live_id = start(home)
    told = home.api.session.options(f"http://{home.porch.http}/v1/live/{live_id}/whep")
    assert told.status_code == 204 and told.headers["Accept-Post"] == "application/sdp" and told.headers["Allow"] == "POST, OPTIONS"
    told = home.api.session.options(f"http://{home.porch.http}/v1/live/{live_id}/whep/{NOBODY}")
    assert told.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag" and told.headers["Allow"] == "PATCH, DELETE, OPTIONS"


# --- A hub that publishes by WebRTC.

with open(os.path.join(ROOT, "tests", "unit", "sdp", "gstreamer-publish.sdp"), encoding="utf-8", newline="") as f:
    PUBLISH = f.read()


@pytest.fixture
def publisher(own_porch, monkeypatch):
    monkeypatch.setattr(SimRelay, "fingerprint", FINGERPRINT)
    h = Home(own_porch(), suites=["DTLS-SRTP"])
    h.relay.answers("session.open", "viewer.add", "session.restart", "session.close")
    yield h
    h.close()


def publish(home, whip, offer=PUBLISH, token=None):
    assert whip["url"].startswith(f"http://{home.porch.http}/v1/live/")
    return home.api.call("POST", urlsplit(whip["url"]).path, offer, headers=SDP, token=token or whip["token"])


def test_a_hub_makes_its_one_offer(publisher):
    live_id = start(publisher)
    waits = publisher.relay.expect("session.open", live_id=live_id)
    assert waits["source"]["pending"] and "plain" not in waits["source"] and "ice" not in waits["source"] and "keys" not in waits["source"]
    told = publisher.hub.expect("live.start", live_id=live_id)
    assert told["whip"]["url"] == f"http://{publisher.porch.http}/v1/live/{live_id}/whip" and told["whip"]["token"].startswith("plwt_") and "keys" not in told and "ice" not in told
    publisher.watch(live_id).ok(201)  # viewers need not wait for it
    publish(publisher, told["whip"], "v=0 hello").refused("invalid_request")  # spends nothing
    reply = publish(publisher, told["whip"]).ok(201)
    source = publisher.relay.expect("session.open", live_id=live_id, generation=waits["generation"])["source"]
    assert source["webrtc"]["suites"][0] == "AEAD_AES_128_GCM" and source["webrtc"]["setup"] in ("active", "passive") and "pending" not in source
    assert source["video"]["payload_type"] and source["audio"]["payload_type"]
    assert f"a=ice-ufrag:{source['ice']['ufrag']}" in reply.body and "a=recvonly" in reply.body and "a=candidate:" in reply.body
    publish(publisher, told["whip"]).refused("unauthenticated")  # S-M3: single use
    session = reply.headers["Location"]
    move_home(publisher.porch, publisher.account, publisher.system_id)  # what follows is on the same address
    ufrag = re.search("a=ice-ufrag:(\\S+)", PUBLISH)[1]

    def patch(ufrag, token, **match):
        return publisher.api.call("PATCH", session, f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n", headers=dict(FRAGMENT, **match), token=token)
    assert patch(ufrag, told["whip"]["token"], **{"If-Match": reply.headers["ETag"]}).status == 204
    assert patch(ufrag, told["whip"]["token"], **{"If-Match": "*"}).status == 204  # the same ICE session: nothing is restarted
    patch(ufrag, told["whip"]["token"]).refused("precondition_required")
    patch("nEWr", told["whip"]["token"], **{"If-Match": reply.headers["ETag"]}).refused("version_conflict")
    again = patch("nEWr", told["whip"]["token"], **{"If-Match": "*"}).ok(200)
    restarted = publisher.relay.expect("session.restart", live_id=live_id, generation=waits["generation"])["ice"]
    assert restarted["peer_ufrag"] == "nEWr" and restarted["ufrag"] != source["ice"]["ufrag"]
    assert f"a=ice-ufrag:{restarted['ufrag']}" in again.body and f"a=ice-pwd:{restarted['pwd']}" in again.body and again.headers["ETag"] != reply.headers["ETag"]
    assert patch("nEWr", told["whip"]["token"], **{"If-Match": again.headers["ETag"]}).status == 204
    patch("nEWr", told["whip"]["token"], **{"If-Match": reply.headers["ETag"]}).refused("version_conflict")  # candidates of the ICE session before
    patch(ufrag, "plwt_" + "A" * 43, **{"If-Match": "*"}).refused("not_found")
    publisher.api.delete(session, token="plwt_" + "A" * 43).refused("not_found")
    publisher.api.delete(session).refused("unauthenticated")  # the owner's token is no hub's
    assert publisher.api.delete(session, token=told["whip"]["token"]).status == 200
    publisher.relay.expect("session.close", live_id=live_id)
    publisher.ended(live_id, "hub_lost")


def test_the_relay_is_told_how_far_apart_a_publishers_key_frames_are(publisher):
    """The leg that the hub's offer brings counts, not the one that waited for it: with its key frames 15 s apart a hub is not warned of after 10 s."""
    opens = []
    for _ in range(2):
        live_id = start(publisher)
        told = publisher.hub.expect("live.start", live_id=live_id)
        publish(publisher, told["whip"]).ok(201)
        publisher.relay.expect("session.open", live_id=live_id)
        opens.append(publisher.relay.expect("session.open", live_id=live_id)["source"])
        publisher.hub.send("live.state", live_id=live_id, generation=1, state="sending", can=[], gop_ms=15000)
        until(lambda: (v := publisher.api.get(f"/v1/devices/{publisher.cameras[0]}").ok(200)["video"]) and v["gop_ms"] == 15000, "the server knows it")
        publisher.api.delete(f"/v1/live/{live_id}").ok(204)
    assert "gop_ms" not in opens[0] and opens[1]["gop_ms"] == 15000


def test_the_token_of_an_offer_is_for_one_session_and_half_a_minute_S_M3(publisher):
    first = start(publisher)
    whip = publisher.hub.expect("live.start", live_id=first)["whip"]
    publish(publisher, whip, token="plwt_" + "A" * 43).refused("unauthenticated")
    publish(publisher, whip, token="plat_" + "A" * 43).refused("unauthenticated")
    publish(publisher, dict(whip, url=whip["url"].replace(first, "01a1fd7f-7000-7aaa-8bbb-0ccc0ddd0eee"))).refused("unauthenticated")
    publisher.api.delete(f"/v1/live/{first}").ok(204)
    publish(publisher, whip).refused("unauthenticated")
    second = start(publisher)
    again = publisher.hub.expect("live.start", live_id=second)["whip"]
    assert again["token"] != whip["token"]
    publish(publisher, dict(again, token=whip["token"])).refused("unauthenticated")
    publisher.porch.clock.advance(31)
    publish(publisher, again).refused("unauthenticated")


def test_a_hub_that_restarts_before_its_offer_is_told_again_V_C7(publisher):
    """It has no token any more: it gets another one, and the first is worth nothing (S-M3)."""
    live_id = start(publisher)
    first = publisher.hub.expect("live.start", live_id=live_id)
    publisher.hub.drop()
    publisher.porch.clock.advance(10)
    publisher.hub = SimHub(publisher.porch, publisher.device).open()
    publisher.hub.hello(suites=["DTLS-SRTP"])
    again = publisher.hub.expect("live.start", live_id=live_id)
    assert {k: v for k, v in again.items() if k not in ("id", "whip", "hard_end_s")} == {k: v for k, v in first.items() if k not in ("id", "whip", "hard_end_s")}
    assert again["whip"]["url"] == first["whip"]["url"] and 0 < first["hard_end_s"] - again["hard_end_s"] <= 30
    publish(publisher, first["whip"]).refused("unauthenticated")
    publish(publisher, again["whip"]).ok(201)
    publisher.hub.drop()
    publisher.hub = SimHub(publisher.porch, publisher.device).open()
    publisher.hub.hello(suites=["DTLS-SRTP"])
    assert publisher.hub.expect("live.sync")["sessions"] == [{"live_id": live_id, "generation": first["generation"]}]
    publisher.api.delete(f"/v1/live/{live_id}").ok(204)
    publisher.hub.expect("live.stop", live_id=live_id)
    assert not [m for m in publisher.hub.messages if m["type"] == "live.start"]  # what has made its offer is not told again


def test_an_only_offer_that_fails_ends_the_session_V_C7(publisher):
    """Nobody waits two hours for a source that cannot come: the hub has no second token."""
    live_id = start(publisher)
    told = publisher.hub.expect("live.start", live_id=live_id)
    publish(publisher, told["whip"], PUBLISH.replace("H264/90000", "VP8/90000")).refused("unsupported_media")
    publisher.ended(live_id, "hub_failed")
    publisher.relay.expect("session.close", live_id=live_id)
    publisher.hub.expect("live.stop", live_id=live_id)
    second = start(publisher)
    assert second != live_id
    publisher.relay.refuses(session_open="overloaded")
    publish(publisher, publisher.hub.expect("live.start", live_id=second)["whip"]).refused("overloaded")
    publisher.ended(second, "relay_lost")
