"""The programs that people and browsers really use, each without an error: curl, ab, wrk, hey, h2load in HTTP/1.1 mode, Python, Chromium."""
import http.client
import http.server
import json
import re
import shutil
import subprocess
import threading

from harness import PATIENCE, SMALL, Skip, event, node, run, wait_until

CLICKS = "/api/v1/clicks"


def url(n, path=CLICKS):
    return "http://%s:%d%s" % (*n.http[0], path)


def body_file(n, name="body.json", **fields):
    path = n.folder / name
    path.write_text(json.dumps(event(**fields)))
    return path


def same_event_every_time(n, requests):
    """The load generators send one body over and over: one event, all others its copies; no request refused."""
    sheet = n.audit()
    assert sheet["requests"]["accepted"] >= requests and not any(sheet["requests"]["rejected"].values()), sheet["requests"]
    assert sheet["events"]["accepted"] == 1 and sheet["events"]["duplicates"] >= requests - 1, sheet["events"]


def test_curl(build):
    with node(build, control=False, extra=SMALL) as n:
        body = body_file(n)

        def curl(*arguments):
            done = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n", *arguments)
            return done.stdout.split("\n")[:-1]
        post = ("-H", "Content-Type: application/json", "--data-binary", f"@{body}")
        assert curl(*post, url(n)) == ["204 1"]
        assert curl("-H", "Transfer-Encoding: chunked", *post, url(n)) == ["204 1"]
        assert curl("-H", "Expect: 100-continue", *post, url(n)) == ["204 1"]
        assert curl("--http1.0", *post, url(n)) == ["204 1"]
        assert curl(*post, url(n), url(n), url(n)) == ["204 1", "204 0", "204 0"], "one connection for three"
        assert curl("-I", url(n, "/healthz")) == ["200 1"]
        assert curl("-X", "OPTIONS", "-H", "Origin: https://a.example", "-H", "Access-Control-Request-Method: POST", url(n)) == ["204 1"]
        assert curl("-G", url(n, "/api/v1/pixel.gif"), "-d", "event_type=click", "--data-urlencode", "ad_id=a b", "-d", "campaign_id=c", "-d", "advertiser_id=v") == ["200 1"]
        packed = n.folder / "body.gz"
        subprocess.run(["gzip", "-c", str(body)], stdout=packed.open("wb"), check=True)
        assert curl("-H", "Content-Encoding: gzip", "-H", "Content-Type: application/json", "--data-binary", f"@{packed}", url(n)) == ["204 1"]
        big = n.folder / "big.json"  # curl waits for "100 Continue" by itself
        big.write_text("\n".join(json.dumps(event()) for _ in range(3000)))
        assert curl("-H", "Content-Type: application/x-ndjson", "--data-binary", f"@{big}", url(n)) == ["204 1"]
        assert not any(n.audit()["requests"]["rejected"].values())


def test_ab(build):
    with node(build, control=False, extra=SMALL) as n:
        for keep in ((), ("-k",)):
            out = run("ab", "-q", "-s", "90", "-n", "2000", "-c", "16", *keep, "-p", str(body_file(n, event_id="ab", timestamp=1_700_000_000_000)), "-T", "application/json", url(n)).stdout
            for line in ("Complete requests: +2000", "Failed requests: +0"):
                assert re.search(line, out), out
            assert "Non-2xx" not in out and "Write errors" not in out, out


def test_wrk(build):
    with node(build, control=False, extra=SMALL) as n:
        script = n.folder / "post.lua"
        script.write_text('wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [==[' + body_file(n).read_text() + "]==]\n")
        out = run("wrk", "-t1", "-c32", "-d1s", "--timeout", "90s", "-s", str(script), url(n)).stdout
        assert "Non-2xx" not in out and "Socket errors" not in out, out
        same_event_every_time(n, int(re.search(r"(\d+) requests in", out).group(1)))


def test_hey(build):
    with node(build, control=False, extra=SMALL) as n:
        out = run("hey", "-t", "0", "-n", "2000", "-c", "20", "-m", "POST", "-T", "application/json", "-D", str(body_file(n)), url(n)).stdout
        assert "[204]\t2000 responses" in out and "Error distribution" not in out, out
        same_event_every_time(n, 2000)


def test_h2load(build):
    with node(build, control=False, extra=SMALL) as n:
        out = run("h2load", "--h1", "-n", "2000", "-c", "8", "-d", str(body_file(n)), "-H", "Content-Type: application/json", url(n)).stdout
        assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in out and "status codes: 2000 2xx" in out, out
        same_event_every_time(n, 2000)


def test_python(build):
    with node(build, control=False, extra=SMALL) as n:
        connection = http.client.HTTPConnection(*n.http[0], timeout=PATIENCE)
        for turn in range(200):
            body = json.dumps([event() for _ in range(turn % 5)]).encode()
            connection.request("POST", CLICKS, iter([body[:7], body[7:]]) if turn % 2 else body, {"Content-Type": "application/json"}, encode_chunked=bool(turn % 2))
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (204, b""), turn
        connection.close()
        assert n.audit()["events"]["accepted"] == 400


PAGE = """<!doctype html><title>waits</title><script>
const one = (id) => JSON.stringify(Object.assign(%s, {event_id: id}));
const done = [navigator.sendBeacon("%s", one("beacon-1")),
              navigator.sendBeacon("%s", new Blob([one("beacon-2")], {type: "text/plain"}))];
fetch("%s", {method: "POST", body: one("fetch"), keepalive: true, headers: {"Content-Type": "application/json"}})
  .then(async (answer) => {
    for (let turn = 0; turn < 100; turn++) await fetch("/again"); // time for the beacons, which nobody waits for
    document.title = `${done} ${answer.status}`;
  }).catch((error) => { document.title = `${error}`; });
const image = new Image();
image.src = "%s?event_id=image&event_type=impression&ad_id=a&campaign_id=c&advertiser_id=v";
</script>"""


def test_chromium(build):
    """sendBeacon, fetch of JSON (which asks for leave first), and the pixel, from a page of another origin."""
    browser = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if not browser:
        raise Skip("Chromium is not installed: devtools/setup test")
    with node(build, control=False, extra=SMALL) as n:
        page = (PAGE % (json.dumps(event()), url(n), url(n), url(n), url(n, "/api/v1/pixel.gif"))).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page if self.path == "/" else b"")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={n.folder}/browser",
                   "--virtual-time-budget=4000", "--dump-dom", f"http://127.0.0.1:{server.server_address[1]}/"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE)
            wait_until("four events", lambda: n.audit()["events"]["accepted"] >= 4)
        finally:
            server.shutdown()
            server.server_close()
        assert "<title>true,true 204</title>" in done.stdout, done.stdout[:500]
        sheet = n.audit()
        assert sheet["events"]["accepted"] == 4 and not any(sheet["requests"]["rejected"].values()), sheet["requests"]
