"""Access to the control process under hostile clients and over TLS: slow ones by the thousand, ones that vanish, ones that do not read."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import signal
import socket
import ssl
import subprocess
import time

from harness import PATIENCE, SMALL, Process, Skip, endpoint, folder, node, wait_until

SLOW = 10000


def memory_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def threads(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/task").iterdir()))


def files(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


@contextlib.contextmanager
def control(auth="none", more=""):
    """A control process alone: (address, process, folder)."""
    with folder() as path:
        build = control.build
        config = path / "turnpike.yaml"
        config.write_text(f"node: {{name: test, data_dir: {path}/data}}\n"
                          f"control: {{listen: '127.0.0.1:0', state_dir: {path}/control, auth: {auth}{more}}}\n")
        process = Process([str(build / "control/turnpike-control"), "-c", str(config)], path / "control.log")
        try:
            address = endpoint(process.line().removeprefix("ready listen="))
            yield address, process, path
            assert process.stop() == 0, process.tail()
        finally:
            if process.popen.poll() is None:
                process.kill()
                process.popen.wait()


def ask(address, path, timeout=PATIENCE, headers=None, source="127.0.0.1", context=None):
    """One honest request: (status, body, seconds)."""
    began = time.monotonic()
    if context:
        connection = http.client.HTTPSConnection(*address, timeout=timeout, source_address=(source, 0), context=context)
    else:
        connection = http.client.HTTPConnection(*address, timeout=timeout, source_address=(source, 0))
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), time.monotonic() - began
    finally:
        connection.close()


class Slow:
    """Clients that hold on: each from an address of the group's, with a piece of a request."""

    def __init__(self, address, count, piece, sources):
        self.sockets = []
        for number in range(count):
            client = socket.socket()
            client.bind((sources[number % len(sources)], 0))
            client.connect(address)
            try:
                client.send(piece)
            except OSError:
                pass  # it has been shed already
            self.sockets.append(client)

    def drip(self, piece=b"a"):
        for client in self.sockets:
            with contextlib.suppress(OSError):
                client.send(piece, socket.MSG_DONTWAIT)

    def close(self):
        for client in self.sockets:
            client.close()


