"""OpenAI's SDK for Python: what fails, and what it makes of it."""

import time

import openai

from common import ANSWER, CANARY, SOON, case, counting, holds, raises, same
from with_openai import chat, sdk

# Status of the backend -> the SDK's class.
CLASSES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    413: openai.APIStatusError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}
CHAT = "POST /v1/chat/completions"


@case("OpenAI Python: a backend's errors are the SDK's classes")
def _(world):
    for status, kind in CLASSES.items():
        client = sdk(world.url, default_headers={"x-fake": f"status={status}"})
        error = raises(kind, lambda: chat(client, world))
        same(error.status_code, status)
        holds("on order" in error.message, error.message)


@case("OpenAI Python: the proxy's own errors are the SDK's classes, with code and hint")
def _(world):
    client = sdk(world.url)
    elsewhere = sdk(world.url, default_headers={"X-Backend-Domain": "elsewhere.example"})
    rows = [
        (openai.BadRequestError, 400, "no_backend", "hint: Name a model",
         lambda: client.post("/chat/completions", body={"messages": []}, cast_to=object)),
        (openai.NotFoundError, 404, "model_not_found", "hint: ",
         lambda: chat(client, world, model="no/such-model")),
        (openai.PermissionDeniedError, 403, "backend_not_allowed", "--allow-domain",
         lambda: chat(elsewhere, world)),
    ]
    with world.proxy("--max-body", "64KiB") as url:
        large = [{"role": "user", "content": "x" * (65 << 10)}]
        rows.append((openai.APIStatusError, 413, "body_too_large", "--max-body",
                     lambda: chat(sdk(url), world, messages=large)))
        for kind, status, code, hint, call in rows:
            error = raises(kind, call)
            same((error.status_code, error.code), (status, code))
            holds(hint in error.message, error.message)


def refused(world, tampering, retries):
    """The error, the statuses that the SDK saw, and the backend's count of probes."""
    statuses = []
    with world.tampered(tampering), world.proxy() as url:
        http = counting(openai.DefaultHttpxClient, statuses)
        client = sdk(url, max_retries=retries, http_client=http)
        error = raises(openai.InternalServerError, lambda: chat(client, world))
        return error, statuses, world.probes()


@case("OpenAI Python: a refused backend is a 502 with code and hint, and is not asked again")
def _(world):
    error, statuses, probes = refused(world, "tcb-out-of-date", 3)
    same((error.status_code, error.code), (502, "rejected_tcb_platform"))
    holds("hint: " in error.message and CANARY not in error.message, error.message)
    same(statuses, [502], "answers with three retries allowed")
    # The proxy itself tries three connections.
    _, _, alone = refused(world, "tcb-out-of-date", 0)
    same((probes, alone), (3, 3), "probes with retries allowed, and without")


@case("OpenAI Python: a backend that is starting is asked again, and answers then")
def _(world):
    statuses = []
    world.clear()
    # As many as the proxy's own attempts.
    world.control("order", {"path": "/v1/attestation/report", "what": "status=503", "times": 3})
    with world.proxy() as url:
        http = counting(openai.DefaultHttpxClient, statuses)
        answer = chat(sdk(url, max_retries=1, http_client=http), world)
    same(answer.choices[0].message.content, ANSWER)
    same((statuses, world.probes()), ([502, 200], 4), "statuses and probes")


@case("OpenAI Python: a timeout, and the backend sees the connection close")
def _(world):
    world.clear()
    client = sdk(world.url, timeout=1, default_headers={"x-fake": "hang"})
    began = time.monotonic()
    raises(openai.APITimeoutError, lambda: chat(client, world))
    took = time.monotonic() - began
    holds(1 <= took < SOON, f"it took {took:.1f} s")
    world.closes(CHAT)


def endless_stream(world, url):
    """Half an hour of it, begun."""
    headers = {"x-fake-chunks": "36000", "x-fake-delay-ms": "50"}
    # A slow machine may not attest in the short time that some proxies here have.
    stream = chat(sdk(url, max_retries=5, default_headers=headers), world, stream=True)
    next(stream)
    return stream


@case("OpenAI Python: abort in mid-stream, and the backend sees the connection close")
def _(world):
    world.clear()
    stream = endless_stream(world, world.url)
    for _ in range(3):
        next(stream)
    holds(not world.seen(CHAT)["closed_ms"], "it was closed before")
    stream.close()
    world.closes(CHAT)


@case("OpenAI Python: busy, with Retry-After, is asked again, and answered then")
def _(world):
    statuses, waits = [], []
    with world.proxy("--max-connections", "1", "--attest-timeout", "2") as url:
        holder = endless_stream(world, url)

        def on_answer(answer):
            if answer.status_code == 503:
                waits.append((answer.headers["retry-after"], time.monotonic()))
                holder.close()

        http = counting(openai.DefaultHttpxClient, statuses, on_answer)
        answer = chat(sdk(url, max_retries=2, http_client=http), world)
        waited = time.monotonic() - waits[0][1]
    holds(answer.choices[0].message.content, answer)
    same(statuses, [503, 200], "statuses")
    same(waits[0][0], "2", "retry-after")
    holds(waited >= 2, f"it was asked again after {waited:.1f} s")


@case("OpenAI Python: busy without retries is the code busy")
def _(world):
    with world.proxy("--max-connections", "1", "--attest-timeout", "1") as url:
        with endless_stream(world, url):
            error = raises(openai.InternalServerError, lambda: chat(sdk(url), world))
    same((error.status_code, error.code), (503, "busy"))
