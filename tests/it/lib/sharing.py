"""Sharing as a test needs it: other people in a system, and a home that moves.

    guest = join(porch, owner, system_id, "viewer")      somebody new, by the e-mail
    heir = move_home(porch, owner, system_id)            the rows of the system stand under another owner"""
import re
import uuid

from .wait import until


def invite(home_api, system_id, email, role, grant=None, **more):
    return home_api.post(f"/v1/systems/{system_id}/members", {"email": email, "role": role, **more}, grant=grant)


def token_of(porch, email, after=0):
    text = porch.mail.wait(email, after, which=lambda m: "plin_" in m["text"])["text"]
    return re.search(r"/invitation#(plin_[A-Za-z0-9_-]{43})", text)[1]


def accept(api, token):
    return api.post(f"/v1/invitations/{token}/accept")


def join(porch, owner, system_id, role, who=None, **more):
    """Somebody new becomes a member, by the e-mail. Returns the account."""
    who = who or porch.sign_up()
    after = porch.mail.count(who.email)
    grant = porch.step_up(owner, "change_owners") if role == "owner" else None
    invite(owner.api, system_id, who.email, role, grant, **more).ok(202)
    assert accept(who.api, token_of(porch, who.email, after)).ok(201)["role"] == role
    return who


def member_of(api, system_id, email=None):
    members = api.get(f"/v1/systems/{system_id}/members").ok(200)["members"]
    return next(m for m in members if (m["email"] == email if email else m["you"]))


def system_of(owner, name=None):
    return owner.api.post("/v1/systems", {"name": name or f"Home {uuid.uuid4().hex[:8]}"}).ok(201)["id"]


def home_of(porch, system_id):
    with porch.db() as db:
        return str(db.execute("SELECT account_id FROM system WHERE id = %s", (system_id,)).fetchone()[0])


def move_home(porch, owner, system_id):
    """Another owner comes, and this one is a manager from now on. Returns the other, under whom the rows stand then."""
    heir = join(porch, owner, system_id, "owner")
    owner.api.patch(f"/v1/systems/{system_id}/members/{member_of(owner.api, system_id)['member_id']}", {"role": "manager"}).ok(200)
    until(lambda: home_of(porch, system_id) == heir.id, "the rows stand under the other owner")
    return heir
