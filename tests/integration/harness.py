"""Starts a real node for a test: its own folder, its own ports, real processes; everything is taken down again.

A test is a function `test_*(build)` in a module of this folder; it returns nothing, fails by an exception, and skips by raising Skip.
"""
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CPUS = len(os.sched_getaffinity(0))
LOG_LINES = 15
PATIENCE = 90.0  # seconds for whatever has to happen or to answer: a bound against hanging, not an expectation about speed


class Skip(Exception):
    """Raised by a test that cannot run here, with the reason."""


def now_ms():
    return int(time.time() * 1000)


def event(**fields):
    """A valid click; None removes a field."""
    base = {"event_id": str(uuid.uuid4()), "event_type": "click", "timestamp": now_ms(), "ad_id": "ad_1", "campaign_id": "camp_1",
            "advertiser_id": "adv_1", "publisher_id": "pub_1", "bid_price": 0.5}
    base.update(fields)
    return {key: value for key, value in base.items() if value is not None}


def wait_until(what, condition, seconds=PATIENCE):
    """Polls until the condition is true."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"did not happen within {seconds} s: {what}")
        time.sleep(0.02)


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def dies_with_us():
    """
    For preexec_fn of what is started and shall not outlive a killed test or benchmark. The kernel looks at the thread that started it, so
    a thread that ends earlier gets None.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    return lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child whose first line on standard output is awaited."""

    def __init__(self, argv, log, netns=None):
        self.log = open(log, "ab")
        if netns:
            argv = ["ip", "netns", "exec", netns] + argv
        self.popen = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=self.log, start_new_session=True, preexec_fn=dies_with_us())

    def line(self, seconds=PATIENCE):
        end = time.monotonic() + seconds
        text = b""
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self.popen.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"no line within {seconds} s: {self.popen.args}")
            chunk = os.read(self.popen.stdout.fileno(), 1)
            if not chunk:
                raise AssertionError(f"ended with {self.popen.wait()}: {self.popen.args}\n{self.tail()}")
            text += chunk
        return text.decode().strip()

    def whole(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def tail(self):
        return self.whole()[-3000:]

    def kill(self, number=signal.SIGKILL):
        if self.popen.poll() is None:
            self.popen.send_signal(number)

    def stop(self, seconds=PATIENCE):
        self.kill(signal.SIGTERM)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self.popen.wait()
            raise AssertionError(f"did not end within {seconds} s of SIGTERM: {self.popen.args}\n{self.tail()}") from None
        finally:
            self.popen.stdout.close()
            self.log.close()


class Node:
    """A data process and, if asked for, its control process."""

    def __init__(self, build, folder, ingest=None, extra="", rx=(0,), shard=None, background=None, control_auth="none"):
        self.build = pathlib.Path(build).resolve()
        self.folder = pathlib.Path(folder)
        self.data_dir = self.folder / "data"
        self.config = self.folder / "turnpike.yaml"
        if shard is None:
            shard = (1,) if CPUS > 1 else (0,)
        self.ingest = ingest or "  - {driver: socket, http: '127.0.0.1:0', udp: '127.0.0.1:0'}\n"
        self.extra, self.rx, self.shard, self.background, self.control_auth = extra, rx, shard, background, control_auth
        self.write_config()
        self.data = self.control = None
        self.http = self.udp = self.api = None

    def write_config(self):
        self.config.write_text(
            f"node: {{name: test, data_dir: {self.data_dir}}}\n"
            f"ingest:\n{self.ingest}"
            f"cores: {{rx: {list(self.rx)}, shard: {list(self.shard)}, idle: sleep"
            f"{f', background: {list(self.background)}' if self.background else ''}}}\n"
            f"control: {{listen: '127.0.0.1:0', state_dir: {self.folder}/control, auth: {self.control_auth}}}\n"
            f"{self.extra}")

    def start(self, control=True):
        self.data = Process([str(self.build / "dataplane/turnpiked"), "-c", str(self.config)], self.folder / "data.log")
        ready = self.data.line()
        match = re.fullmatch(r"ready http=(\S*) udp=(\S*)", ready)
        assert match, ready
        self.http, self.udp = ([endpoint(text) for text in group.split(",") if text] for group in match.groups())
        if control and not self.control:  # after a kill of the data process it is still there
            self.start_control()
        if self.control and self.control.popen.poll() is None:
            self.wait_for_figures()
        return self

    def wait_for_figures(self):
        """Until the control process answers from this data process: it looks for a new one a few times a second."""
        attached = f'msg="attached to the data process" program=turnpike-control pid={self.data.popen.pid}\n'

        def current():
            return attached in self.control.whole() and json.loads(self.request("GET", "/readyz", at=self.api)[2])["figures"] == "current"
        wait_until("the control process has found the data process", current)

    def start_control(self):
        self.control = Process([str(self.build / "control/turnpike-control"), "-c", str(self.config)], self.folder / "control.log")
        ready = self.control.line()
        match = re.fullmatch(r"ready listen=(\S+)", ready)
        assert match, ready
        self.api = endpoint(match.group(1))

    def stop(self):
        said = ""
        for process in (self.control, self.data):
            if process and (code := process.stop()):
                said += f"exit status {code}: {process.popen.args}\n{process.tail()}\n"
        self.control = self.data = None
        assert not said, said

    def kill(self):
        """kill -9 of the data process."""
        self.data.kill()
        self.data.popen.wait()
        self.data.popen.stdout.close()
        self.data.log.close()
        self.data = None

    # ---- clients ----

    def request(self, method, path, body=None, headers=None, at=None):
        host, port = at or self.http[0]
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def post(self, body, report=False, headers=None):
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        path = "/api/v1/clicks" + ("?report=1" if report else "")
        status, _, content = self.request("POST", path, body, headers)
        return status, json.loads(content) if content else None

    def get(self, path, status=200):
        got, _, content = self.request("GET", path, at=self.api)
        assert got == status, f"GET {path}: {got} {content[:500]!r}"
        return json.loads(content)

    def totals(self, kind, identity, window="24h"):
        return self.get(f"/api/v1/analytics/{kind}/{identity}?window={window}")["totals"]

    def ctl(self, *arguments, status=0):
        done = subprocess.run([str(self.build / "control/turnpikectl"), "-c", str(self.config), *arguments], capture_output=True,
                              text=True, timeout=PATIENCE)
        assert done.returncode in (status if isinstance(status, set) else {status}), f"turnpikectl {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def audit(self):
        """The balance sheet, once nothing is in flight nor has moved for a moment: counters are copies, some milliseconds old. Fails if it does not sum."""
        last = None

        def settled():
            nonlocal last
            sheet, before = self.ctl("audit", "--json"), last
            last = sheet
            return sheet if sheet == before and not any(layer["in_flight"] for layer in sheet["layers"]) else None
        sheet = wait_until("nothing in flight", settled)
        return {layer["layer"]: layer for layer in sheet["layers"]}


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def folder():
    """A folder of the test's own, on a real disk, removed afterwards. If the test fails, what the logs in it said last is told with it."""
    path = tempfile.mkdtemp(prefix="turnpike-test-", dir=os.environ.get("TURNPIKE_TEST_DIR", "/var/tmp"))
    try:
        yield pathlib.Path(path)
    except Exception as error:
        for log in sorted(pathlib.Path(path).glob("*.log")) if not isinstance(error, Skip) else ():
            error.add_note(f"---- the end of {log.name}\n" + "".join(log.read_text(errors="replace").splitlines(True)[-LOG_LINES:]))
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)