def room_for_files(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        raise Skip(f"needs {count} open files, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


def ended(address, reason):
    """How many connections the control process says that it ended for the reason."""
    return int(re.search(rb'turnpike_http_connections_ended_total\{reason="%s"\} (\d+)' % reason.encode(), ask(address, "/metrics")[1]).group(1))


def test_ten_thousand_slow_clients(build):
    """From one address or from many, before the first byte or in the middle of a head: who asks at once is served."""
    control.build = pathlib.Path(build).resolve()
    room_for_files(SLOW + 1000)
    with control() as (address, process, _):
        pid = process.popen.pid
        before = memory_kib(pid)
        thread_count = threads(pid)
        groups = []
        try:
            one, many = ["127.0.0.2"], [f"127.0.{1 + i // 250}.{1 + i % 250}" for i in range(1000)]
            for piece, sources in ((b"", one), (b"GET /readyz HTTP/1.1\r\nHost: a\r\nX: ", many)):
                groups.append(Slow(address, SLOW // 2, piece, sources))
                # an honest client from an address of its own, and one that shares it with the slow ones
                for source in ("127.0.0.1", sources[0]):
                    for path in ("/healthz", "/metrics", "/api/v1/live/history"):
                        status, _, _ = ask(address, path, source=source)
                        assert status == 200, (path, source, status)
            groups[-1].drip()
            assert ask(address, "/metrics")[0] == 200
            assert ended(address, "shed") >= SLOW - 4096 - 100 and ended(address, "full") == 0, (ended(address, "shed"), ended(address, "full"))
            assert threads(pid) == thread_count, f"threads grew from {thread_count} to {threads(pid)}"
            assert files(pid) < 4096 * 5 // 4 + 256, f"{files(pid)} open files: more connections than control.connections"
            grown = memory_kib(pid) - before
            assert grown < 256 * 1024, f"memory grew by {grown} KiB"
        finally:
            for group in groups:
                group.close()
        wait_until("their places are free again", lambda: files(pid) < 100)


def test_a_dripping_client_is_let_go(build):
    """A byte now and then does not buy time without end, and no answer is waited for from who does not read."""
    control.build = pathlib.Path(build).resolve()
    with control() as (address, process, _):
        client = socket.create_connection(address)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < PATIENCE:
                client.sendall(b"X-Drip: 1\r\n")
                client.settimeout(0.25)
                with contextlib.suppress(TimeoutError):
                    if not client.recv(100):
                        break
        assert time.monotonic() - began < PATIENCE, "it was never let go"
        client.close()
        assert ask(address, "/healthz")[0] == 200
        assert (ended(address, "slow"), ended(address, "shed")) == (1, 0)


def watch(address):
    client = socket.create_connection(address, timeout=PATIENCE)
    client.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return client


def test_watchers_that_vanish(build):
    """Watchers hold no thread and no worker; the ones that are gone, or never read, give their places back."""
    control.build = pathlib.Path(build).resolve()
    with control() as (address, process, _):
        pid = process.popen.pid
        threads_before = threads(pid)
        for _ in range(3):
            watchers = []
            for _ in range(6):
                new = [watch(address) for _ in range(50)]  # 128 requests of one address may wait
                for client in new:  # all are watching: the head and the greeting are there
                    got = b""
                    while b"retry:" not in got:
                        piece = client.recv(4096)
                        assert piece and b"200 OK" in got + piece, got + piece
                        got += piece
                watchers += new
            assert threads(pid) == threads_before
            assert ask(address, "/metrics")[0] == 200
            for number, client in enumerate(watchers):
                if number % 2:  # a reset
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
            # 512 places: the next round would find them taken if they did not come back
            wait_until("the watchers' places are free", lambda: files(pid) < 100)
        # beyond its places it says so
        watchers = []
        statuses = set()
        for _ in range(520):
            client = watch(address)
            statuses.add(client.recv(4096).split(b" ")[1])
            watchers.append(client)
        assert statuses == {b"200", b"503"}, statuses
        # it ends at once, whoever watches
        assert process.stop() == 0
        for client in watchers:
            client.close()
        process.popen.stdout = open(os.devnull, "rb")
        process.log = open(os.devnull, "ab")


def test_who_does_not_read_holds_nobody_up(build):
    """Large answers that nobody takes: the others get theirs, memory stays within its budget."""
    control.build = pathlib.Path(build).resolve()
    with control() as (address, process, _):
        pid = process.popen.pid
        clients = []
        try:
            for _ in range(400):
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                client.bind(("127.0.0.3", 0))
                client.connect(address)
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20)
                clients.append(client)
            for _ in range(20):
                for path in ("/openapi.json", "/metrics", "/app.js", "/healthz"):
                    assert ask(address, path)[0] == 200
            assert memory_kib(pid) < 512 * 1024
        finally:
            for client in clients:
                client.close()


# ---- TLS ----


def openssl(*arguments, **options):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, **options)


class Authority:
    """A certificate authority in a folder, made for one test."""

    def __init__(self, path, name):
        self.path, self.name = path, name
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                f"/CN={name}", "-keyout", f"{path}/{name}.key", "-out", f"{path}/{name}.pem")

    def issue(self, name, purpose, serial):
        path = self.path
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-keyout",
                f"{path}/{name}.key", "-out", f"{path}/{name}.csr")
        (path / "extensions").write_text(f"extendedKeyUsage={purpose}\nsubjectAltName=IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", f"{path}/{name}.csr", "-CA", f"{path}/{self.name}.pem", "-CAkey", f"{path}/{self.name}.key",
                "-set_serial", str(serial), "-days", "2", "-extfile", f"{path}/extensions", "-out", f"{path}/{name}.pem")
        return path / f"{name}.pem", path / f"{name}.key"


def client_context(authority, certificate=None, version=None):
    context = ssl.create_default_context(cafile=str(authority.path / f"{authority.name}.pem"))
    if certificate:
        context.load_cert_chain(*map(str, certificate))
    if version:
        context.maximum_version = version
    return context


def serial(address, context):
    with socket.create_connection(address, timeout=PATIENCE) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
        return int(wrapped.getpeercert()["serialNumber"], 16)


def refused(address, context):
    """Whether no answer comes: in TLS 1.3 a client learns of it with its first read."""
    try:
        ask(address, "/healthz", context=context)
    except (ssl.SSLError, OSError, http.client.HTTPException):
        return True
    return False


