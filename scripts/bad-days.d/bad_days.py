"""`bad_days.py PROGRAMS small|full`: see scripts/bad-days.

The hostile clients and the honest ones run in processes of their own, so that the numbers of
the former do not slow down what the latter measure.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SUFFIX = "completions.near.ai"
HUNG = f"fake-hung.{SUFFIX}"
HANGING_NAME = f"hanging-name.{SUFFIX}"
HONEST = [f"fake-{number}.{SUFFIX}" for number in range(1, 6)]
# A client has a descriptor here and one in the proxy, and its request one to the backend.
DESCRIPTORS = 20_000
DRAIN = 5
# Honest requests under way at each backend.
AT_ONCE = 2

SIZES = {
    # clients of a hung backend, idle connections, slow uploads, requests to each honest
    # backend, runs, clients that leave
    "small": (1_100, 1_500, 60, 100, 1, 600),
    "full": (2_000, 5_000, 300, 1_000, 3, 20_000),
}


def fail(why):
    sys.exit(f"bad-days: {why}")


def hanging_lookup(folder):
    """The library that makes a lookup hang, or None."""
    compiler = shutil.which("cc")
    if not compiler:
        print("   skipped  a lookup that hangs: there is no C compiler")
        return None
    library = folder / "hanging_lookup.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, HERE / "hanging_lookup.c", "-ldl"], check=True
    )
    return library


@contextlib.contextmanager
def world(programs, folder, preload=None, stderr=subprocess.DEVNULL):
    """fake-tee and verified-proxy in front of it: the proxy's process and port."""
    also = [word for name in [*HONEST, HANGING_NAME] for word in ("--also", f"{name}=fake/llama")]
    fake = subprocess.Popen(
        [programs / "fake-tee", "--dir", folder / "fake", "--record", "heads", "--domain", HUNG, *also],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    proxy = None
    try:
        if not fake.stdout.readline():
            fail("fake-tee did not start")
        told = json.loads((folder / "fake" / "env.json").read_text())
        arguments = told["command"].split()[2:]
        # The name whose lookup hangs is the only one that is looked up.
        for name in [HUNG, *HONEST]:
            arguments += ["--connect-to", f"{name}:443:{told['backend']}"]
        environment = {
            name: value for name, value in os.environ.items()
            if not name.upper().startswith("VERIFIED_PROXY_") and not name.upper().endswith("_PROXY")
        }
        if preload:
            environment["LD_PRELOAD"] = str(preload)
        proxy = subprocess.Popen(
            [programs / "verified-proxy", "serve", "--port", "0", "--state-dir", "none",
             "--drain-timeout", str(DRAIN), *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=stderr,
        )
        place = re.search(rb"http://[^ ]*:(\d+)", proxy.stdout.readline())
        if not place:
            fail("verified-proxy did not start")
        yield proxy, int(place[1]), told
    finally:
        for child in (proxy, fake):
            if child:
                child.kill()
                child.wait()


def request(domain, headers="", body=None, length=None):
    body = json.dumps({"model": "fake/llama", "messages": [{"role": "user", "content": "hello"}]}) if body is None else body
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-backend-domain: {domain}\r\n"
        f"content-type: application/json\r\ncontent-length: {length or len(body)}\r\n{headers}\r\n{body}"
    ).encode()


async def again_and_again(port, said, patience, pause=1):
    """Connects and says it; again when the proxy ends the connection."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(), patience)
            writer.close()
        except OSError:
            pass
        await asyncio.sleep(pause * (0.5 + random.random()))


def crowd(port, hung, idle, uploads, lookup):
    """Everything that is not honest; runs until it is killed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    half = json.dumps({"model": "fake/x", "messages": ["x" * 200]})[:-40]

    async def all_of_it():
        tasks = []
        for number in range(max(hung, idle, uploads)):
            if number < hung:
                tasks.append(again_and_again(port, request(HUNG, "x-fake: hang\r\n"), 3_600))
            if number < idle:
                tasks.append(again_and_again(port, (b"", b"GET /", b"POST / HTTP/1.1\r\nx: ")[number % 3], 3_600))
            if number < uploads:
                domain = [HUNG, *HONEST][number % 6]
                tasks.append(again_and_again(port, request(domain, body=half, length=900_000), 3_600))
        if lookup:
            tasks += [again_and_again(port, request(HANGING_NAME), 3_600) for _ in range(100)]
        # As fast as one process connects: all at once would only test the listen queue.
        running = []
        for number, task in enumerate(tasks):
            running.append(asyncio.create_task(task))
            if number % 50 == 0:
                await asyncio.sleep(0.02)
        await asyncio.gather(*running)

    asyncio.run(all_of_it())


def honest(port, domain, count, told):
    """Sends requests on kept connections; puts (statuses, seconds of each) on the queue."""

    async def one(answers, left):
        reader = writer = None
        while left:
            left.pop()
            began = time.monotonic()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request(domain))
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                status = head.split()[1].decode()
                if b"connection: close" in head.lower():
                    writer.close()
                    writer = None
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                status, writer = type(error).__name__, None
            answers.append((status, time.monotonic() - began))

    async def all_of_them():
        answers, left = [], list(range(count))
        await asyncio.gather(*(one(answers, left) for _ in range(AT_ONCE)))
        return answers

    told.put((domain, asyncio.run(all_of_them())))