def unmount(path):
    """
    A killed process' last writes, and a loop device that is let go, hold a mount for a moment longer. One that stays held goes out of the
    way at least, and ends when it is let go: a test that failed leaves none behind.
    """
    end = time.monotonic() + 15
    while subprocess.run(["umount", str(path)], capture_output=True).returncode:
        if not os.path.ismount(path):
            return
        if time.monotonic() > end:
            subprocess.run(["umount", "-l", str(path)], capture_output=True)
            raise AssertionError(f"{path} is still held after 15 s")
        time.sleep(0.05)


@contextlib.contextmanager
def loop_disk(path, mib):
    """A file system of its own below `path`, on a loop device. Yields its folder; unmounts it, whatever happens. End what uses it inside."""
    if os.geteuid() != 0:
        raise Skip("needs root: a loop-mounted file system")
    image, mount = path / "disk.img", path / "mount"
    mount.mkdir()
    with open(image, "wb") as disk:
        disk.truncate(mib << 20)
    run("mkfs.ext4", "-q", "-F", str(image))
    mounted = run("mount", "-o", "loop", str(image), str(mount), check=False)
    if mounted.returncode:
        raise Skip(f"cannot mount a loop device: {mounted.stderr.strip()}")
    try:
        yield mount
    finally:
        unmount(mount)


@contextlib.contextmanager
def node(build, control=True, **options):
    with folder() as path:
        made = Node(build, path, **options)
        try:
            made.start(control)
            yield made
            made.stop()
        finally:
            for process in (made.control, made.data):
                if process:
                    process.kill()
                    process.popen.wait()


def run(*argv, check=True, **options):
    return subprocess.run(argv, check=check, capture_output=True, text=True, **options)


