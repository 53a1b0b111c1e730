"""What all cases share: programs as processes, what the fake is told and what it saw.

A case is a function of the `World` with a title; it raises what speaks against it.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import subprocess
import time
import urllib.parse

CANARY = "canary-71c0"
KEY = "sk-canary-key-93ab"
ANSWER = f"You said: say {CANARY}"
PROMPT = f"say {CANARY}"
MESSAGES = [{"role": "user", "content": PROMPT}]
# Of prompt and answer, in words, as the fake counts.
USAGE = (2, 4)
TOOLS = [{
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks something up",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}},
    },
}]
# How soon something has to be seen that happens at once, on a machine under load.
SOON = 20

CASES = []


class Skipped(Exception):
    """A case that this machine cannot run."""


def case(title):
    def register(function):
        CASES.append((function.__module__, title, function))
        return function

    return register


def holds(condition, *details):
    if not condition:
        raise AssertionError(" ".join(str(detail)[:2000] for detail in details))


def same(got, wanted, what="got"):
    holds(got == wanted, f"{what}: {got!r}, expected {wanted!r}")


def raises(kind, function, exactly=True):
    """The exception, which has to be of this class."""
    try:
        answer = function()
    except Exception as error:  # noqa: BLE001: the class is what is looked at
        if exactly or not isinstance(error, kind):
            same(type(error), kind, f"class of {error}")
        return error
    raise AssertionError(f"{kind.__name__} was expected, got {answer!r}")


def until(what, look):
    """Waits for what has to come."""
    end = time.monotonic() + SOON
    while not (found := look()):
        holds(time.monotonic() < end, f"{what}: not in {SOON} s")
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def process(arguments, **options):
    child = subprocess.Popen([str(a) for a in arguments], **options)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()


class World:
    """A running fake, and a proxy in front of it."""

    def __init__(self, programs, folder, env):
        self.programs = programs
        self.folder = folder
        self.env = env
        self.model = env["model"]
        self.domain = env["domain"]
        # How the proxy gets to the backend.
        self.way = ["--connect-to", env["connect_to"], "--proxy", "none"]
        # Of the proxies that all cases may use.
        self.url = self.keyed_url = self.token_url = None

    @contextlib.contextmanager
    def proxy(self, *more):
        """A fresh proxy, with nothing remembered; gives its URL."""
        env = self.env
        arguments = [
            self.programs / "verified-proxy", "serve",
            *([] if "--listen" in more else ["--port", "0"]),
            "--endpoints-url", env["endpoints_url"], "--pccs-url", env["pccs_url"],
            "--compose-files-url", env["compose_files_url"],
            "--compose-tags-url", env["compose_tags_url"],
            "--extra-ca", env["extra_ca"], *self.way,
            "--danger-tdx-root", env["danger_tdx_root"], "--danger-gpu-root", env["danger_gpu_root"], "--policy", env["policy"],
            "--state-dir", "none", *more,
        ]
        with process(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            line = child.stdout.readline()
            match = re.search(r"(http://|unix:)[^\s,]+", line)
            holds(match, f"verified-proxy said {line!r}")
            yield match.group()

    def control(self, name, body=None):
        """Asks the fake, or tells it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.env["port_http"], timeout=60)
        with contextlib.closing(connection):
            if body is None:
                connection.request("GET", f"/_fake/{name}")
            else:
                connection.request("POST", f"/_fake/{name}", json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        same(answer.status, 200, f"/_fake/{name}: {text}")
        return json.loads(text)

    def clear(self):
        self.control("clear", {})

    def received(self):
        return self.control("received")

    def lines(self):
        """The request lines that the backend saw."""
        return [line for connection in self.received() for line in connection["request_lines"]]

    def probes(self):
        return sum(line.startswith("GET /v1/attestation/report?") for line in self.lines())

    def seen(self, line):
        """The one connection on which the backend saw this request line."""
        found = [c for c in self.received() if any(l.startswith(line) for l in c["request_lines"])]
        same(len(found), 1, f"connections with {line}")
        return found[0]

    @contextlib.contextmanager
    def tampered(self, name):
        self.control("tamper", {"name": name})
        self.clear()
        try:
            yield
        finally:
            self.control("tamper", {"name": "none"})

    def closes(self, line):
        """The backend sees the end of the connection, with the answer unfinished."""
        until("the backend sees the connection close", lambda: self.seen(line)["closed_ms"])

    def write(self, name, text):
        path = self.folder / name
        path.touch(0o600)
        path.write_text(text)
        return path


def isolate():
    """No setting of the user's, and no way off this machine."""
    prefixes = ("ANTHROPIC", "AZURE", "LANGCHAIN", "LANGSMITH", "LITELLM", "LLM_", "OPENAI", "VERIFIED_PROXY")
    for name in list(os.environ):
        if name.startswith(prefixes) or name.lower().endswith("_proxy"):
            del os.environ[name]
    # Nobody listens on the discard port; what is asked of it fails at once.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ[name] = os.environ[name.upper()] = "http://127.0.0.1:9"
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LANGSMITH_TRACING"] = "false"


def counting(client, seen, on_answer=lambda answer: None):
    """An HTTP client of this class that notes each answer's status."""

    def note(answer):
        seen.append(answer.status_code)
        on_answer(answer)

    return client(event_hooks={"response": [note]})


def host_and_port(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port


HERE = pathlib.Path(__file__).parent
