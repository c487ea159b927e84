"""Systems: names, whose they are, and their deletion, which asks first."""
import itertools
from concurrent.futures import ThreadPoolExecutor

from simhub import add_hub, make
from lib.wait import until

_n = itertools.count(1)


def system(api, name=None):
    return api.post("/v1/systems", {"name": name or f"System {next(_n)}"}).ok(201)["id"]


def test_names_are_unique_in_an_account(account, other_account):
    one = account.api.post("/v1/systems", {"name": "Home"}).ok(201)
    account.api.post("/v1/systems", {"name": "home"}).refused("system_name_taken")
    account.api.post("/v1/systems", {"name": "  Home "}).refused("system_name_taken")
    other_account.api.post("/v1/systems", {"name": "Home"}).ok(201)
    two = system(account.api, "Cabin")
    account.api.patch(f"/v1/systems/{two}", {"name": "Home"}).refused("system_name_taken")
    assert account.api.patch(f"/v1/systems/{two}", {"name": "Lake"}).ok(200)["name"] == "Lake"
    assert account.api.patch(f"/v1/systems/{one['id']}", {"name": "HOME"}).ok(200)["name"] == "HOME"
    assert {s["name"] for s in account.api.get("/v1/systems").ok(200)["systems"]} == {"HOME", "Lake"}


def test_one_of_parallel_systems_of_a_name_is_made_S_D8(account):
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: account.api.post("/v1/systems", {"name": "Same"}), range(12)))
    assert sorted(r.status for r in replies) == [201] + [409] * 11, [r.body for r in replies]
    assert {r.code for r in replies if r.status == 409} == {"system_name_taken"}


def test_blank_and_strange_names_are_refused(account):
    for name in ("", "   ", "x" * 65, "a\nb"):
        account.api.post("/v1/systems", {"name": name}).refused("invalid_request")
    account.api.post("/v1/systems", {"name": "A", "colour": "red"}, check=False).refused("invalid_request")


def test_somebody_elses_system_is_not_found_S_S10(account, other_account, porch):
    (hub,) = make(porch, "hub")
    mine, theirs = system(account.api), other_account.api
    path = f"/v1/systems/{mine}"
    theirs.get(path).refused("not_found")
    theirs.patch(path, {"name": "Mine now"}).refused("not_found")
    theirs.delete(path + "?confirm=x").refused("not_found")
    theirs.get(path + "/cameras").refused("not_found")
    theirs.post(path + "/hub", {"serial": hub.serial}).refused("not_found")
    theirs.post(path + "/cameras", {"serial": hub.serial}).refused("not_found")
    grant = porch.step_up(other_account, "delete_hub")
    theirs.post(path + "/hub/delete", {"serial": hub.serial}, grant=grant).refused("not_found")
    assert account.api.get(path).ok(200)["id"] == mine


def test_deleting_a_system_asks_first_and_frees_its_devices(account, other_account, porch):
    (device,) = make(porch, "hub")
    home = system(account.api, "Beach house")
    hub, _ = add_hub(porch, account.api, home, device)
    with hub:
        account.api.delete(f"/v1/systems/{home}", check=False).refused("invalid_request")
        account.api.delete(f"/v1/systems/{home}?confirm=Beach").refused("invalid_request")
        account.api.delete(f"/v1/systems/{home}?confirm=Beach%20house").refused("step_up_required")
        grant = porch.step_up(account, "delete_hub")
        account.api.delete(f"/v1/systems/{home}?confirm=Beach%20house", grant=grant).ok(204)
        hub.expect("unbound", serial=device.serial)
    account.api.get(f"/v1/systems/{home}").refused("not_found")
    assert account.api.get("/v1/home").ok(200)["systems"] == []
    theirs = system(other_account.api)
    other_account.api.post(f"/v1/systems/{theirs}/hub", {"serial": device.serial}).ok(202)


def test_a_system_without_devices_needs_no_step_up(account):
    home = system(account.api, "Empty")
    account.api.delete(f"/v1/systems/{home}?confirm=Empty").ok(204)
    until(lambda: account.api.get("/v1/systems").ok(200)["systems"] == [], "it is gone")
