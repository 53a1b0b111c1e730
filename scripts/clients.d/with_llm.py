"""Simon Willison's `llm`, with the proxy in extra-openai-models.yaml."""

import os
import pathlib
import subprocess
import sys

from common import ANSWER, CANARY, PROMPT, case, holds, same

LLM = pathlib.Path(sys.executable).parent / "llm"


def llm(world, url, *arguments, key=None):
    """What it prints; exit code, stdout, stderr."""
    folder = world.folder / "llm"
    folder.mkdir(exist_ok=True)
    (folder / "extra-openai-models.yaml").write_text(
        f"- model_id: verified\n  model_name: {world.model}\n  api_base: {url}/v1\n"
        + ("  api_key_name: verified\n" if key else "")
    )
    (folder / "keys.json").write_text(f'{{"verified": "{key}"}}')
    done = subprocess.run(
        [LLM, "-m", "verified", *arguments],
        env=os.environ | {"LLM_USER_PATH": str(folder)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@case("llm: a prompt, streamed and not")
def _(world):
    for more in ([], ["--no-stream"]):
        code, out, err = llm(world, world.url, PROMPT, *more)
        same((code, out.strip()), (0, ANSWER), err)


@case("llm: its key goes on, and without one the proxy's own does")
def _(world):
    for url, own, wanted in ((world.url, "sk-of-llm-11", "sk-of-llm-11"), (world.keyed_url, None, world.key)):
        world.clear()
        code, out, err = llm(world, url, PROMPT, key=own)
        same((code, out.strip()), (0, ANSWER), err)
        sent = world.seen("POST /v1/chat/completions")["bytes"].lower()
        holds(f"\r\nauthorization: bearer {wanted}\r\n" in sent, sent)


@case("llm: a refusal is shown with its code and hint, and nothing was sent")
def _(world):
    with world.tampered("compose-text"), world.proxy() as url:
        code, out, err = llm(world, url, PROMPT)
        holds(CANARY not in str(world.received()), "the backend saw the prompt")
    same((code, out.strip()), (1, ""))
    holds("rejected_compose_hash" in err and "hint: " in err, err)
