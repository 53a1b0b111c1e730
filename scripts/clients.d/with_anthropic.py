"""Anthropic's SDK for Python: /v1/messages passes through."""

import anthropic

from common import ANSWER, CANARY, KEY, MESSAGES, PROMPT, USAGE, case, counting, holds, raises, same


def sdk(url, key=KEY, **more):
    options = {"api_key": key, "max_retries": 0, "timeout": 60} | more
    return anthropic.Anthropic(base_url=url, **options)


def by_header(url, key):
    """As older ones send the key, and what is written by hand: in x-api-key alone."""
    return sdk(url, None, default_headers={"X-Api-Key": key})


def create(client, world, **more):
    return client.messages.create(model=world.model, max_tokens=64, messages=MESSAGES, **more)


@case("Anthropic Python: a message, by the model in its body")
def _(world):
    keys = {sdk(world.url): f"authorization: bearer {KEY}", by_header(world.url, KEY): f"x-api-key: {KEY}"}
    for client, header in keys.items():
        world.clear()
        answer = create(client, world)
        same((answer.content[0].text, answer.stop_reason), (ANSWER, "end_turn"))
        same((answer.usage.input_tokens, answer.usage.output_tokens), USAGE, "usage")
        sent = world.seen("POST /v1/messages")["bytes"].lower()
        holds(f"\r\n{header}\r\n" in sent and "\r\nanthropic-version: " in sent, header, sent)


@case("Anthropic Python: a streamed message")
def _(world):
    with sdk(world.url).messages.stream(model=world.model, max_tokens=64, messages=MESSAGES) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    same(("".join(pieces), len(pieces)), (ANSWER, 4))
    same((final.content[0].text, final.stop_reason, final.usage.output_tokens), (ANSWER, "end_turn", 4))


@case("Anthropic Python: a message by X-Backend-Domain, and what has no model")
def _(world):
    world.clear()
    client = sdk(world.url, default_headers={"X-Backend-Domain": world.domain})
    same(create(client, world).content[0].text, ANSWER)
    # It is asked for without a body: only the header leads to a backend.
    raises(anthropic.NotFoundError, lambda: client.messages.batches.retrieve("batch_1"))
    sent = world.seen("GET /v1/messages/batches/batch_1 ")["bytes"].lower()
    holds("x-backend-domain" not in sent, sent)
    error = raises(anthropic.NotFoundError, lambda: sdk(world.url).messages.batches.retrieve("batch_1"))
    same(error.body["error"]["code"], "not_found")


@case("Anthropic Python: errors are the SDK's classes, a refusal is not asked again")
def _(world):
    for status, kind in ((401, anthropic.AuthenticationError), (429, anthropic.RateLimitError)):
        client = sdk(world.url, default_headers={"x-fake": f"status={status}"})
        raises(kind, lambda: create(client, world))
    statuses = []
    http = counting(anthropic.DefaultHttpxClient, statuses)
    with world.tampered("debug-td"), world.proxy() as url:
        client = sdk(url, max_retries=3, http_client=http)
        error = raises(anthropic.InternalServerError, lambda: create(client, world))
        holds(CANARY not in str(world.received()), "the backend saw the prompt")
    same((error.status_code, statuses), (502, [502]))
    same(error.body["error"]["code"], "rejected_td_debug")
    holds("was not verified" in str(error), error)


@case("Anthropic Python: abort in mid-stream, and the backend sees the connection close")
def _(world):
    world.clear()
    # Ten minutes of it.
    client = sdk(world.url, default_headers={"x-fake-delay-ms": "3000"})
    long = [{"role": "user", "content": f"{PROMPT} " * 100}]
    stream = client.messages.create(model=world.model, max_tokens=9, messages=long, stream=True)
    next(iter(stream))
    holds(not world.seen("POST /v1/messages")["closed_ms"], "it was closed before")
    stream.close()
    world.closes("POST /v1/messages")
