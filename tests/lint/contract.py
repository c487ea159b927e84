"""The documents in proto/ against the code: route rows, message rows, error codes; and the documents in themselves."""
import functools
import re

import jsonschema
import yaml

from source import read

VERBS = ("get", "post", "put", "patch", "delete")
ROUTE = re.compile(r'\{\s*HTTP_(GET|POST|PUT|PATCH|DELETE)\s*,\s*"([^"]+)"\s*,\s*(HTTP_\w+)\s*,\s*\w+\s*,\s*"([^"]*)"([^}]*)')
MESSAGE = re.compile(r'\{\s*(?:\.type\s*=\s*)?"([a-z_.]+)"\s*,\s*(?:\.phases\s*=\s*)?LINK_\w+')


@functools.lru_cache(maxsize=None)
def load(path):
    return yaml.safe_load(read(path))


def openapi():
    return load("proto/openapi.yaml")


def error_codes():
    for line in read("proto/errors.tsv").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.split("\t")[2]


def compare(what, code, document):
    for x in sorted(code - document):
        yield f"{what} {x} stands in the code but not in the document"
    for x in sorted(document - code):
        yield f"{what} {x} stands in the document but not in the code"


def operations(doc):
    for path, item in doc["paths"].items():
        for verb in VERBS:
            if verb in item:
                yield verb.upper(), path, item, item[verb]


def routes_against_openapi(src):
    rows = {}
    for path, text in src.c_and_h("server/"):
        for verb, route, auth, summary, rest in ROUTE.findall(text) if path.endswith(".c") else []:
            if not route.startswith("/admin/"):
                if (verb, route) in rows:
                    yield f"{verb} {route} has two rows"
                scope = re.search(r'\.scope = "([^"]+)"', rest)
                rows[verb, route] = (auth, summary, ".idempotent = true" in rest, scope[1].split() if scope else [])
    documented = {(verb, path): op for verb, path, _, op in operations(openapi())}
    known = set(re.findall(r'^    \{ "([a-z]+:[a-z]+)", "', read("server/account/account_delegation.c"), re.M))
    used = {s for row in rows.values() for s in row[3]} | {s for _, text in src.c_and_h("server/") for s in re.findall(r'\bhttp_may\([^";]*"([^"]+)"\)', text)}
    yield from compare("scope", used, known)
    yield from compare("scope", known, set(openapi()["components"]["schemas"]["Scope"]["enum"]))
    yield from compare("route", {f"{v} {p}" for v, p in rows}, {f"{v} {p}" for v, p in documented})
    for key in sorted(rows.keys() & documented.keys()):
        auth, summary, idempotent, scopes = rows[key]
        op = documented[key]
        if op.get("summary") != summary:
            yield f"{key[0]} {key[1]}: summary is {op.get('summary')!r}, in the code {summary!r}"
        public = op.get("security", openapi().get("security")) == []
        if public != (auth == "HTTP_PUBLIC"):
            yield f"{key[0]} {key[1]}: {'public' if public else 'signed in'} in the document, {auth} in the code"
        if (auth == "HTTP_USER") != bool(scopes):
            yield f"{key[0]} {key[1]}: a row is HTTP_USER and names the scope that a scoped token needs, or it is HTTP_SESSION"
        told = next((s["scoped"] for s in op.get("security", []) if "scoped" in s), [])
        if told != scopes:
            yield f"{key[0]} {key[1]}: scopes are {told} in the document, {scopes} in the code"
        if idempotent != ({"$ref": "#/components/parameters/IdempotencyKey"} in op.get("parameters", [])):
            yield f"{key[0]} {key[1]}: document and code differ in whether it takes Idempotency-Key"


