"""turnpikectl perf: stages of a live node, and none of an idle one."""
import threading

import harness

STAGES = {"receive": "rx", "beacon": "rx", "parse": "rx", "stage": "rx", "answer": "rx", "decide": "shard", "machines": "shard", "rollup": "shard",
          "log": "shard"}


def test_perf_tells_cycles_an_event_of_each_stage(build):
    with harness.node(build, control=False, extra=harness.SMALL) as node:
        stop = threading.Event()

        def load():
            while not stop.is_set():
                body = "\n".join(harness.json.dumps(harness.event(event_type="impression")) for _ in range(50))
                assert node.post(body)[0] == 204
        thread = threading.Thread(target=load)
        thread.start()
        try:
            def measured():
                found = node.ctl("perf", "--interval", "0.5", "--json")
                return found if all(stage["sampled_events"] for stage in found["stages"]) else None
            found = harness.wait_until("a sampled round in every stage", measured)
            text = node.ctl("perf", "--interval", "0.1")
        finally:
            stop.set()
            thread.join()
        assert {stage["stage"]: stage["core"] for stage in found["stages"]} == STAGES, found
        for stage in found["stages"]:
            assert stage["cycles_per_event"] > 0, stage
        assert found["events_per_s"] > 0 and found["decided_per_s"] > 0, found
        for stage in STAGES:
            assert f" {stage} " in text, text
        harness.wait_until("nothing comes any more", lambda: node.ctl("perf", "--interval", "0.2", "--json")["events_per_s"] == 0)
        idle = node.ctl("perf", "--interval", "0.2", "--json")
        assert all(stage["cycles_per_event"] is None for stage in idle["stages"]), idle
        node.ctl("perf", "--interval", "0", status=2)
        node.ctl("perf", "--intervall", "1", status=2)
