"""The same request straight to the backend and through the proxy: the answers have the
same bytes."""

import contextlib
import gzip
import hashlib
import http.client
import json
import socket
import ssl

from common import CANARY, KEY, PROMPT, TOOLS, case, holds, host_and_port, same

# What says how the bytes are to be read.
HEADERS = ("content-type", "content-encoding", "content-length")
WIDE = "Grüße, 世界 🦀 ¿qué tal? مرحبا"


class Direct(http.client.HTTPSConnection):
    """TLS to the fake, by its CA and its name, at the address where it really is."""

    def __init__(self, world):
        context = ssl.create_default_context(cafile=world.env["extra_ca"])
        super().__init__(world.domain, timeout=60, context=context)
        self.address = ("127.0.0.1", world.env["port_backend"])

    def connect(self):
        plain = socket.create_connection(self.address, self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)


def asked(connection, path, body, more):
    """Status, headers, and the pieces of the body as they came."""
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {KEY}",
        "x-fake-id": "same-0001",
    } | more
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body, ensure_ascii=False).encode(), headers)
        answer = connection.getresponse()
        pieces = list(iter(lambda: answer.read1(1 << 16), b""))
        return answer.status, {name: answer.getheader(name) for name in HEADERS}, pieces


def compared(world, path, body, more=None):
    """The answer's status and its pieces, which came through the proxy."""
    body = {"model": world.model} | body
    direct = asked(Direct(world), path, body, more or {})
    host, port = host_and_port(world.url)
    through = asked(http.client.HTTPConnection(host, port, timeout=60), path, body, more or {})
    same(through[0], direct[0], "status")
    same(through[1], direct[1], "headers")
    ours, theirs = b"".join(through[2]), b"".join(direct[2])
    if ours != theirs:
        pairs = enumerate(zip(ours, theirs))
        at = next((at for at, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
        raise AssertionError(
            f"{len(ours)} bytes, {len(theirs)} directly; they differ from byte {at} on:"
            f" {ours[at:at + 80]!r}, {theirs[at:at + 80]!r}"
        )
    return through[0], through[2]


def chat(prompt=PROMPT, **more):
    return {"messages": [{"role": "user", "content": prompt}]} | more


def streamed(prompt=PROMPT, **more):
    return chat(prompt, stream=True, stream_options={"include_usage": True}, **more)


CHAT = "/v1/chat/completions"


@case("the same bytes: JSON")
def _(world):
    status, pieces = compared(world, CHAT, chat(WIDE))
    answer = json.loads(b"".join(pieces))
    same((status, answer["id"]), (200, "same-0001"))
    same(answer["choices"][0]["message"]["content"], f"You said: {WIDE}")


@case("the same bytes: JSON of 8 MiB")
def _(world):
    _, pieces = compared(world, CHAT, chat(), {"x-fake-size": str(8 << 20)})
    same(sum(map(len, pieces)), 8 << 20)


@case("the same bytes: a stream with usage")
def _(world):
    _, pieces = compared(world, CHAT, streamed())
    text = b"".join(pieces)
    holds(text.endswith(b"data: [DONE]\n\n") and b'"usage":{' in text, text)
    holds(len(pieces) > 3, f"it came in {len(pieces)} pieces")


@case("the same bytes: a stream whose pieces end within characters")
def _(world):
    more = {"x-fake-cut": "5", "x-fake-delay-ms": "2"}
    _, pieces = compared(world, CHAT, streamed(WIDE), more)

    def is_broken(piece):
        try:
            piece.decode()
        except UnicodeDecodeError:
            return True
        return False

    holds(any(map(is_broken, pieces)), "no piece ended within a character")
    holds("🦀" in b"".join(pieces).decode(), pieces)


@case("the same bytes: a long stream")
def _(world):
    more = {"x-fake-chunks": "20000", "x-fake-delay-ms": "0"}
    _, pieces = compared(world, CHAT, streamed(), more)
    same(b"".join(pieces).count(b"xxxxx"), 20_000, "chunks")


@case("the same bytes: a tool call in a stream")
def _(world):
    _, pieces = compared(world, CHAT, streamed(tools=TOOLS))
    holds(b"look_up" in b"".join(pieces), pieces)


@case("the same bytes: gzip, not unpacked on the way")
def _(world):
    _, pieces = compared(world, CHAT, chat(), {"x-fake": "gzip", "accept-encoding": "gzip"})
    packed = b"".join(pieces)
    holds(packed.startswith(b"\x1f\x8b"), packed)
    same(gzip.decompress(packed), b'{"fake":"gzip"}')


@case("the same bytes: embeddings in base64")
def _(world):
    _, pieces = compared(world, "/v1/embeddings", {"input": [WIDE], "encoding_format": "base64"})
    holds(b'"embedding":"' in b"".join(pieces), pieces)


@case("the same bytes: an error of the backend")
def _(world):
    status, pieces = compared(world, CHAT, chat(), {"x-fake": "status=429"})
    same(status, 429)
    holds(b"on order" in b"".join(pieces), pieces)


@case("the same bytes: /v1/messages, JSON and streamed")
def _(world):
    compared(world, "/v1/messages", chat(WIDE, max_tokens=9))
    _, pieces = compared(world, "/v1/messages", chat(WIDE, max_tokens=9, stream=True), {"x-fake-cut": "11"})
    holds(b"event: message_stop\n" in b"".join(pieces), pieces)


@case("the same bytes: /v1/responses, JSON and streamed")
def _(world):
    compared(world, "/v1/responses", {"input": WIDE})
    _, pieces = compared(world, "/v1/responses", {"input": WIDE, "stream": True}, {"x-fake-cut": "11"})
    holds(b"event: response.completed\n" in b"".join(pieces), pieces)


@case("the same bytes the other way: the backend read the body that was sent")
def _(world):
    body = {"model": world.model} | chat(f"{WIDE} {CANARY}")
    body = json.dumps(body, ensure_ascii=False).encode()
    world.clear()
    compared(world, CHAT, chat(f"{WIDE} {CANARY}"))
    sums = [r["body_sha256"] for c in world.received() for r in c["requests"] if r["line"].startswith("POST")]
    same(sums, [hashlib.sha256(body).hexdigest()] * 2, "SHA-256 at the backend")
