"""Benchmarks as programs: they count right, end by themselves, and leave nothing behind when they fail or are killed."""
import os
import pathlib
import re
import signal
import subprocess
import sys

import harness


def bench_path(build, folder, *arguments):
    return [str(pathlib.Path(build) / "perf/bench_path"), str(folder), "udp-batch", "--ids-mib", "64", *map(str, arguments)]


def gone(pid):
    """No such process, or nobody has waited for it yet."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_batches_of_many_clients_are_all_answered(build):
    # More than the ways back that a direct-mapped cache keeps apart: answers that found none were waited for without end.
    with harness.folder() as folder:
        done = subprocess.run(bench_path(build, folder / "bench", "--clients", 4000, "--events", 60000), capture_output=True, text=True, check=True)
        assert re.search(r"answered=60000 refused=0", done.stdout), done.stdout
        assert re.search(r"repeated=[1-9]", done.stdout), done.stdout  # else this test shows nothing


def test_a_benchmark_that_is_ended_leaves_nothing(build):
    for number, status in ((signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 128 + signal.SIGINT)):
        with harness.folder() as folder:
            process = subprocess.Popen(bench_path(build, folder / "bench", "--events", 100000, "--rate", 100), stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            harness.wait_until("its log is there", lambda: list((folder / "bench/data").glob("log/*")))
            child = int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
            process.send_signal(number)
            assert process.wait(harness.PATIENCE) == status
            assert gone(child)
            assert list(folder.iterdir()) == []


def test_nothing_outlives_a_killed_benchmark(build):
    # A node as perf/run.py starts it, by a script that is killed without a chance to clear up.
    script = ("import sys, time; sys.path.insert(0, sys.argv[1]); import harness\n"
              "with harness.node(sys.argv[2], control=False, extra=harness.SMALL) as node:\n"
              "    print(node.data.popen.pid, node.folder, flush=True)\n    time.sleep(600)\n")
    with subprocess.Popen([sys.executable, "-c", script, str(pathlib.Path(harness.__file__).parent), str(build)], stdout=subprocess.PIPE,
                          text=True) as process:
        pid, folder = process.stdout.readline().split()
        try:
            assert not gone(pid)
            process.kill()
            process.wait()
            harness.wait_until("the node is gone", lambda: gone(pid))
        finally:
            if not gone(pid):
                os.kill(int(pid), signal.SIGKILL)
            harness.shutil.rmtree(folder, ignore_errors=True)
