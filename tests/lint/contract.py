"""The documents in proto/ against the code: route rows, message rows, error codes; and the documents in themselves."""
import functools
import os
import re

import jsonschema
import yaml

from source import read

VERBS = ("get", "post", "put", "patch", "delete")
ROUTE = re.compile(r'\{\s*HTTP_(GET|POST|PUT|PATCH|DELETE)\s*,\s*"([^"]+)"\s*,\s*(HTTP_\w+)\s*,\s*\w+\s*,\s*"([^"]*)"')
MESSAGE = re.compile(r'\{\s*"([a-z_.]+)"\s*,\s*(?:LINK_\w+)')
# Which tables of message rows belong to which document: by their array's name in the code.
TABLES = re.compile(r"struct link_message (\w+)\[\]\s*=\s*\{(.*?)\n\};", re.S)


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
        for verb, route, auth, summary in ROUTE.findall(text):
            if not route.startswith("/admin/"):
                if (verb, route) in rows:
                    yield f"{verb} {route} has two rows"
                rows[verb, route] = (auth, summary)
    documented = {(verb, path): op for verb, path, _, op in operations(openapi())}
    yield from compare("route", {f"{v} {p}" for v, p in rows}, {f"{v} {p}" for v, p in documented})
    for key in sorted(rows.keys() & documented.keys()):
        auth, summary = rows[key]
        op = documented[key]
        if op.get("summary") != summary:
            yield f"{key[0]} {key[1]}: summary is {op.get('summary')!r}, in the code {summary!r}"
        public = op.get("security", openapi().get("security")) == []
        if public != (auth == "HTTP_PUBLIC"):
            yield f"{key[0]} {key[1]}: {'public' if public else 'signed in'} in the document, {auth} in the code"


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


def openapi_sound():
    doc = openapi()
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


def _message_schemas(doc):
    for name, m in doc["components"]["messages"].items():
        yield name, m


def asyncapi_sound(path):
    doc = load(path)
    yield from (f"{path}: {w}" for w in _broken_refs(doc))
    for name, m in _message_schemas(doc):
        payload = m.get("payload", {})
        try:
            jsonschema.Draft202012Validator.check_schema(payload)
        except jsonschema.exceptions.SchemaError as e:
            yield f"{path}: message {name}: {e.message}"
        if m.get("name") != (payload.get("properties", {}).get("type", {}).get("const")):
            yield f"{path}: message {name}: its name is not its type"
    for schema in doc["components"].get("schemas", {}).values():
        jsonschema.Draft202012Validator.check_schema(schema)


def sent_by_peer(doc):
    """Types that the peer of the server may send: operations with action receive (AsyncAPI 3: from the server's point of view)."""
    found = set()
    for op in doc["operations"].values():
        if op["action"] == "receive":
            for ref in op["messages"]:
                node = doc
                for part in ref["$ref"].removeprefix("#/").split("/"):
                    node = node[part]
                if "$ref" in node:
                    node = doc["components"]["messages"][node["$ref"].rsplit("/", 1)[1]]
                found.add(node["name"])
    return found


# Document -> names of the tables in the code that serve it.
PROTOCOLS = {"proto/hub.asyncapi.yaml": r"(device|live_hub|hub)\w*", "proto/relay.asyncapi.yaml": r"(live_relay|relay)\w*", "proto/events.asyncapi.yaml": r"(event|app|account|node)\w*"}


def messages_against_asyncapi(src):
    rows = {path: set() for path in PROTOCOLS}
    for path, text in src.c_and_h("server/"):
        for table, body in TABLES.findall(text):
            for document, pattern in PROTOCOLS.items():
                if re.fullmatch(pattern, table):
                    rows[document] |= set(MESSAGE.findall(body))
                    break
            else:
                yield f"{path}: table {table} belongs to no document in proto/"
    for document, code in rows.items():
        if not os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", document)):
            yield f"{document} does not exist"
        else:
            for w in compare("message", code, sent_by_peer(load(document))):
                yield f"{document}: {w}"
