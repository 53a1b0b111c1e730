// What a hostile page tries (threats.md C1 and C2), run inside that page. Each
// gives what the page gets to see.
"use strict";

/** Runs in the browser, so it knows nothing of this file. */
async function inPage({ attack, proxy, model }) {
  const chat = JSON.stringify({ model, messages: [{ role: "user", content: "spend the key" }] });
  const chatUrl = `${proxy}/v1/chat/completions?model=${encodeURIComponent(model)}`;
  const seen = (promise) => promise.then(
    async (answer) => `${answer.type} ${answer.status} ${(await answer.text()).slice(0, 300)}`,
    (error) => `${error.name}`,
  );
  const event = (target, names) => new Promise((done) => {
    for (const name of names) target.addEventListener(name, () => done(name), { once: true });
  });
  const element = async (tag, attributes) => {
    const made = Object.assign(document.createElement(tag), attributes);
    const came = event(made, ["load", "error"]);
    document.body.append(made);
    return `${await came} ${made.contentDocument ? made.contentDocument.body.textContent : ""}`;
  };
  const attacks = {
    "fetch of JSON": () => seen(fetch(chatUrl, {
      method: "POST", headers: { "content-type": "application/json" }, body: chat,
    })),
    "fetch of JSON with a key": () => seen(fetch(chatUrl, {
      method: "POST", headers: { "content-type": "application/json", authorization: "Bearer x" }, body: chat,
    })),
    "simple POST": () => seen(fetch(chatUrl, {
      method: "POST", mode: "no-cors", headers: { "content-type": "text/plain" }, body: chat,
    })),
    "no-cors GET": () => seen(fetch(chatUrl, { mode: "no-cors" })),
    "verdicts": () => seen(fetch(`${proxy}/_proxy/verdicts`)),
    "beacon": async () => `sent ${navigator.sendBeacon(chatUrl, chat)}`,
    "form": async () => {
      const frame = Object.assign(document.createElement("iframe"), { name: "answer" });
      document.body.append(frame);
      const form = Object.assign(document.createElement("form"), {
        action: chatUrl, method: "post", enctype: "text/plain", target: "answer",
      });
      form.append(Object.assign(document.createElement("input"), { name: chat.slice(0, -1) + ',"x":"', value: '"}' }));
      document.body.append(form);
      const loaded = event(frame, ["load"]);
      form.submit();
      await loaded;
      try {
        return `read ${frame.contentDocument.body.textContent}`;
      } catch (error) {
        return error.name;
      }
    },
    "image": () => element("img", { src: `${proxy}/_proxy/verdicts` }),
    "script": () => element("script", { src: `${proxy}/_proxy/verdicts` }),
    "frame of the page": () => element("iframe", { src: `${proxy}/_proxy/` }),
    "events": async () => {
      const source = new EventSource(`${proxy}/_proxy/events`);
      const came = await event(source, ["open", "error", "verdicts"]);
      return `${came} ${source.readyState === EventSource.CLOSED ? "closed" : "open"}`;
    },
    "socket": async () => {
      const socket = new WebSocket(`${chatUrl.replace("http", "ws")}`);
      return event(socket, ["open", "error"]);
    },
  };
  return attacks[attack]();
}

/** What each shows to a page of another origin. */
const CROSS_ORIGIN = {
  "fetch of JSON": "TypeError",
  "fetch of JSON with a key": "TypeError",
  "simple POST": "opaque 0 ",
  "no-cors GET": "opaque 0 ",
  "verdicts": "TypeError",
  "beacon": "sent true",
  "form": "TypeError",
  "image": "error ",
  "script": "error ",
  "frame of the page": "load ",
  "events": "error closed",
  "socket": "error",
};

/** A page that rebinds its name is of the proxy's origin: it may read, and reads a refusal. */
const REBOUND = {
  "fetch of JSON": /^basic 403 .*host_not_allowed/s,
  "simple POST": /^basic 403 .*host_not_allowed/s,
  "verdicts": /^basic 403 .*host_not_allowed/s,
  "form": /^read .*host_not_allowed/s,
  "image": /^error /,
  "frame of the page": /^load .*host_not_allowed/s,
  "events": /^error closed$/,
  "socket": /^error$/,
};

module.exports = { inPage, CROSS_ORIGIN, REBOUND };