@contextlib.contextmanager
def network():
    """A namespace with one end of a veth pair in it; the other end is for the node. Yields (namespace, interface of ours)."""
    if os.geteuid() != 0:
        raise Skip("needs root: network namespaces and DPDK")
    tag = f"{os.getpid() % 100000}{uuid.uuid4().hex[:3]}"
    namespace, ours, theirs = f"tptest{tag}", f"tpa{tag}", f"tpb{tag}"
    run("ip", "netns", "add", namespace)
    try:
        run("ip", "link", "add", ours, "numtxqueues", "1", "numrxqueues", "1", "type", "veth", "peer", "name", theirs, "netns",
            namespace, "numtxqueues", "1", "numrxqueues", "1")
        inside = ("ip", "netns", "exec", namespace)
        run(*inside, "ethtool", "-K", theirs, "tx", "off", "gso", "off", "tso", "off")
        run(*inside, "sysctl", "-q", "-w", f"net.ipv6.conf.{theirs}.accept_dad=0", check=False)
        run(*inside, "ip", "addr", "add", "10.77.0.2/24", "dev", theirs)
        run(*inside, "ip", "addr", "add", "fd00:77::2/64", "dev", theirs, "nodad")
        run(*inside, "ip", "link", "set", theirs, "up")
        run(*inside, "ip", "link", "set", "lo", "up")
        run("ip", "link", "set", ours, "up")
        yield namespace, ours
    finally:
        run("ip", "link", "del", ours, check=False)
        run("ip", "netns", "del", namespace, check=False)


DPDK_INGEST = "  - {{driver: dpdk, device: 'net_af_xdp0,iface={0}', address: [10.77.0.1/24, 'fd00:77::1/64'], http_port: 80, udp_port: 7771}}\n"
SOCKET_INGEST = "  - {driver: socket, http: '127.0.0.1:0', udp: '127.0.0.1:0'}\n"


def udp_send(target, payload):
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(payload, target)


# A node that starts quickly: small log files and tables. For tests that need no volume.
SMALL = "durability: {log_file: 16MiB}\nmemory: {dedup: 64MiB, hop: 4MiB}\n"


@contextlib.contextmanager
def findings():
    """Yields same(what, got, wanted), which collects what differs: one run of a table shows all of its broken rows."""
    found = []

    def same(what, got, wanted):
        fine = got in wanted if isinstance(wanted, (set, frozenset)) else got == wanted
        if not fine:
            found.append(f"{what}: got {got!r}, wanted {wanted!r}")

    yield same
    assert not found, f"{len(found)} rows differ:\n  " + "\n  ".join(found)


class Ledger:
    """Sends bodies with ?report=1 over one connection and keeps the books that the node must end with."""

    VERDICTS = ("accepted", "duplicates", "late", "conflicts")

    def __init__(self, made):
        self.node = made
        self.counts = dict.fromkeys(self.VERDICTS, 0)
        self.rejected = {}
        self.connection = http.client.HTTPConnection(*made.http[0], timeout=PATIENCE)

    def send(self, body, headers=None):
        """(status, document) of one body."""
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogatepass")
        self.connection.request("POST", "/api/v1/clicks?report=1", body, headers or {})
        answer = self.connection.getresponse()
        content = answer.read()
        document = json.loads(content) if content else None
        if answer.status == 200:
            for verdict in self.VERDICTS:
                self.counts[verdict] += document[verdict]
            for one in document["rejected"]:
                self.rejected[one["reason"]] = self.rejected.get(one["reason"], 0) + 1
        elif "reason" in document:
            self.rejected[document["reason"]] = self.rejected.get(document["reason"], 0) + 1
        return answer.status, document

    def verdict(self, body, headers=None):
        """What became of a body with one event: a verdict, or the reason of its rejection."""
        status, document = self.send(body, headers)
        if status == 200:
            return next((verdict for verdict in self.VERDICTS if document[verdict]), "") or document["rejected"][0]["reason"]
        assert status == 400, (status, document)
        return document["reason"]

    def close(self):
        """The audit balances and says what the answers said."""
        self.connection.close()
        events = self.node.audit()["events"]
        got = {verdict: events[verdict] for verdict in self.VERDICTS}
        rejected = {reason: count for reason, count in events["rejected"].items() if count}
        assert (got, rejected) == (self.counts, self.rejected), f"the audit says {got} {rejected}, the answers {self.counts} {self.rejected}"


@contextlib.contextmanager
def ledger(build, **options):
    options.setdefault("extra", SMALL)
    options.setdefault("control", False)
    with node(build, **options) as made:
        books = Ledger(made)
        yield books
        books.close()
