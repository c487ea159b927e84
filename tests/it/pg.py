"""A private PostgreSQL cluster for tests and for schema/sqlgen.py: own temporary folder, Unix socket only, nothing system-wide touched.

    with pg.Cluster() as c:
        psycopg.connect(c.conninfo)

As root the server runs as the system user `postgres` (PostgreSQL refuses root). Everything waits for an event with a deadline. The server dies
with the process that started it, whatever way that ends."""
import ctypes
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEADLINE = 60  # seconds for each step; a shared machine may be slow


def _bin_dir():
    found = sorted(glob.glob("/usr/lib/postgresql/15/bin")) or sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        raise RuntimeError("PostgreSQL's programs are not installed (package postgresql-15)")
    return found[-1]


BIN = _bin_dir()


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG


def _user():
    """Arguments for subprocess that make the child an unprivileged user when this process is root."""
    if os.geteuid() != 0:
        return {}
    for name in ("porchlight", "postgres"):
        try:
            p = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": p.pw_uid, "group": p.pw_gid, "extra_groups": []}
    raise RuntimeError("neither user 'porchlight' nor 'postgres' exists, and PostgreSQL does not run as root")


class Cluster:
    """durable=False switches fsync off: quick, and refused by porchlightd (Nothing lost)."""

    def __init__(self, durable=True, settings=None):
        self.durable = durable
        self.settings = dict(settings or {})
        self.dir = None
        self.process = None
        self._reader = None

    # Roles: `postgres` is the superuser of the cluster, `porchlight` owns the database and is what the daemons use.
    def conninfo_of(self, dbname="porchlight", user="porchlight"):
        return f"host={self.dir} port=5432 dbname={dbname} user={user}"

    @property
    def conninfo(self):
        return self.conninfo_of()

    @property
    def admin_conninfo(self):
        return self.conninfo_of(user="postgres")

    @property
    def log(self):
        with open(os.path.join(self.dir, "server.log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="plpg.")
        try:
            as_user = _user()
            if as_user:
                os.chown(self.dir, as_user["user"], as_user["group"])
            made = subprocess.run([f"{BIN}/initdb", "-D", f"{self.dir}/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync",
                                   "--no-instructions"], cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE, **as_user)
            if made.returncode != 0:
                raise RuntimeError("initdb failed: " + made.stdout.decode(errors="replace"))
            self.start()
            self.psql("CREATE ROLE porchlight LOGIN", dbname="postgres", user="postgres")
            self.create_database("porchlight")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *unused):
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def start(self):
        """Starts the server; returns when it takes connections."""
        settings = {"listen_addresses": "", "unix_socket_directories": self.dir, "port": "5432", "shared_buffers": "16MB", "max_connections": "200",
                    "jit": "off", "fsync": "on" if self.durable else "off", "log_min_messages": "warning", "wal_level": "minimal", "max_wal_senders": "0"}
        settings.update(self.settings)
        args = [f"{BIN}/postgres", "-D", f"{self.dir}/data"]
        for k, v in settings.items():
            args += ["-c", f"{k}={v}"]
        self.process = subprocess.Popen(args, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        preexec_fn=_die_with_parent, start_new_session=True, **_user())
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read_log, args=(self.process.stderr, ready), daemon=True)
        self._reader.start()
        if not ready.wait(DEADLINE) or self.process.poll() is not None:
            raise RuntimeError("PostgreSQL did not start: " + self.log[-2000:])

    def _read_log(self, pipe, ready):
        with open(os.path.join(self.dir, "server.log"), "ab", buffering=0) as log:
            for line in pipe:
                try:
                    log.write(line)
                except OSError:
                    pass  # a test may fill the disk; the pipe must be read on
                if b"ready to accept connections" in line:
                    ready.set()
        ready.set()

    def stop(self, mode="fast"):
        """mode: smart, fast or immediate (no checkpoint: the next start recovers from the log)."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(DEADLINE)
        self.process.stderr.close()
        self.process = None

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def psql(self, sql, dbname="porchlight", user="porchlight"):
        """Runs SQL, several statements if need be; raises with the server's words."""
        done = subprocess.run([f"{BIN}/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo_of(dbname, user), "-f", "-"],
                              input=sql.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode(errors="replace").strip())
        return done.stdout.decode().strip()

    def create_database(self, name, template="template0"):
        self.psql(f'CREATE DATABASE "{name}" OWNER porchlight TEMPLATE "{template}"', dbname="postgres", user="postgres")
        self.psql("ALTER SCHEMA public OWNER TO porchlight", dbname=name, user="postgres")
        return self.conninfo_of(name)


def migration_files(folder):
    """The migrations in their order."""
    return sorted(glob.glob(os.path.join(folder, "[0-9][0-9][0-9][0-9]_*.sql")))


def apply_migrations(cluster, folder, dbname="porchlight"):
    """Applies the files as they are, without the book-keeping of db_migrate: for tools that only want the schema."""
    for path in migration_files(folder):
        with open(path, encoding="utf-8") as f:
            sql = f.read()
        try:
            cluster.psql("BEGIN; " + sql + "\nCOMMIT;\n", dbname=dbname)
        except RuntimeError as e:
            raise RuntimeError(f"{path}: {e}") from None
