"""OpenAI's SDK for Python: what answers well."""

import base64
import hashlib
import io
import json
import re

import openai

from common import ANSWER, KEY, MESSAGES, PROMPT, TOOLS, USAGE, case, holds, raises, same

# Longer than one read of a socket, and no repetition that hides a lost piece.
SOUND = b"RIFF" + b"".join(hashlib.sha256(bytes([n % 251, n // 251])).digest() for n in range(9000))


def sdk(url, **more):
    options = {"api_key": KEY, "max_retries": 0, "timeout": 60} | more
    return openai.OpenAI(base_url=f"{url}/v1", **options)


def chat(client, world, **more):
    return client.chat.completions.create(**({"model": world.model, "messages": MESSAGES} | more))


def expected_vector(text):
    return [byte / 256 for byte in hashlib.sha256(text.encode()).digest()[:8]]


@case("OpenAI Python: chat, with verdict and model in the head")
def _(world):
    raw = sdk(world.url).chat.completions.with_raw_response.create(model=world.model, messages=MESSAGES)
    verdict = raw.headers["x-verified-proxy-verdict"]
    holds(re.fullmatch("[0-9a-f]{16}", verdict), verdict)
    same(raw.headers["x-verified-proxy-model"], world.model)
    answer = raw.parse()
    same(answer.choices[0].message.content, ANSWER)
    same((answer.usage.prompt_tokens, answer.usage.completion_tokens), USAGE, "usage")


@case("OpenAI Python: streamed chat with usage")
def _(world):
    pieces, usage = [], []
    for chunk in chat(sdk(world.url), world, stream=True, stream_options={"include_usage": True}):
        pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        usage += [(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)] if chunk.usage else []
    same("".join(pieces), ANSWER)
    same((len(pieces), usage), (4, [USAGE]), "pieces and usage")


@case("OpenAI Python: a tool call, and its result")
def _(world):
    client = sdk(world.url)
    choice = chat(client, world, tools=TOOLS).choices[0]
    same(choice.finish_reason, "tool_calls")
    call = choice.message.tool_calls[0]
    same((call.function.name, json.loads(call.function.arguments)), ("look_up", {"text": PROMPT}))
    result = {"role": "tool", "tool_call_id": call.id, "content": "found it"}
    answer = chat(client, world, tools=TOOLS, messages=[*MESSAGES, choice.message, result])
    same(answer.choices[0].message.content, "You said: found it")


@case("OpenAI Python: a tool call in a stream")
def _(world):
    names, arguments, finish = [], [], None
    for chunk in chat(sdk(world.url), world, tools=TOOLS, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                names += [call.function.name] if call.function.name else []
                arguments += [call.function.arguments] if call.function.arguments else []
    same((names, finish), (["look_up"], "tool_calls"))
    holds(len(arguments) > 1, arguments)
    same(json.loads("".join(arguments)), {"text": PROMPT})


@case("OpenAI Python: embeddings, as base64 and as numbers")
def _(world):
    for more in ({}, {"encoding_format": "float"}):
        answer = sdk(world.url).embeddings.create(model=world.model, input=["a b", "c"], **more)
        same([item.embedding for item in answer.data], [expected_vector("a b"), expected_vector("c")])
        same(answer.usage.total_tokens, 3)


@case("OpenAI Python: models.list and models.retrieve")
def _(world):
    client = sdk(world.url)
    same([model.id for model in client.models.list()], [world.model])
    same(client.models.retrieve(world.model).id, world.model)
    error = raises(openai.NotFoundError, lambda: client.models.retrieve("no/such"))
    same(error.code, "model_not_found")


@case("OpenAI Python: audio, the model before the file")
def _(world):
    world.clear()
    file = ("speech.wav", io.BytesIO(SOUND), "audio/wav")
    answer = sdk(world.url).audio.transcriptions.create(model=world.model, file=file)
    same(answer.text, f"{len(SOUND)} bytes, SHA-256 {hashlib.sha256(SOUND).hexdigest()}")
    sent = world.seen("POST /v1/audio/transcriptions")["bytes"]
    holds(sent.index('name="model"') < sent.index('name="file"'), "the file came first")


@case("OpenAI Python: images, generated and edited")
def _(world):
    client = sdk(world.url)
    answer = client.images.generate(model=world.model, prompt=PROMPT, n=2)
    images = [base64.b64decode(image.b64_json) for image in answer.data]
    same([image[:8] for image in images], [b"\x89PNG\r\n\x1a\n"] * 2)
    file = ("picture.png", io.BytesIO(images[0] + SOUND), "image/png")
    edited = client.images.edit(model=world.model, image=file, prompt=PROMPT).data[0]
    holds(base64.b64decode(edited.b64_json) == images[0] + SOUND, "another image came back")
    same(edited.revised_prompt, PROMPT)


@case("OpenAI Python: responses, plain and streamed")
def _(world):
    client = sdk(world.url)
    answer = client.responses.create(model=world.model, input=PROMPT)
    same((answer.status, answer.output_text), ("completed", ANSWER))
    events = list(client.responses.create(model=world.model, input=PROMPT, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    same((text, events[-1].type), (ANSWER, "response.completed"))
    same(events[-1].response.output_text, ANSWER)
    same([event.sequence_number for event in events], list(range(len(events))))


@case("OpenAI Python: responses by X-Backend-Domain, without a model")
def _(world):
    world.clear()
    client = sdk(world.url, default_headers={"X-Backend-Domain": world.domain})
    error = raises(openai.NotFoundError, lambda: client.responses.retrieve("resp_1"))
    # The fake's own words: it was asked.
    holds("Not found" in error.message and error.code is None, error)
    sent = world.seen("GET /v1/responses/resp_1 ")["bytes"].lower()
    holds("x-backend-domain" not in sent, sent)


@case("OpenAI Python: the asynchronous client, twenty at a time")
def _(world):
    import asyncio

    async def all_at_once():
        client = openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key=KEY, max_retries=0, timeout=60)
        prompts = [f"number {n}" for n in range(20)]
        asked = [
            client.chat.completions.create(
                model=world.model, messages=[{"role": "user", "content": prompt}]
            )
            for prompt in prompts
        ]
        async with client:
            answers = await asyncio.gather(*asked)
        return [a.choices[0].message.content for a in answers], [f"You said: {p}" for p in prompts]

    same(*asyncio.run(all_at_once()))
