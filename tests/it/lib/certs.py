"""An authority of the tests' own, and a certificate by it.

    ca = Authority(tmp_path)
    cert, key = ca.issue("cloud", "IP:127.0.0.1,DNS:cloud.example")        days=-1: it has expired"""
import datetime
import os
import subprocess


class Authority:
    def __init__(self, folder, name="Test authority"):
        self.folder = str(folder)
        self.cert, self.key = self._path("ca.pem"), self._path("ca.key")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.key, "-out", self.cert, "-days", "2", "-subj", f"/CN={name}")

    def _path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def _openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True)

    def issue(self, name, alt, expired=False):
        """(certificate, key), as paths."""
        cert, key, request, database = (self._path(name + end) for end in (".pem", ".key", ".csr", ".txt"))
        self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        with open(database, "w", encoding="ascii"):
            pass
        conf = self._path(name + ".conf")
        with open(conf, "w", encoding="ascii") as f:
            f.write(f"[ca]\ndefault_ca=d\n[d]\ndatabase={database}\nnew_certs_dir={self.folder}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nx509_extensions=x\n"
                    f"[p]\ncommonName=supplied\n[x]\nsubjectAltName={alt}\n")
        now = datetime.datetime.now(datetime.timezone.utc)
        days = (-20, -10) if expired else (-1, 1)
        start, end = ((now + datetime.timedelta(days=d)).strftime("%Y%m%d%H%M%SZ") for d in days)
        self._openssl("ca", "-batch", "-config", conf, "-cert", self.cert, "-keyfile", self.key, "-in", request, "-out", cert, "-startdate", start, "-enddate", end, "-notext")
        return cert, key