def test_tls_and_client_certificates(build):
    control.build = pathlib.Path(build).resolve()
    with folder() as path:
        ours, theirs = Authority(path, "ours"), Authority(path, "theirs")
        certificate, key = ours.issue("node", "serverAuth", 101)
        good, wrong_purpose = ours.issue("client", "clientAuth", 7), ours.issue("server", "serverAuth", 8)
        stranger = theirs.issue("stranger", "clientAuth", 9)
        tls = f", tls: {{certificate: {certificate}, key: {key}, client_ca: {path}/ours.pem}}"
        with control("tokens", tls) as (address, process, own):
            config = own / "turnpike.yaml"
            tool = [str(control.build / "control/turnpikectl"), "-c", str(config)]
            token = json.loads(subprocess.run([*tool, "token", "create", "--scope", "read", "--json"], check=True,
                                              capture_output=True, text=True).stdout)["token"]
            bearer = {"Authorization": f"Bearer {token}"}
            context = client_context(ours, good)
            assert ask(address, "/healthz", context=context)[0] == 200
            assert ask(address, "/metrics", context=context)[0] == 401, "a certificate is no token"
            assert ask(address, "/metrics", headers=bearer, context=context)[0] == 200
            assert ask(address, "/metrics", headers=bearer, context=client_context(ours, good, ssl.TLSVersion.TLSv1_2))[0] == 200
            assert refused(address, client_context(ours)), "without a certificate"
            assert refused(address, client_context(ours, stranger)), "with a stranger's certificate"
            assert refused(address, client_context(ours, wrong_purpose)), "with one that is not for clients"
            assert refused(address, client_context(ours, None, ssl.TLSVersion.TLSv1_2))
            assert refused(address, None), "in the clear"
            # a session's cookie is for TLS only
            connection = http.client.HTTPSConnection(*address, timeout=PATIENCE, context=context)
            connection.request("POST", "/login", json.dumps({"token": token}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            cookie = answer.getheader("Set-Cookie")
            assert answer.status == 200 and cookie.startswith("__Host-turnpike=") and cookie.endswith("; Secure"), cookie
            assert ask(address, "/metrics", headers={"Cookie": cookie.split(";")[0]}, context=context)[0] == 200
            # a connection from before a reload goes on; a new one gets the new certificate
            assert serial(address, context) == 101
            ours.issue("node", "serverAuth", 102)
            assert serial(address, context) == 101
            process.popen.send_signal(signal.SIGHUP)
            wait_until("the new certificate is served", lambda: serial(address, context) == 102)
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
            connection.close()
            # files that are no good change nothing
            key.write_text("no key\n")
            process.popen.send_signal(signal.SIGHUP)
            wait_until("the log says so", lambda: "it is not the key" in process.tail() or "control.tls.key" in process.tail())
            assert serial(address, context) == 102
            check = subprocess.run([str(control.build / "control/turnpike-control"), "-c", str(config), "--check"],
                                   capture_output=True, text=True)
            assert check.returncode == 2 and "control.tls.key" in check.stderr, check
            ours.issue("node", "serverAuth", 103)
            # slow handshakes shut nobody out
            slow = Slow(address, 500, b"\x16\x03\x01", ["127.0.0.2"])
            assert ask(address, "/metrics", headers=bearer, context=context)[0] == 200
            slow.close()


# ---- acts ----


def test_acts_by_tool_and_over_http(build):
    """Blocklist and tokens by both ways: one log tells of all, and the alias of DELETE works."""
    with node(build, extra=SMALL, control_auth="tokens") as made:
        admin = made.ctl("token", "create", "--scope", "admin", "--json")
        headers = {"Authorization": f"Bearer {admin['token']}", "Content-Type": "application/json"}

        def call(method, path, body=None):
            return made.request(method, path, body, headers, at=made.api)

        made.ctl("blocklist", "add", "198.51.100.0/24", "--reason", "a test")
        assert call("POST", "/api/v1/blocklist", '{"prefix":"203.0.113.0/24"}')[0] == 204
        assert call("DELETE", "/api/v1/blocklist/203.0.113.0%2F24")[0] == 204
        assert call("DELETE", "/api/v1/blocklist/203.0.113.0%2F24")[0] == 404
        assert call("DELETE", "/api/v1/blocklist/no")[0] == 400
        assert call("GET", "/api/v1/blocklist/198.51.100.0%2F24")[0] == 404
        status, _, body = call("GET", "/api/v1/blocklist")
        assert status == 200 and [item["prefix"] for item in json.loads(body)["items"]] == ["198.51.100.0/24"]
        items = made.ctl("audit-log", "--json")["items"]
        acts = [(item["act"], item["result"]) for item in reversed(items)]
        assert acts == [
            ("token create", "begun"), ("token create", "done"), ("blocklist add", "begun"), ("blocklist add", "done"),
            ("POST /api/v1/blocklist", "begun"), ("POST /api/v1/blocklist", "204"),
            ("DELETE /api/v1/blocklist/203.0.113.0/24", "begun"), ("DELETE /api/v1/blocklist/203.0.113.0/24", "204"),
            ("DELETE /api/v1/blocklist/203.0.113.0/24", "begun"), ("DELETE /api/v1/blocklist/203.0.113.0/24", "404"),
            ("DELETE /api/v1/blocklist/no", "begun"), ("DELETE /api/v1/blocklist/no", "400")], acts
        assert json.loads(call("GET", "/api/v1/audit-log?limit=1000")[2])["items"] == items
        text = pathlib.Path(made.folder / "control/audit.log").read_text()
        assert admin["token"] not in text and admin["id"] in text
        assert "a test" in made.ctl("audit-log", "--limit", "50")
