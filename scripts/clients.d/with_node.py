"""OpenAI's SDK for Node: the cases are in with_openai.mjs."""

import json
import shutil
import subprocess

from common import ANSWER, HERE, KEY, PROMPT, SOON, TOOLS, USAGE, Skipped, case, holds, same


@case("OpenAI Node: every case was run")
def _(world):
    if not shutil.which("node"):
        raise Skipped("node is not installed")
    with (
        world.proxy() as first_url,
        world.proxy() as second_url,
        world.proxy("--max-connections", "1", "--attest-timeout", "2") as narrow_url,
    ):
        told = {
            "modules": str(world.modules), "http_url": world.env["http_url"], "model": world.model,
            "url": world.url, "fresh_urls": [first_url, second_url], "narrow_url": narrow_url,
            "keyed_url": world.keyed_url, "api_key": KEY, "injected": world.key, "prompt": PROMPT,
            "answer": ANSWER, "usage": USAGE, "tools": TOOLS, "soon": SOON,
        }
        done = subprocess.run(
            ["node", str(HERE / "with_openai.mjs"), json.dumps(told)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300,
        )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    holds(lines[-1:] == ["done"], f"node ended with {done.returncode}: {done.stderr}")
    same(done.returncode, 0, "node's exit code")
    yield from lines[:-1]
