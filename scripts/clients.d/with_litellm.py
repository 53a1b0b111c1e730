"""LiteLLM, as a library: `openai/MODEL` with an api_base."""

import json

import litellm

from common import ANSWER, KEY, MESSAGES, PROMPT, TOOLS, USAGE, case, holds, raises, same
from with_openai import expected_vector

litellm.suppress_debug_info = True


def options(world, url=None, **more):
    return {
        "model": f"openai/{world.model}", "api_base": f"{url or world.url}/v1", "api_key": KEY,
        "timeout": 60, "num_retries": 0,
    } | more


@case("LiteLLM: completion")
def _(world):
    answer = litellm.completion(messages=MESSAGES, **options(world))
    same(answer.choices[0].message.content, ANSWER)
    same((answer.usage.prompt_tokens, answer.usage.completion_tokens), USAGE, "usage")


@case("LiteLLM: a stream, with usage")
def _(world):
    chunks = list(litellm.completion(
        messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **options(world)
    ))
    pieces = [choice.delta.content for c in chunks for choice in c.choices if choice.delta.content]
    same(("".join(pieces), len(pieces)), (ANSWER, 4))
    usages = [c.usage for c in chunks if getattr(c, "usage", None)]
    same([(u.prompt_tokens, u.completion_tokens) for u in usages], [USAGE], "usage")


@case("LiteLLM: a tool call")
def _(world):
    call = litellm.completion(messages=MESSAGES, tools=TOOLS, **options(world)).choices[0].message.tool_calls[0]
    same((call.function.name, json.loads(call.function.arguments)), ("look_up", {"text": PROMPT}))


@case("LiteLLM: embeddings")
def _(world):
    answer = litellm.embedding(input=["a b"], encoding_format="float", **options(world))
    same(answer.data[0]["embedding"], expected_vector("a b"))


@case("LiteLLM: errors keep status and code")
def _(world):
    error = raises(
        litellm.NotFoundError,
        lambda: litellm.completion(messages=MESSAGES, **options(world, model="openai/no/such")),
    )
    holds("no/such" in error.message, error.message)
    with world.tampered("rtmr3-event-payload"), world.proxy() as url:
        kind = litellm.BadGatewayError
        error = raises(kind, lambda: litellm.completion(messages=MESSAGES, **options(world, url)))
    same(error.status_code, 502)
    holds("rejected_event_digest" in str(error.message), error.message)
