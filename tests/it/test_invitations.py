"""Invitations to a system: for one address, once, bounded (S-S10). What a member may, and how it ends, stands in test_sharing.py."""
import os

from lib import rest
from lib.events import Events
from lib.sharing import accept, invite, join, system_of, token_of


def test_an_invitation_is_for_one_address_once_S_S10(porch):
    owner, guest, thief = porch.sign_up(), porch.sign_up(), porch.sign_up()
    system_id = system_of(owner)
    invite(owner.api, system_id, owner.email, "viewer").refused("already_member")
    known = invite(owner.api, system_id, guest.email, "viewer").ok(202)
    unknown = invite(owner.api, system_id, rest.new_email(), "viewer").ok(202)
    assert known["invitation"].keys() == unknown["invitation"].keys()  # whether somebody has the address is not told
    token = token_of(porch, guest.email)
    accept(thief.api, token).refused("other_address")
    rest.Api(porch).post(f"/v1/invitations/{token}/accept").refused("unauthenticated")
    accept(guest.api, token[:-1] + ("A" if token[-1] != "A" else "B")).refused("not_found")
    accept(guest.api, token).ok(201)
    for again in (accept(guest.api, token), rest.Api(porch).get(f"/v1/invitations/{token}"), rest.Api(porch).post(f"/v1/invitations/{token}/decline")):
        again.refused("not_found")
    invite(owner.api, system_id, guest.email, "talker").refused("already_member")
    with porch.db() as db:
        assert db.execute("SELECT 1 FROM system_invitation WHERE email = %s", (guest.email,)).fetchall() == []
    logs = "".join(open(os.path.join(porch.dir, "log", n), encoding="utf-8", errors="replace").read() for n in os.listdir(os.path.join(porch.dir, "log")))
    assert token not in logs and token.split("_")[1] not in logs


def test_invitations_are_sent_again_taken_back_and_declined(porch):
    owner, guest = porch.sign_up(), porch.sign_up()
    system_id = system_of(owner)
    first = invite(owner.api, system_id, guest.email, "viewer").ok(202)["invitation"]
    old, path = token_of(porch, guest.email), f"/v1/systems/{system_id}/invitations/{first['id']}"
    after = porch.mail.count(guest.email)
    assert owner.api.post(f"{path}/resend").ok(202)["invitation"]["sent_count"] == 2
    new = token_of(porch, guest.email, after)
    accept(guest.api, old).refused("not_found")
    for n in (3, 4, 5):
        assert owner.api.post(f"{path}/resend").ok(202)["invitation"]["sent_count"] == n
    owner.api.post(f"{path}/resend").refused("resend_exhausted")
    assert [i["id"] for i in owner.api.get(f"/v1/systems/{system_id}/members").ok(200)["invitations"]] == [first["id"]]
    owner.api.delete(path).ok(204)
    owner.api.delete(path).refused("not_found")
    accept(guest.api, new).refused("not_found")
    with Events(porch, owner.api.token) as events:
        after = porch.mail.count(guest.email)
        again = invite(owner.api, system_id, guest.email, "viewer").ok(202)["invitation"]
        rest.Api(porch).post(f"/v1/invitations/{token_of(porch, guest.email, after)}/decline").ok(204)
        events.wait("invitation.state", lambda d: d["invitation_id"] == again["id"] and d["state"] == "declined")
    assert owner.api.get(f"/v1/systems/{system_id}/members").ok(200)["invitations"] == []


def test_invitations_are_bounded(own_porch):
    """By account and address in a day, and by what a system may hold: no cannon for spam."""
    p = own_porch(extra=["--set", "limit.invites_account_day=4", "--set", "limit.invites_address_day=2"])
    owner, other, friend = p.sign_up(), p.sign_up(), rest.new_email()
    mine, theirs = system_of(owner), system_of(other)
    invite(owner.api, mine, friend, "viewer").ok(202)
    invite(other.api, theirs, friend, "viewer").ok(202)
    assert int(invite(owner.api, mine, friend, "viewer").refused("rate_limited").headers["Retry-After"]) > 0
    for _ in range(3):
        invite(owner.api, mine, rest.new_email(), "viewer").ok(202)
    invite(owner.api, mine, rest.new_email(), "viewer").refused("rate_limited")


def test_a_system_has_twenty_members_at_most(porch):
    owner = porch.sign_up()
    system_id = system_of(owner)
    for _ in range(19):
        invite(owner.api, system_id, rest.new_email(), "viewer").ok(202)
    invite(owner.api, system_id, rest.new_email(), "viewer").refused("members_full")
