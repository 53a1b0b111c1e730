"""Clients that people have, through verified-proxy to fake-tee.

`clients.py PROGRAMS NODE_MODULES [PART...]` runs all cases, or those of the parts
named, each of which is a file beside this one. CLIENTS_THROUGH names a proxy that resolves
the backend's name, for `scripts/outgoing-proxies`.
"""

import contextlib
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback

import common

PARTS = [
    "refusals", "same_bytes", "with_curl", "with_openai", "with_openai_failures", "with_node",
    "with_anthropic", "with_langchain", "with_litellm", "with_llm", "keys",
]


@contextlib.contextmanager
def fake(programs, folder, port):
    place = folder / "fake"
    arguments = [programs / "fake-tee", "--dir", place, "--port-http", "0", "--port-backend", port]
    with common.process(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        # Its line comes when it listens and its files are there.
        common.holds(child.stdout.readline(), "fake-tee did not start")
        yield json.loads((place / "env.json").read_text())


def reason(error):
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error) or repr(error)
    return f"{type(error).__name__} in {pathlib.Path(last.filename).name}:{last.lineno}: {text}"


def run(world, parts):
    """Runs the cases; how many passed, failed and were skipped."""
    counts = {"ok": 0, "FAILED": 0, "skipped": 0}

    def tell(word, title, why=""):
        counts[word] += 1
        print(f"   {word:7}  {title}{': ' if why else ''}{why}", flush=True)

    for part in parts:
        began = time.monotonic()
        importlib.import_module(part)
        print(f"-- {part} (loaded in {time.monotonic() - began:.1f} s)", flush=True)
        # Parts may import each other.
        for title, function in [rest for of, *rest in common.CASES if of == part]:
            try:
                # A client in another language has a list of its own.
                for other, why in function(world) or []:
                    tell("FAILED" if why else "ok", other, why or "")
            except common.Skipped as why:
                tell("skipped", title, str(why))
            except Exception as error:  # noqa: BLE001: whatever a client raises
                tell("FAILED", title, reason(error))
            else:
                tell("ok", title)
    return counts


def main():
    programs, modules = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    parts = sys.argv[3:] or PARTS
    unknown = set(parts) - set(PARTS)
    if unknown:
        sys.exit(f"clients: no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    common.isolate()
    through = os.environ.get("CLIENTS_THROUGH")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        folder = pathlib.Path(directory)
        env = stack.enter_context(fake(programs, folder, "443" if through else "0"))
        world = common.World(programs, folder, env)
        if through:
            world.way = ["--proxy", through]
        world.modules = modules
        world.key = "sk-injected-key-4f1d"
        world.token = "token-of-alice-0123456789"
        key_file = world.write("key", world.key + "\n")
        token_file = world.write("tokens", f"alice {world.token}\n")
        world.url = stack.enter_context(world.proxy())
        world.keyed_url = stack.enter_context(world.proxy("--api-key-file", key_file))
        world.token_url = stack.enter_context(
            world.proxy("--api-key-file", key_file, "--client-token-file", token_file)
        )
        counts = run(world, parts)
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(
        f"clients: {counts['ok']} passed, {counts['FAILED']} failed{skipped}"
        f" in {time.monotonic() - began:.0f} s"
    )
    sys.exit(1 if counts["FAILED"] or not counts["ok"] else 0)


if __name__ == "__main__":
    main()
