"""LangChain, by langchain-openai."""

import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from common import ANSWER, KEY, PROMPT, TOOLS, USAGE, case, holds, raises, same
from with_openai import expected_vector


def model(world, url=None, **more):
    options = {"api_key": KEY, "max_retries": 0, "timeout": 60} | more
    return ChatOpenAI(model=world.model, base_url=f"{url or world.url}/v1", **options)


@case("LangChain: invoke")
def _(world):
    answer = model(world).invoke(PROMPT)
    same(answer.content, ANSWER)
    usage = answer.usage_metadata
    same((usage["input_tokens"], usage["output_tokens"]), USAGE, "usage")


@case("LangChain: stream, with usage")
def _(world):
    chunks = list(model(world, stream_usage=True).stream(PROMPT))
    pieces = [chunk.content for chunk in chunks if chunk.content]
    same(("".join(pieces), len(pieces)), (ANSWER, 4))
    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    same([(u["input_tokens"], u["output_tokens"]) for u in usages], [USAGE], "usage")


@case("LangChain: a tool call")
def _(world):
    call = model(world).bind_tools(TOOLS).invoke(PROMPT).tool_calls[0]
    same((call["name"], call["args"]), ("look_up", {"text": PROMPT}))


@case("LangChain: embeddings")
def _(world):
    # Else it counts tokens with a table that it would download.
    embeddings = OpenAIEmbeddings(
        model=world.model, base_url=f"{world.url}/v1", api_key=KEY, check_embedding_ctx_length=False
    )
    got = embeddings.embed_documents(["a b", "c"])
    same(got, [expected_vector("a b"), expected_vector("c")])


@case("LangChain: a refused backend")
def _(world):
    with world.tampered("other-os-image"), world.proxy() as url:
        # Its own class below the SDK's.
        kind = openai.InternalServerError
        client = model(world, url, max_retries=2)
        error = raises(kind, lambda: client.invoke(PROMPT), exactly=False)
    same(error.code, "rejected_os_image")
    holds("hint: " in error.message, error.message)
