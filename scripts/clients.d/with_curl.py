"""curl: what people paste into a terminal."""

import hashlib
import json
import shutil
import subprocess

from common import ANSWER, KEY, MESSAGES, PROMPT, Skipped, case, holds, same


def curl(url, *more):
    if not shutil.which("curl"):
        raise Skipped("curl is not installed")
    done = subprocess.run(
        ["curl", "-q", "-sS", "--max-time", "60", "-H", f"authorization: Bearer {KEY}", url, *more],
        capture_output=True,
    )
    same(done.returncode, 0, f"curl's exit code ({done.stderr.decode()})")
    return done.stdout


def json_body(world, **more):
    body = {"model": world.model, "messages": MESSAGES} | more
    return ["-H", "content-type: application/json", "-d", json.dumps(body)]


@case("curl: JSON")
def _(world):
    answer = json.loads(curl(f"{world.url}/v1/chat/completions", *json_body(world)))
    same(answer["choices"][0]["message"]["content"], ANSWER)


@case("curl: a stream, the same bytes as straight from the backend, over HTTP/1.1 and HTTP/2")
def _(world):
    asked = ["-N", "-H", "x-fake-id: same-0002", *json_body(world, stream=True)]
    through = curl(f"{world.url}/v1/chat/completions", *asked)
    holds(through.endswith(b"data: [DONE]\n\n"), through)
    env = world.env
    for version in ("--http1.1", "--http2"):
        direct = curl(
            f"https://{world.domain}/v1/chat/completions", *asked, version,
            "--cacert", env["extra_ca"], "--connect-to", env["connect_to"], "--noproxy", "*",
        )
        same(through, direct, version)


@case("curl: an offer of HTTP/2 is answered over HTTP/1.1")
def _(world):
    answer = curl(f"{world.url}/v1/chat/completions", "--http2", *json_body(world))
    same(json.loads(answer)["choices"][0]["message"]["content"], ANSWER)


@case("curl: audio, the model before the file and after it")
def _(world):
    sound = hashlib.sha512(b"sound").digest() * 4000
    path = world.folder / "speech.wav"
    path.write_bytes(sound)
    model, file = f"model={world.model}", f"file=@{path}"
    for first, second in ((model, file), (file, model)):
        answer = json.loads(curl(f"{world.url}/v1/audio/transcriptions", "-F", first, "-F", second))
        same(answer["text"], f"{len(sound)} bytes, SHA-256 {hashlib.sha256(sound).hexdigest()}")


@case("curl: /v1/messages and /v1/responses")
def _(world):
    answer = json.loads(curl(f"{world.url}/v1/messages", *json_body(world, max_tokens=9)))
    same(answer["content"][0]["text"], ANSWER)
    answer = json.loads(curl(f"{world.url}/v1/responses", *json_body(world, input=PROMPT)))
    same(answer["output"][0]["content"][0]["text"], ANSWER)


@case("curl: without a content type, the answer says what to send")
def _(world):
    answer = json.loads(curl(f"{world.url}/v1/chat/completions", "-d", json.dumps({"model": world.model})))
    same(answer["error"]["code"], "no_backend")
    holds("send application/json" in answer["error"]["message"], answer)


@case("curl: a Unix socket")
def _(world):
    path = world.folder / "proxy.sock"
    with world.proxy("--listen", f"unix:{path}"):
        answer = curl("http://localhost/v1/chat/completions", "--unix-socket", path, *json_body(world))
    same(json.loads(answer)["choices"][0]["message"]["content"], ANSWER)
