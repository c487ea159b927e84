"""A service that wants to be linked to accounts: openid-client (npm) in a process of its own."""
import itertools
import json
import os
import queue
import subprocess
import threading

from .browser import WEB, driver


class Refused(Exception):
    """What the library threw: the server's `error`, or what the library itself found wrong."""


class Service:
    def __init__(self, issuer, client):
        driver()  # brings what npm has to bring
        self.process = subprocess.Popen(["node", os.path.join(WEB, "service.mjs"), issuer, *(v for v in (client["client_id"], client["client_secret"]) if v)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self._ids = queue.Queue(), itertools.count(1)
        threading.Thread(target=lambda: [self.lines.put(t) for t in self.process.stdout] + [self.lines.put("")], daemon=True).start()
        self.metadata = self._answer()

    def _answer(self):
        line = self.lines.get(timeout=60)
        assert line, "the service ended: " + self.process.stderr.read()
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["value"]

    def do(self, what, **how):
        self.process.stdin.write(json.dumps({"id": next(self._ids), "do": what, **how}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
