"""Holds each exchange against proto/openapi.yaml: the path and method are known, the status is listed, bodies fit their schemas."""
import os
import re
import threading

import jsonschema
import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
VERBS = ("get", "post", "put", "patch", "delete")


class Contract:
    def __init__(self, path=os.path.join(ROOT, "proto", "openapi.yaml")):
        with open(path, encoding="utf-8") as f:
            self.doc = yaml.safe_load(f)
        self._resolver = jsonschema.RefResolver("", self.doc)
        self._lock = threading.Lock()
        self.seen = set()  # (method, template, status)
        self._paths = []
        for template in self.doc["paths"]:
            pattern = re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(template))
            # A template without parameters wins over one with: /v1/sessions/current over /v1/sessions/{id}.
            self._paths.append((template.count("{"), re.compile(pattern + r"\Z"), template))
        self._paths.sort(key=lambda p: p[0])

    def resolve(self, node):
        while isinstance(node, dict) and "$ref" in node:
            node = self._resolver.resolve(node["$ref"])[1]
        return node

    def template(self, path):
        path = path.split("?")[0]
        return next((t for _, pattern, t in self._paths if pattern.match(path)), None)

    def operations(self):
        """(METHOD, template, operation) of the whole document."""
        for template, item in self.doc["paths"].items():
            for verb in VERBS:
                if verb in item:
                    yield verb.upper(), template, item[verb]

    def _fits(self, schema, value, where):
        errors = list(jsonschema.Draft202012Validator(schema, resolver=self._resolver, format_checker=jsonschema.FormatChecker()).iter_errors(value))
        if errors:
            e = jsonschema.exceptions.best_match(errors)
            raise AssertionError(f"{where}: {e.message} at {'/'.join(map(str, e.absolute_path)) or 'top'}")

    def check(self, method, path, status, request_body, content_type, body):
        """Raises AssertionError when the exchange is not as documented. `body` is parsed JSON, text, or None."""
        template = self.template(path)
        where = f"{method} {path} -> {status}"
        if template is None or method.lower() not in self.doc["paths"][template]:
            if status in (404, 405) and isinstance(body, dict) and body.get("code") in ("not_found", "method_not_allowed"):
                return
            raise AssertionError(f"{where}: proto/openapi.yaml knows no such operation")
        operation = self.doc["paths"][template][method.lower()]
        responses = operation["responses"]
        response = self.resolve(responses.get(str(status), responses.get("default") if status >= 400 else None))
        if response is None:
            raise AssertionError(f"{where}: this status is not documented")
        with self._lock:
            self.seen.add((method, template, status))
        content = response.get("content")
        if not content:
            if body not in (None, "", b""):
                raise AssertionError(f"{where}: no body is documented, but one came: {body!r}")
        else:
            kind = (content_type or "").split(";")[0].strip()
            if kind not in content:
                raise AssertionError(f"{where}: content type {kind!r} is not documented")
            schema = content[kind].get("schema")
            if schema and kind.endswith("json"):
                self._fits(schema, body, where)
        if 200 <= status < 300 and request_body is not None:
            sent = self.resolve(operation.get("requestBody"))
            if not sent:
                raise AssertionError(f"{where}: a body was taken that is not documented")
            self._fits(sent["content"]["application/json"]["schema"], request_body, f"{where}, request")
