"""S-S8: which error codes the whole run saw on the wire, held against proto/errors.tsv when it is over (conftest.py).

Counted are `code` in problem bodies (REST, the admin API, the hub's leg in the home), in `error` messages of WebSockets, the reasons of WebSocket closes from 4000 on,
and what a failed command says; the clients in lib/ report what they get here. Of claims, commands and results only codes of the table count: they have words of their own beside it."""
import os

from .openapi import ROOT

# Codes that no test can see on the wire: why, and the unit test that raises each.
UNIT_ONLY = {
    "overloaded": ("whether a queue is full hangs on the machine", "test_http_limits.c", "full_queue_is_503_and_the_rest_goes_on"),
    "no_memory": ("nobody can take a running server's memory away", "test_http_limits.c", "failures_of_ours_tell_nothing_inside"),
    "io_error": ("what a program says of a file, at its start and on its console", "test_ctl.c", "files_are_whole_and_private"),
    "short_input": ("of packets: they are counted and dropped, nobody is answered", "test_rtp.c", "headers"),
    "replayed": ("of packets: they are counted and dropped, nobody is answered", "test_rtp_srtp.c", "s_m2_tag_and_replay"),
}

SEEN = {}  # code -> where it was seen first


def table():
    """code -> name in C."""
    with open(os.path.join(ROOT, "proto", "errors.tsv"), encoding="utf-8") as f:
        rows = [line.split("\t") for line in f if line.strip() and not line.startswith("#")]
    return {code: name for name, _, code, _ in rows}


KNOWN = table()


def saw(code, where):
    if isinstance(code, str) and code:
        SEEN.setdefault(code, where)


def in_passing(code, where):
    """A word that may be one of the table."""
    if code in KNOWN:
        saw(code, where)


def in_reply(method, path, status, body):
    if not isinstance(body, dict):
        return
    if status >= 400:
        saw(body.get("code"), f"{method} {path} -> {status}")
    for part in (body, body.get("command"), body.get("claim")):
        if isinstance(part, dict):
            in_passing(part.get("code"), f"{method} {path} -> {status}")


def in_message(socket, message):
    if message.get("type") == "error":
        saw(message.get("code"), f"an error message on {socket}")
    elif isinstance(message.get("data"), dict):
        in_passing(message["data"].get("code"), f"the event {message.get('event')}")


def in_close(socket, code, reason):
    """The close code is 4000 + the code's status (server/link/link.h)."""
    if code and code >= 4000:
        saw(reason, f"the close {code} of {socket}")


def compare(seen, whole, known=None, unit_only=None):
    """What is wrong: codes outside the table; of a whole run also codes of the table that nobody saw."""
    known, unit_only = KNOWN if known is None else known, UNIT_ONLY if unit_only is None else unit_only
    yield from (f"{code} is not in proto/errors.tsv; seen in {where}" for code, where in sorted(seen.items()) if code not in known)
    if whole:
        yield from (f"{code} was not seen on the wire by any test" for code in known if code not in seen and code not in unit_only)