def onboarding_rows(src):
    """The rows of the leg in the home against its document: method, path, and whether the session's token is asked for."""
    text = read("hub/onboarding.c")
    base = re.search(r'#define BASE "([^"]+)"', text)[1]
    rows = {(v, base + p): token == "true" for v, p, token in re.findall(r'\{ "([A-Z]+)", BASE "([^"]+)", (true|false), \d+, \w+ \}', text)}
    doc = load("proto/onboarding.yaml")
    documented = {(verb, path): op.get("security", doc["security"]) != [] for verb, path, _, op in operations(doc)}
    yield from compare("onboarding route", {" ".join(r) for r in rows}, {" ".join(r) for r in documented})
    for key in rows.keys() & documented.keys():
        if rows[key] != documented[key]:
            yield f"{' '.join(key)}: code and document differ in whether it takes the session's token"
    yield from compare("onboarding code", set(doc["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) - set(error_codes()), set())


def _refs(node, at=""):
    if isinstance(node, dict):
        for k, v in node.items():
            if k == "$ref" and isinstance(v, str):
                yield at, v
            else:
                yield from _refs(v, f"{at}/{k}")
    elif isinstance(node, list):
        for i, v in enumerate(node):
            yield from _refs(v, f"{at}/{i}")


def _broken_refs(doc):
    for at, ref in _refs(doc):
        node = doc
        for part in ref.removeprefix("#/").split("/"):
            node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
        if node is None or not ref.startswith("#/"):
            yield f"{at}: {ref} leads nowhere"


def _unused(doc, ref_prefix, names):
    used = {ref for _, ref in _refs(doc)}
    for name in names:
        if f"{ref_prefix}{name}" not in used:
            yield f"{ref_prefix}{name} is used by nothing"


def openapi_sound(doc):
    yield from _broken_refs(doc)
    for kind in ("schemas", "responses", "parameters"):
        yield from _unused(doc, f"#/components/{kind}/", doc["components"].get(kind, {}))
    for name, schema in doc["components"]["schemas"].items():
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.exceptions.SchemaError as e:
            yield f"schema {name}: {e.message}"
    ids = set()
    for verb, path, item, op in operations(doc):
        where = f"{verb} {path}"
        if not op.get("summary") or not op.get("operationId"):
            yield f"{where}: wants summary and operationId"
        if op.get("operationId") in ids:
            yield f"{where}: operationId {op['operationId']} is used twice"
        ids.add(op.get("operationId"))
        declared = set()
        for p in item.get("parameters", []) + op.get("parameters", []):
            p = doc["components"]["parameters"][p["$ref"].rsplit("/", 1)[1]] if "$ref" in p else p
            if p["in"] == "path":
                declared.add(p["name"])
        if declared != set(re.findall(r"\{(\w+)\}", path)):
            yield f"{where}: path parameters are {sorted(declared)}"
        if not any(s.startswith("2") for s in op["responses"]):
            yield f"{where}: no success is documented"


def _resolve(doc, node):
    while "$ref" in node:
        at = doc
        for part in node["$ref"].removeprefix("#/").split("/"):
            at = at[part]
        node = at
    return node


def _says_type(doc, payload, name):
    """Somewhere in the payload (it may be put together by allOf) the member `type` is this constant."""
    payload = _resolve(doc, payload)
    if payload.get("properties", {}).get("type", {}).get("const") == name:
        return True
    return any(_says_type(doc, part, name) for part in payload.get("allOf", []))


def asyncapi_sound(path):
    doc = load(path)
    yield from (f"{path}: {w}" for w in _broken_refs(doc))
    listed = {m["$ref"].rsplit("/", 1)[1] for op in doc["operations"].values() for m in op["messages"]}
    for name, m in doc["components"]["messages"].items():
        if not _says_type(doc, m["payload"], name):
            yield f"{path}: message {name}: its payload does not say type: {name}"
        if name not in listed:
            yield f"{path}: message {name} is sent by nobody"
    for schema in [*doc["components"].get("schemas", {}).values(), *(m["payload"] for m in doc["components"]["messages"].values())]:
        jsonschema.Draft202012Validator.check_schema(schema)


def sent_by_peer(doc):
    """Types that the peer of the server may send: operations with action receive (AsyncAPI 3: from the server's point of view)."""
    return {m["$ref"].rsplit("/", 1)[1] for op in doc["operations"].values() if op["action"] == "receive" for m in op["messages"]}


# Document -> files whose message rows it lists.
PROTOCOLS = {"proto/hub.asyncapi.yaml": r"server/(device/\w+|live/live_hub)\.c", "proto/relay.asyncapi.yaml": r"server/live/live_relay\.c",
             "proto/events.asyncapi.yaml": r"server/account/account_link\.c"}


def messages_against_asyncapi(src):
    rows = {document: set() for document in PROTOCOLS}
    for path, text in src.c_and_h("server/"):
        found = set(MESSAGE.findall(text)) if path.endswith(".c") else set()
        document = next((d for d, pattern in PROTOCOLS.items() if re.fullmatch(pattern, path)), None)
        if found and document is None:
            yield f"{path}: its messages belong to no document in proto/"
        elif document:
            rows[document] |= found
    for document, code in rows.items():
        if document not in src.files:
            yield f"{document} does not exist"
        else:
            yield from (f"{document}: {w}" for w in compare("message", code, sent_by_peer(load(document))))


def events_against_asyncapi(src):
    """Names of events in the code stand in the document, both ways. In the code an event's name is an argument of journal_event or of a module's own helper of it."""
    code = set()
    for path, text in src.c_and_h("server/"):
        if path.endswith(".c"):
            code |= set(re.findall(r'\b(?:journal_event|device_event|system_event|system_event_named|tell_members|system_say)\s*\([^;"]*"([a-z]+\.[a-z_]+)"', text))
    yield from compare("event", code, set(load("proto/events.asyncapi.yaml")["components"]["schemas"]["EventName"]["enum"]))


def live_stages(src):
    """Stages of a live session in the code stand in openapi.yaml and in the chapter, both ways: those that the cloud writes, what relays report, what they warn of."""
    code = {stage for path, text in src.c_and_h("server/live/") for stage in re.findall(r'\blive_stage_add\([^;"]*"(\w+)"', text)}
    relay = read("server/live/live_relay.c")
    code |= set(re.findall(r'\{ "(\w+)"', re.search(r"\breports\[\] = \{(.*?)\n\};", relay, re.S)[1]))
    code |= set(re.findall(r'"(\w+)"', re.search(r"\bwarn\(.*?\bknown\[\] = \{(.*?)\};", relay, re.S)[1]))
    yield from compare("live stage", code, set(openapi()["components"]["schemas"]["LiveStage"]["enum"]))
    chapter = read("docs/app-developers-live.md")
    yield from (f"docs/app-developers-live.md: live stage {stage} is not told" for stage in sorted(code) if f"`{stage}`" not in chapter)


def step_up_purposes(src):
    """Every step-up that a route wants can be asked for at /v1/step-up, and is known to pin."""
    asked = openapi()["paths"]["/v1/step-up"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["purpose"]["enum"]
    known = set(re.findall(r'\[PIN_\w+\] = "(\w+)"', read("server/pin/pin.c")))
    yield from (f"/v1/step-up offers {p}, which pin does not know" for p in asked if p not in known)
    for path, text in src.c_and_h("server/"):
        for p in re.findall(r'\.step_up\s*=\s*"(\w+)"|spend_grant\([^;]*?"(\w+)"', text):
            p = p[0] or p[1]
            if path.endswith(".c") and p not in asked:
                yield f"{path}: wants a step-up for {p}, which nobody can get"
