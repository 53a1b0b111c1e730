"""Keys: SDKs that insist on one take a placeholder, and tokens take a key's place."""

import anthropic
import litellm
import openai
from langchain_openai import ChatOpenAI

import with_anthropic
from common import ANSWER, KEY, MESSAGES, PROMPT, case, holds, raises, same
from with_openai import chat, sdk

CHAT = "POST /v1/chat/completions"


def credentials(world, line=CHAT):
    """What the backend saw of keys, of whichever header, and all that it saw."""
    sent = world.seen(line)["bytes"]
    head = sent[sent.rindex(line):].partition("\r\n\r\n")[0].lower()
    pairs = [header.partition(": ")[::2] for header in head.split("\r\n")[1:]]
    return {name: value for name, value in pairs if name in ("authorization", "x-api-key")}, sent


@case("keys: OpenAI Python with a placeholder, and the backend saw the proxy's key")
def _(world):
    for placeholder in ("not-needed", "EMPTY", "dummy"):
        world.clear()
        same(chat(sdk(world.keyed_url, api_key=placeholder), world).choices[0].message.content, ANSWER)
        found, sent = credentials(world)
        same(found, {"authorization": f"bearer {world.key}"}, placeholder)
        holds(placeholder not in sent, sent)


@case("keys: a client's own key is left alone")
def _(world):
    world.clear()
    chat(sdk(world.keyed_url), world)
    found, sent = credentials(world)
    same(found, {"authorization": f"bearer {KEY}"})
    holds(world.key not in sent, "the proxy's key went on as well")


@case("keys: LangChain and LiteLLM with a placeholder")
def _(world):
    base = f"{world.keyed_url}/v1"
    model = ChatOpenAI(model=world.model, base_url=base, api_key="not-needed", max_retries=0)
    asks = {
        "LangChain": lambda: model.invoke(PROMPT),
        "LiteLLM": lambda: litellm.completion(
            model=f"openai/{world.model}", api_base=base, api_key="not-needed", messages=MESSAGES
        ),
    }
    for name, ask in asks.items():
        world.clear()
        ask()
        same(credentials(world)[0], {"authorization": f"bearer {world.key}"}, name)


@case("keys: Anthropic Python with a placeholder, as bearer and in x-api-key")
def _(world):
    for kind in (with_anthropic.sdk, with_anthropic.by_header):
        world.clear()
        answer = with_anthropic.create(kind(world.keyed_url, "not-needed"), world)
        same(answer.content[0].text, ANSWER)
        found, _ = credentials(world, "POST /v1/messages")
        same(found["authorization"], f"bearer {world.key}")


@case("keys: no key goes to a backend that is refused")
def _(world):
    with world.tampered("debug-td"), world.proxy("--api-key-file", world.folder / "key") as url:
        error = raises(openai.InternalServerError, lambda: chat(sdk(url, api_key="not-needed"), world))
        same(error.code, "rejected_td_debug")
        seen = str(world.received())
    holds(world.key not in seen and "not-needed" not in seen, seen)


@case("tokens: the SDK's api_key is the token, and the backend saw the proxy's key")
def _(world):
    world.clear()
    same(chat(sdk(world.token_url, api_key=world.token), world).choices[0].message.content, ANSWER)
    found, sent = credentials(world)
    same(found, {"authorization": f"bearer {world.key}"})
    holds(world.token not in sent, sent)


@case("tokens: another key is refused with 401, and the backend sees nothing")
def _(world):
    world.clear()
    for key in ("not-needed", KEY, world.token + "x"):
        error = raises(openai.AuthenticationError, lambda: chat(sdk(world.token_url, api_key=key), world))
        same(error.code, "client_token_required", key)
    same(world.lines(), [])


@case("tokens: Anthropic Python, as bearer and in x-api-key")
def _(world):
    for client in (with_anthropic.sdk, with_anthropic.by_header):
        world.clear()
        answer = with_anthropic.create(client(world.token_url, world.token), world)
        same(answer.content[0].text, ANSWER)
        found, sent = credentials(world, "POST /v1/messages")
        same(found, {"authorization": f"bearer {world.key}"})
        holds(world.token not in sent, sent)
        wrong = client(world.token_url, KEY)
        raises(anthropic.AuthenticationError, lambda: with_anthropic.create(wrong, world))


@case("tokens: a token beside a key of the client's own")
def _(world):
    world.clear()
    client = sdk(world.token_url, default_headers={"X-Verified-Proxy-Token": world.token})
    chat(client, world)
    found, sent = credentials(world)
    same(found, {"authorization": f"bearer {KEY}"})
    holds(world.token not in sent, sent)
