#!/usr/bin/env python3
"""A Mesos v1 framework that knows nothing but HTTP (Python standard library only).

It subscribes, takes an offer, launches a short command task, a long one and (with --image) a docker
task, acknowledges every update, kills the long task, reconciles and tears itself down.

    mesita dev &
    python3 examples/framework.py --master http://127.0.0.1:5050

Each step prints one line; the exit code is 0 only if everything happened as it should.
"""

import argparse
import base64
import http.client
import json
import sys
import threading
import time
import urllib.parse


class Records:
    """Reads RecordIO: a decimal length, a newline, that many bytes."""

    def __init__(self, response):
        self.response = response

    def __iter__(self):
        while True:
            header = b""
            while not header.endswith(b"\n"):
                byte = self.response.read(1)
                if not byte:
                    return
                header += byte
            length = int(header)
            body = b""
            while len(body) < length:
                piece = self.response.read(length - len(body))
                if not piece:
                    return
                body += piece
            yield json.loads(body)


class Master:
    """One subscription, and the calls that belong to it."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.stream_id = None
        self.framework_id = None

    def post(self, call, headers=None):
        connection = http.client.HTTPConnection(*self.address, timeout=120)
        connection.request(
            "POST",
            "/api/v1/scheduler",
            json.dumps(call),
            {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})},
        )
        return connection, connection.getresponse()

    def subscribe(self, info):
        connection, response = self.post({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}})
        if response.status != 200:
            sys.exit(f"SUBSCRIBE was refused: {response.status} {response.read().decode()}")
        self.stream_id = response.headers["Mesos-Stream-Id"]
        return connection, Records(response)

    def call(self, kind, **members):
        body = {"framework_id": {"value": self.framework_id}, "type": kind, **members}
        connection, response = self.post(body, {"Mesos-Stream-Id": self.stream_id})
        text = response.read().decode()
        connection.close()
        if response.status != 202:
            sys.exit(f"{kind} was refused: {response.status} {text}")


def scalar(name, value):
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}}


def task(task_id, agent_id, command, image=None):
    info = {
        "name": task_id,
        "task_id": {"value": task_id},
        "agent_id": agent_id,
        "command": {"shell": True, "value": command},
        "resources": [scalar("cpus", 0.1), scalar("mem", 32)],
    }
    if image:
        info["container"] = {"type": "DOCKER", "docker": {"image": image, "network": "HOST"}}
    return info


class Scenario:
    """What should happen, as the events come in."""

    def __init__(self, master, image):
        self.master = master
        self.image = image
        self.states = {}
        self.launched = False
        self.killed = False
        self.asked = False
        self.reconciled = False
        self.agent_id = None

    def offers(self, offers):
        wanted = [offer for offer in offers if not self.launched]
        if wanted:
            offer = wanted[0]
            self.launched = True
            self.agent_id = offer["agent_id"]
            tasks = [task("hello", self.agent_id, "echo hello from a task"), task("sleeper", self.agent_id, "exec sleep 1000")]
            if self.image:
                tasks.append(task("boxed", self.agent_id, "echo hello from a container", self.image))
            self.states = {info["task_id"]["value"]: [] for info in tasks}
            print(f"offer {offer['id']['value']} from {offer['hostname']}: launching {', '.join(self.states)}")
            self.master.call(
                "ACCEPT",
                accept={
                    "offer_ids": [offer["id"]],
                    "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}],
                },
            )
        rest = [offer["id"] for offer in offers if offer not in wanted[:1]]
        if rest:
            self.master.call("DECLINE", decline={"offer_ids": rest, "filters": {"refuse_seconds": 3600}})

    def update(self, status):
        task_id, state = status["task_id"]["value"], status["state"]
        if status.get("uuid"):
            base64.b64decode(status["uuid"], validate=True)
            self.master.call(
                "ACKNOWLEDGE",
                acknowledge={"agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"]},
            )
            if not self.states[task_id] or self.states[task_id][-1] != state:
                self.states[task_id].append(state)
                print(f"{task_id}: {state} {status.get('message', '')}".rstrip())
        elif status.get("reason") == "REASON_RECONCILIATION":
            self.reconciled = True
            print(f"reconciled {task_id}: {state}")
        if state in ("TASK_FAILED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED"):
            sys.exit(f"{task_id} ended as {state}: {status.get('message')}")

    def next_step(self):
        """True when all is done."""
        if not self.launched:
            return False
        if "TASK_RUNNING" in self.states["sleeper"] and not self.asked:
            self.asked = True
            self.master.call(
                "RECONCILE",
                reconcile={"tasks": [{"task_id": {"value": "sleeper"}, "agent_id": self.agent_id}]},
            )
        if self.reconciled and not self.killed:
            self.killed = True
            print("killing sleeper")
            self.master.call("KILL", kill={"task_id": {"value": "sleeper"}, "agent_id": self.agent_id})
        ended = {"hello": "TASK_FINISHED", "sleeper": "TASK_KILLED", "boxed": "TASK_FINISHED"}
        return all(states[-1:] == [ended[name]] for name, states in self.states.items())

    def check(self):
        for name, states in self.states.items():
            if states[:2] != ["TASK_STARTING", "TASK_RUNNING"]:
                sys.exit(f"{name} went through {states}, expected TASK_STARTING and TASK_RUNNING first")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--master", default="http://127.0.0.1:5050")
    arguments.add_argument("--image", help="also run a docker task from this image (it needs /bin/sh)")
    arguments.add_argument("--timeout", type=float, default=90, help="seconds until this gives up")
    options = arguments.parse_args()

    # A watchdog, so that a silent master ends the example with a reason.
    watchdog = threading.Timer(options.timeout, lambda: (print("gave up waiting", file=sys.stderr), sys.stderr.flush(), __import__("os")._exit(1)))
    watchdog.daemon = True
    watchdog.start()
    started = time.monotonic()

    master = Master(options.master)
    info = {"user": "", "name": "example", "checkpoint": True, "capabilities": [{"type": "PARTITION_AWARE"}]}
    connection, events = master.subscribe(info)
    scenario = Scenario(master, options.image)
    for event in events:
        kind = event["type"]
        if kind == "SUBSCRIBED":
            master.framework_id = event["subscribed"]["framework_id"]["value"]
            print(f"subscribed as {master.framework_id}")
        elif kind == "OFFERS":
            scenario.offers(event["offers"]["offers"])
        elif kind == "UPDATE":
            scenario.update(event["update"]["status"])
        elif kind == "ERROR":
            sys.exit(f"the master says: {event['error']['message']}")
        if scenario.next_step():
            break
    else:
        sys.exit("the master closed the stream too early")
    scenario.check()
    master.call("TEARDOWN")
    # The stream must end by itself now.
    for _ in events:
        pass
    connection.close()
    print(f"torn down after {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
