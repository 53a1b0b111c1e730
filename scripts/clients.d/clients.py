"""curl and OpenAI's SDK through verified-proxy to fake-tee.

Good answers, streamed and not; then tamperings, each refused by its own code
while the backend sees attestation requests and nothing else.
"""

import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import openai

CANARY = "canary-71c0"
KEY = "sk-canary-key-93ab"

# Tampering of the fake -> code that the client gets.
REFUSALS = {
    "quote-signature": "rejected_quote_untrusted",
    "report-data": "rejected_report_data",
    "other-nonce": "rejected_nonce",
    "no-tls-fingerprint": "evidence_no_tls_fingerprint",
    "other-spki": "rejected_spki_mismatch",
    "debug-td": "rejected_td_debug",
    "other-os-image": "rejected_os_image",
    "other-app-id": "rejected_app_id",
    "other-kms-root": "rejected_kms_root",
    "rtmr3-event-payload": "rejected_event_digest",
    "compose-text": "rejected_compose_hash",
    "tcb-out-of-date": "rejected_tcb_platform",
    "wrong-model": "rejected_model",
    "acpi": "rejected_acpi",
}

passed = 0


def check(what, holds, detail=""):
    global passed
    if not holds:
        sys.exit(f"clients: FAILED: {what}: {detail}")
    passed += 1
    print(f"   ok  {what}")


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


def wait_for(what, look):
    for _ in range(300):
        found = look()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"clients: {what} did not start in 30 s")


@contextlib.contextmanager
def proxy(bin_dir, env):
    """A fresh proxy, with nothing remembered; gives its URL."""
    arguments = [
        bin_dir / "verified-proxy", "serve", "--port", "0",
        "--endpoints-url", env["endpoints_url"], "--pccs-url", env["pccs_url"],
        "--extra-ca", env["extra_ca"], "--connect-to", env["connect_to"],
        "--danger-tdx-root", env["danger_tdx_root"], "--policy", env["policy"],
        "--state-dir", "none",
    ]
    with process(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        line = child.stdout.readline()
        match = re.search(r"http://\S+", line)
        if not match:
            sys.exit(f"clients: verified-proxy said {line!r}")
        yield match.group().rstrip(",")


def sdk(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=60)


def post(url, body):
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def received(env):
    with urllib.request.urlopen(f"{env['http_url']}/_fake/received", timeout=10) as answer:
        return json.load(answer)


def curl(url, body, *more):
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "60", f"{url}/v1/chat/completions",
         "-H", "content-type: application/json", "-H", f"authorization: Bearer {KEY}",
         "-d", json.dumps(body), *more],
        capture_output=True, text=True, check=True,
    )
    return done.stdout


def good_answers(url, env):
    messages = [{"role": "user", "content": f"say {CANARY}"}]
    body = {"model": env["model"], "messages": messages}
    if shutil.which("curl"):
        answer = json.loads(curl(url, body))
        check("curl, JSON", answer["choices"][0]["message"]["content"], answer)
        stream = curl(url, body | {"stream": True}, "-N")
        check("curl, streamed", stream.rstrip().endswith("data: [DONE]"), stream)
    else:
        print("   skipped  curl is not installed")

    client = sdk(url)
    head = client.chat.completions.with_raw_response.create(model=env["model"], messages=messages).headers
    verdict = head["x-verified-proxy-verdict"]
    check("the answer names its verdict", re.fullmatch("[0-9a-f]{8,}", verdict), verdict)
    check("the answer names the attested model", head["x-verified-proxy-model"] == env["model"], head)
    plain = client.chat.completions.create(model=env["model"], messages=messages)
    text = plain.choices[0].message.content
    check("OpenAI's SDK, JSON", text and plain.usage.total_tokens > 0, plain)
    pieces = []
    usage = None
    for chunk in client.chat.completions.create(
        model=env["model"], messages=messages, stream=True, stream_options={"include_usage": True}
    ):
        pieces += [choice.delta.content or "" for choice in chunk.choices]
        usage = chunk.usage or usage
    check("OpenAI's SDK, streamed", "".join(pieces) == text and len(pieces) > 1, pieces)
    check("OpenAI's SDK, usage at the end of a stream", usage and usage.total_tokens > 0, usage)
    models = [model.id for model in client.models.list()]
    check("OpenAI's SDK, models", env["model"] in models, models)
    try:
        client.chat.completions.create(model="no/such-model", messages=messages)
        check("OpenAI's SDK, an unknown model", False)
    except openai.NotFoundError as error:
        check("OpenAI's SDK, an unknown model", error.code == "model_not_found", error)


def refusals(bin_dir, env):
    for tampering, code in REFUSALS.items():
        post(f"{env['http_url']}/_fake/tamper", {"name": tampering})
        post(f"{env['http_url']}/_fake/clear", {})
        with proxy(bin_dir, env) as url:
            try:
                sdk(url).chat.completions.create(
                    model=env["model"], messages=[{"role": "user", "content": CANARY}]
                )
                got = "an answer"
            except openai.APIStatusError as error:
                got = error.code
        check(f"{tampering} is {code}", got == code, got)
        connections = received(env)
        lines = [line for connection in connections for line in connection["request_lines"]]
        seen = json.dumps(connections)
        probes_only = lines and all(l.startswith("GET /v1/attestation/report?") for l in lines)
        check(f"{tampering}: the backend saw {len(lines)} attestation requests only",
              probes_only and CANARY not in seen and KEY not in seen and "authorization" not in seen.lower(),
              seen[:2000])


def main():
    bin_dir = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        fake = [bin_dir / "fake-tee", "--dir", folder, "--port-http", "0", "--port-backend", "0"]
        with process(fake, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            text = wait_for("fake-tee", lambda: (folder / "env.json").exists() and (folder / "env.json").read_text())
            env = json.loads(text)
            with proxy(bin_dir, env) as url:
                good_answers(url, env)
            refusals(bin_dir, env)
    print(f"clients: {passed} checks passed")


main()
