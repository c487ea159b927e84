"""The end of an account (S-S6, S-S11): what a dump of the database still says of it, and who was under way while it went."""
import concurrent.futures
import subprocess

from lib import rest
from lib.wait import until
import pg


def dump(p):
    """The whole database as text."""
    done = subprocess.run([f"{pg.BIN}/pg_dump", "-d", p.ready["db"]], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lived_in(p):
    """An account with something of everything that this module and those above it keep."""
    account = p.sign_up()
    p.log_in(account)
    system = account.api.post("/v1/systems", {"name": "Home"}).ok(201)["id"]
    old = account.email
    new = rest.new_email()
    c = account.api.post("/v1/account/email", {"email": new}, grant=p.step_up(account, "change_email")).ok(202)["challenge"]
    account.api.post(f"/v1/challenges/{c['id']}/verify", {"pin": p.mail.pin(new)}, key=c["key"]).ok(200)
    account.email = new
    rest.Api(p).post("/v1/password-resets", {"email": new}).ok(202)
    p.mail.wait(new, which=lambda m: "#plpr_" in m["text"])
    return account, [account.id, old, new, account.phone, system]


def delete(p, account):
    account.api.delete("/v1/account", grant=p.step_up(account, "delete_account")).ok(204)


def test_s_s6_a_day_later_no_row_bears_the_account(own_porch):
    p = own_porch()
    account, names = lived_in(p)
    other = p.sign_up()
    before = dump(p)
    assert all(n in before for n in names)
    delete(p, account)
    # The addresses are free at once, and what was reserved for an undo.
    for email in names[1:3]:
        p.sign_up(email=email)
    names = [n for n in names if "@" not in n]
    with p.db() as db:
        chain = db.execute("SELECT count(*) FROM audit WHERE action = 'account.deleted'").fetchone()[0]
    assert chain == 1
    p.clock.advance(3700)
    until(lambda: account_facts(p, account.id, open_only=True) == 0, "the second look is done")
    p.clock.advance(13 * 3600)
    # Jobs that clean come by once in some minutes; what the sign-up left goes with them too.
    until(lambda: not any(n in dump(p) for n in names), "no row bears the account, its phone or its system", 90)
    # S-S11: the audit itself stays, whole, and is nobody's.
    with p.db() as db:
        assert db.execute("SELECT count(*) FROM audit WHERE action = 'account.deleted'").fetchone()[0] == 1
    assert p.ctl("audit", "verify", other.id)["rows"] > 0 and p.ctl("audit", "verify", account.id)["rows"] == 0


def account_facts(p, account_id, open_only=False):
    with p.db() as db:
        return db.execute("SELECT count(*) FROM fact WHERE account_id = %s" + (" AND done_at IS NULL" if open_only else ""), [account_id]).fetchone()[0]


def test_s_s11_no_audit_row_bears_an_accounts_id(porch, account):
    porch.log_in(account)
    with porch.db() as db:
        assert db.execute("SELECT 1 FROM audit WHERE subject_id = %s OR actor_id = %s OR detail LIKE %s", [account.id, account.id, f"%{account.id}%"]).fetchone() is None
        pseudonym = db.execute("SELECT pseudonym FROM audit_pseudonym WHERE account_id = %s", [account.id]).fetchone()[0]
        assert db.execute("SELECT count(*) FROM audit WHERE subject_id = %s", [pseudonym]).fetchone()[0] >= 3
    shown = porch.ctl("audit", "verify", account.id)
    assert shown["whole"] is True and shown["rows"] >= 3


def test_s_s6_log_ins_and_systems_that_meet_a_deletion_leave_nothing(own_porch):
    """They are under way when the account goes; whatever they leave is gone after the second look."""
    p = own_porch()
    accounts = [p.sign_up() for _ in range(4)]

    def refresh_all(a):
        # After each try the outcome may be anything but a failure of the server.
        for n in range(6):
            r = a.api.post("/v1/systems", {"name": f"System {n}"})
            assert r.status in (201, 401), r
            r = rest.Api(p).post("/v1/sessions", {"email": a.email, "password": a.password, "client": rest.CLIENT})
            assert r.status in (202, 401, 503), r

    grants = [p.step_up(a, "delete_account") for a in accounts]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(refresh_all, a) for a in accounts]
        gone = [pool.submit(a.api.delete, "/v1/account", grant=g) for a, g in zip(accounts, grants)]
        assert [g.result().status for g in gone] == [204] * 4
        for b in busy:
            b.result()
    p.clock.advance(3700)
    for a in accounts:
        until(lambda: account_facts(p, a.id, open_only=True) == 0, "the second look is done")
    p.clock.advance(13 * 3600)
    until(lambda: not any(a.id in dump(p) for a in accounts), "no row bears one of the ids", 90)