def live(port):
    with socket.create_connection(("127.0.0.1", port), 5) as probe:
        probe.settimeout(5)
        probe.sendall(b"GET /_proxy/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        return probe.recv(100).split()[1]


def gauges(port):
    with socket.create_connection(("127.0.0.1", port), 5) as probe:
        probe.settimeout(5)
        probe.sendall(b"GET /_proxy/metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        text = b""
        while piece := probe.recv(1 << 16):
            text += piece
    return {what: int(value) for what, value in
            re.findall(r'verified_proxy_held_now\{what="(\w+)"\} (\d+)', text.decode())}


def fairness(programs, folder, preload, size):
    hung, idle, uploads, count, _, _ = size
    # Nobody reads this pipe, and it holds 4 KiB.
    reading, writing = os.pipe()
    with contextlib.suppress(AttributeError, OSError):
        import fcntl
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4_096)
    with world(programs, folder, preload, writing) as (proxy, port, _):
        for domain in HONEST:
            told = multiprocessing.SimpleQueue()
            honest(port, domain, 1, told)
            _, ((status, _),) = told.get()
            if status != "200":
                fail(f"{domain} answers {status} before anything has begun")
        noise = multiprocessing.Process(target=crowd, args=(port, hung, idle, uploads, preload))
        noise.start()
        try:
            time.sleep((hung + idle + uploads) * 0.0006 + 2)
            held = gauges(port)
            told = multiprocessing.Queue()
            clients = [multiprocessing.Process(target=honest, args=(port, domain, count, told)) for domain in HONEST]
            for client in clients:
                client.start()
            alive = live(port)
            wrong = []
            for _ in HONEST:
                domain, answers = told.get(timeout=600)
                times = sorted(seconds for _, seconds in answers)
                p99 = times[int(len(times) * 0.99) - 1]
                served = sum(status == "200" for status, _ in answers)
                print(f"   {domain}: {served} of {count} served, median {times[len(times) // 2] * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")
                if served < count or p99 >= 1:
                    others = sorted({status for status, _ in answers} - {"200"})
                    wrong.append(f"{domain}: {served} of {count}, p99 {p99:.2f} s, {others}")
            print(f"   held meanwhile: {held}")
            if live(port) != b"200" or alive != b"200":
                wrong.append("/_proxy/live did not answer")
            proxy.send_signal(signal.SIGTERM)
            began = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                proxy.wait(DRAIN + 10)
            took = time.monotonic() - began
            print(f"   SIGTERM: ended after {took:.1f} s, the drain time is {DRAIN} s")
            if took > DRAIN + 3:
                wrong.append(f"SIGTERM took {took:.1f} s")
        finally:
            noise.kill()
            noise.join()
    os.close(reading)
    os.close(writing)
    if wrong:
        fail("; ".join(wrong))


# What a client that leaves has said: each stands for a stage that it leaves in.
HALF = json.dumps({"model": "x", "messages": ["x" * 500]})[:-60]
STAGES = [
    lambda: request(HUNG, "x-fake: hang\r\n"),
    lambda: request(HUNG, "x-fake: hang\r\n") + b"\r\n",
    lambda: request(HONEST[0], "x-fake-delay-ms: 60000\r\n", json.dumps({"model": "x", "stream": True, "messages": [{"role": "user", "content": "hello"}]})),
    lambda: request(HONEST[1], body=HALF, length=900_000),
    lambda: request(HONEST[2], body="x" * 300_000),
    lambda: request(HONEST[3])[:random.randrange(1, 200)],
    lambda: request(HONEST[4]) + request(HONEST[4], "x-fake: hang\r\n"),
]


def leave(port, count):
    """Clients that leave at a random moment of a random stage."""

    async def one(gate):
        async with gate:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(random.choice(STAGES)())
                await asyncio.wait_for(reader.read(1), random.choice([0.0, 0.002, 0.05, 0.3]))
            with contextlib.suppress(OSError, UnboundLocalError):
                if random.random() < 0.4:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()

    async def all_of_them():
        gate = asyncio.Semaphore(200)
        await asyncio.gather(*(one(gate) for _ in range(count)))

    asyncio.run(all_of_them())


def resident(proxy):
    status = pathlib.Path(f"/proc/{proxy.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) >> 10


def leavers(programs, folder, size):
    count = size[-1]
    with world(programs, folder) as (proxy, port, _):
        for domain in [HUNG, *HONEST]:
            told = multiprocessing.SimpleQueue()
            honest(port, domain, 1, told)

        def descriptors():
            try:
                return len(os.listdir(f"/proc/{proxy.pid}/fd"))
            except PermissionError:
                # The proxy is not dumpable: its files are root's.
                return None

        before, memory = descriptors(), resident(proxy)
        leaving = multiprocessing.Process(target=leave, args=(port, count))
        leaving.start()
        leaving.join()
        time.sleep(2)
        held = gauges(port)
        after = descriptors()
        print(f"   {count} clients left: held {held}, descriptors {before} before, {after} after, "
              f"{memory} MiB before, {resident(proxy)} MiB after")
        # The look itself has a connection; idle ones to the six backends are kept.
        if held["connections"] > 1 or held["backend"] or held["body_memory"]:
            fail(f"departed clients hold {held} two seconds after the last left")
        if after is not None and after > before + 6 * 64:
            fail(f"{after} descriptors after, {before} before")


def main():
    programs, size = pathlib.Path(sys.argv[1]), SIZES[sys.argv[2]]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    print(f"   ulimit -n {descriptors}; clients of a hung backend, idle connections, uploads: {size[:3]}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        preload = hanging_lookup(folder)
        for number in range(size[4]):
            print(f"-- fairness, {number + 1} of {size[4]}", flush=True)
            (place := folder / f"fairness-{number}").mkdir()
            fairness(programs, place, preload, size)
        print("-- clients that leave", flush=True)
        (place := folder / "leavers").mkdir()
        leavers(programs, place, size)
    print("bad-days: all holds")


if __name__ == "__main__":
    main()
