"""S-S10: every route of the document that names an object answers for somebody else's as for one that does not exist. Made from proto/openapi.yaml: a new route is in it."""
import json
import uuid

import pytest
from lib import openapi
from simhub import add_camera, add_hub, make

CONTRACT = openapi.Contract()
# Whose object the first id of a path is. A route below none of these fails the test: say here what it names.
OBJECTS = ("/v1/account/clients/", "/v1/account/tokens/", "/v1/account/services/", "/v1/account/factors/passkeys/", "/v1/systems/", "/v1/claims/", "/v1/devices/", "/v1/live/")
# What a route wants a step-up for. One that wants it and is not here fails the test.
PURPOSES = {("DELETE", "/v1/account/clients/{id}"): "revoke_clients", ("DELETE", "/v1/account/factors/passkeys/{id}"): "change_factors",
            ("POST", "/v1/systems/{id}/hub/delete"): "delete_hub", ("DELETE", "/v1/systems/{id}"): "delete_hub",
            ("POST", "/v1/systems/{id}/members"): "change_owners", ("PATCH", "/v1/systems/{id}/members/{member}"): "change_owners",
            ("DELETE", "/v1/systems/{id}/members/{member}"): "change_owners"}
# A secret in the path is no object of anybody's: who has it may use it (test_sharing.py). Nor is a provider, whose name everybody is told; behind it stands one's own link (test_links.py).
NO_OBJECTS = ("/v1/invitations/", "/v1/account/links/")
ROUTES = [(method, template, operation) for method, template, operation in CONTRACT.operations()
          if "{" in template and operation.get("security") != [] and not template.startswith(NO_OBJECTS)]


def value(schema):
    """Something that the schema takes."""
    schema = CONTRACT.resolve(schema)
    for choice in ("allOf", "oneOf", "anyOf"):
        if choice in schema and "properties" not in schema:
            return value(schema[choice][0])
    for word in ("example", "const", "default"):
        if word in schema:
            return schema[word]
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        names = schema.get("required") or list(schema.get("properties", {}))[: schema.get("minProperties", 1)]
        return {name: value(schema["properties"][name]) for name in names}
    if kind == "array":
        return [value(schema["items"])] * max(1, schema.get("minItems", 0))
    if kind == "string":
        return str(uuid.uuid4()) if schema.get("format") == "uuid" else ("PLW" + "A" * 17)[: max(13, schema.get("minLength", 0))]
    return {"integer": max(1, schema.get("minimum", 1)), "number": max(1, schema.get("minimum", 1)), "boolean": True}[kind]


def body_of(operation):
    """(body, headers)"""
    if "requestBody" not in operation:
        return None, {}
    (kind, content), = list(CONTRACT.resolve(operation["requestBody"])["content"].items())[:1]
    if not kind.endswith("json"):
        return content.get("example", "v=0\r\n"), {"Content-Type": kind}
    return json.dumps(content["example"] if "example" in content else value(content["schema"])), {"Content-Type": kind}


@pytest.fixture(scope="module")
def theirs(porch):
    """A whole household of somebody's: {the part of a path that stands before its id: its id}."""
    them = porch.sign_up()
    hub_made, camera, other = make(porch, "hub", "wireless", "wireless")
    system_id = them.api.post("/v1/systems", {"name": "Theirs"}).ok(201)["id"]
    hub, _ = add_hub(porch, them.api, system_id, hub_made)
    device_id = add_camera(them.api, hub, system_id, camera)
    claim = them.api.post(f"/v1/systems/{system_id}/cameras", {"serial": other.serial}).ok(202)["claim"]
    client = them.api.get("/v1/account/clients").ok(200)["clients"][0]["client_id"]
    live = str(uuid.uuid4())
    with porch.db() as db:
        db.execute("INSERT INTO live (account_id, id, device_id, system_id, camera_serial, hub_serial, relay_id, client_id, generation, state, end_code, suite, created_at, "
                   "expires_at, hard_end_at, ended_at) VALUES (%s, %s, %s, %s, 'x', 'x', %s, %s, 1, 'ended', 'expired', 'AEAD_AES_128_GCM', now(), now(), now(), now())",
                   (them.id, live, device_id, system_id, them.id, client))
        passkey = str(uuid.uuid4())
        db.execute("INSERT INTO factor_passkey (account_id, id, slot, name, credential_id, algorithm, public_key, sign_count, backed_up, created_at) "
                   "VALUES (%s, %s, 1, 'Phone', %s, -7, '', 0, false, now())", (them.id, passkey, uuid.UUID(passkey).bytes))
        token, service = str(uuid.uuid4()), str(uuid.uuid4())
        for one, what in ((token, "token"), (service, "service")):
            db.execute("INSERT INTO delegation (account_id, id, kind, name, hint, scopes, created_at) VALUES (%s, %s, %s, 'Script', '', 'systems:read', now())", (them.id, one, what))
    assert them.api.get(f"/v1/live/{live}").ok(200)["state"] == "ended"
    yield {"/v1/account/clients/": client, "/v1/account/tokens/": token, "/v1/account/services/": service,
           "/v1/account/factors/passkeys/": passkey, "/v1/systems/": system_id, "/v1/claims/": claim["id"], "/v1/devices/": device_id,
           "/v1/live/": live}
    hub.close()


def test_every_object_of_the_document_is_known():
    assert [t for _, t, _ in ROUTES if not t.startswith(OBJECTS)] == []


@pytest.mark.parametrize("method, template, operation", ROUTES, ids=[f"{m} {t}" for m, t, _ in ROUTES])
def test_somebody_elses_object_is_404_S_S10(porch, other_account, theirs, method, template, operation):
    body, headers = body_of(operation)
    kind = next(o for o in OBJECTS if template.startswith(o))

    def ask(id_, **more):
        first, *rest = template.split("/{", 1)
        tail = rest[0].split("}", 1)[1]
        while "{" in tail:
            before, after = tail.split("{", 1)
            tail = before + str(uuid.uuid4()) + after.split("}", 1)[1]
        query = "?confirm=Theirs" if any(isinstance(p, dict) and p.get("name") == "confirm" for p in operation.get("parameters", [])) else ""
        reply = other_account.api.call(method, f"{first}/{id_}{tail}{query}", body, headers={**headers, "If-Match": '"1"', **more})
        return reply.status, reply.code

    there, nowhere = ask(theirs[kind]), ask(str(uuid.uuid4()))
    assert there == nowhere  # it tells nobody that it exists
    if any("Grant" in json.dumps(p) for p in operation.get("parameters", [])):
        # Without a grant both are refused for want of it; with one they are looked for, and alike again.
        assert there in ((403, "step_up_required"), (404, "not_found"))
        purpose = PURPOSES[method.upper(), template]
        there, nowhere = (ask(id_, **{"Step-Up-Grant": porch.step_up(other_account, purpose)}) for id_ in (theirs[kind], str(uuid.uuid4())))
    assert there == nowhere == (404, "not_found"), body
