// What the proxy tells comes from backends in part, so it becomes text nodes and
// nothing else; the document's policy (Trusted Types) forbids the rest.

const MAX_MODELS_SHOWN = 200;
const HEARTBEAT_MISSED_MS = 45000;
const LONGEST_PAUSE_MS = 15000;

const part = (id) => document.getElementById(id);

/** An element; strings among its children become text. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Changes what is shown only if it differs: a selection in it stays. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows exactly these elements; those that stay in place keep the focus. */
function setChildren(parent, elements) {
  const same = parent.children.length === elements.length
    && elements.every((element, at) => parent.children[at] === element);
  if (same) return;
  const focused = document.activeElement;
  parent.replaceChildren(...elements);
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus();
}

// Asking.

class TokenWanted extends Error {}

let token = "";
let about = null;
/** The proxy's clock minus this one's, in milliseconds. */
let ahead = 0;

const now = () => (Date.now() + ahead) / 1000;

async function ask(path, signal) {
  const headers = token ? { "X-Verified-Proxy-Token": token } : {};
  const answer = await fetch(path, { headers, signal, cache: "no-store" });
  if (answer.status === 401) throw new TokenWanted();
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new Error(told?.error?.message ?? `${path} was answered with ${answer.status}`);
  }
  return answer;
}

// Words.

function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes % 60 === 0 && minutes <= 24 * 60) return `${minutes / 60} h`;
  if (minutes < 120) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.round(minutes / 1440)} days`;
}

const ago = (time) => (now() - time < 10 ? "just now" : `${span(now() - time)} ago`);
const left = (time) => (time > now() ? `${span(time - now())} left` : "expired");
const times = (count) => (count === 1 ? "once" : `${count} times`);
const short = (spki) => `${spki.slice(0, 16)}…`;

// Cards, which stay the same elements while their verdicts change.

const cards = new Map();

function card(id, create) {
  if (!cards.has(id)) cards.set(id, create());
  return cards.get(id);
}

/** One TLS key whose verdict stands. */
function keyCard() {
  const sentence = make("p");
  const levels = make("p", "soft");
  const lines = make("p", "times");
  const changes = make("div");
  const report = reportDetails("Every check of key ");
  const element = make("div", "", sentence, levels, changes, lines, report.element);
  let entry;
  const tick = () => setText(lines, `Judged ${ago(entry.judged_at)}, ${left(entry.valid_until)}. `
    + `${entry.passed} checks hold, ${entry.not_proved} not proved.`);
  return { element, tick, show: (shown) => {
    if (shown.id !== entry?.id) {
      changes.replaceChildren(...(shown.changes.length
        ? [make("p", "soft", "Changed since it was last seen:"), changeList(shown.changes)] : []));
    }
    entry = shown;
    setText(sentence, entry.sentence ?? "");
    const axes = Object.entries(entry.levels ?? {});
    setText(levels, axes.map(([axis, level]) => `${axis}: ${level}`).join(" · "));
    report.say(short(entry.spki));
    report.show(entry.id);
    tick();
  } };
}

function backendCard(domain) {
  const state = make("p", "state");
  const keys = make("div");
  const element = make("article", "", make("div", "head", make("h3", "", domain), state), keys);
  const none = make("p", "times");
  return { element, show: ({ standing, refusals, former }) => {
    const good = standing.length > 0;
    const refused = refusals.length > 0 && !(former[0]?.judged_at > refusals[0].judged_at);
    state.className = `state ${good ? "good" : refused ? "bad" : "open"}`;
    setText(state, good ? "✓ verified" : refused ? "✕ refused" : "– expired");
    setText(none, refused ? "It has no valid verdict, so the proxy sends it nothing. The refusals say why."
      : "It has no valid verdict. Before the next request the proxy asks for a new proof.");
    setChildren(keys, good ? standing.map((entry) => {
      const one = card(`key ${domain} ${entry.spki}`, keyCard);
      one.show(entry);
      return one.element;
    }) : [none]);
  } };
}

function refusalCard() {
  const code = make("code");
  const domain = make("p", "soft");
  const when = make("p", "times");
  const meaning = make("p");
  const remedy = make("p");
  const report = reportDetails("Every check, what was found, and what differs");
  const element = make("article", "",
    make("div", "head", make("h3", "", code), make("p", "state bad", "✕ refused")),
    domain, meaning, remedy, when, report.element);
  let last;
  let count;
  const tick = () => setText(when, `Seen ${times(count)}, last ${ago(last.judged_at)}. `
    + `${last.passed} checks held, ${last.not_proved} not proved.`);
  return { element, tick, show: (entries) => {
    [last] = entries;
    count = entries.length;
    const words = about.codes[last.code] ?? { meaning: "", remedy: "" };
    setText(code, last.code);
    setText(domain, `${last.domain}, key ${short(last.spki)}`);
    setText(meaning, words.meaning);
    setText(remedy, `What to do: ${words.remedy}`);
    report.show(last.id);
    tick();
  } };
}

function formerCard() {
  const report = reportDetails("");
  const element = make("article", "", report.element);
  let entry;
  const tick = () => report.say(`${entry.domain}, key ${short(entry.spki)}, judged ${ago(entry.judged_at)}`);
  return { element, tick, show: (shown) => { entry = shown; report.show(entry.id); tick(); } };
}

// All of it.

function grouped(entries, key) {
  const groups = new Map();
  for (const entry of entries) {
    const name = key(entry);
    groups.set(name, [...(groups.get(name) ?? []), entry]);
  }
  return groups;
}

function showVerdicts(verdicts) {
  const before = new Set(cards.keys());
  const used = (id, create, entry) => {
    before.delete(id);
    const one = card(id, create);
    one.show(entry);
    return one.element;
  };
  const standing = verdicts.filter((entry) => entry.stands);
  const refusals = verdicts.filter((entry) => entry.verdict === "rejected");
  const former = verdicts.filter((entry) => !entry.stands && entry.verdict !== "rejected");
  for (const entry of standing) before.delete(`key ${entry.domain} ${entry.spki}`);

  part("first").hidden = verdicts.length > 0;
  const domains = [...new Set(verdicts.map((entry) => entry.domain))].sort();
  const of = (entries, domain) => entries.filter((entry) => entry.domain === domain);
  setChildren(part("backend-list"), domains.map((domain) => used(`backend ${domain}`, () => backendCard(domain),
    { standing: of(standing, domain), refusals: of(refusals, domain), former: of(former, domain) })));

  part("refusal-part").hidden = refusals.length === 0;
  const kinds = grouped(refusals, (entry) => `refusal ${entry.domain} ${entry.code} ${entry.spki}`);
  setChildren(part("refusal-list"), [...kinds].map(([id, entries]) => used(id, refusalCard, entries)));

  part("former-part").hidden = former.length === 0;
  setText(part("former-count"), String(former.length));
  setChildren(part("former-list"), former.map((entry) => used(`former ${entry.id}`, formerCard, entry)));

  for (const id of before) cards.delete(id);
}

let seen = null;

/** What changed, in words, for those who do not look at the page all the time. */
function tellNews(verdicts) {
  const name = (entry) => `${entry.domain} ${entry.spki}`;
  const standing = new Map(verdicts.filter((entry) => entry.stands).map((entry) => [name(entry), entry]));
  const news = [];
  if (seen) {
    for (const entry of verdicts.filter((entry) => !seen.ids.has(entry.id))) {
      if (entry.verdict === "rejected") news.push(`${entry.domain} was refused: ${entry.code}.`);
      else news.push(`${entry.domain} was verified${seen.standing.has(name(entry)) ? " again" : ""}.`);
    }
    for (const [id, entry] of seen.standing) {
      if (!standing.has(id)) news.push(`A verdict on ${entry.domain} is no longer valid.`);
    }
  }
  seen = { standing, ids: new Set(verdicts.map((entry) => entry.id)) };
  if (news.length) {
    setText(part("news"), `${new Date().toLocaleTimeString()}: ${[...new Set(news)].slice(0, 3).join(" ")}`);
  }
}

let reading = null;
let readAgain = false;

/** Reads the verdicts; what comes meanwhile makes it read once more. */
function refresh() {
  readAgain = true;
  reading ??= (async () => {
    while (readAgain) {
      readAgain = false;
      const answer = await ask("/_proxy/verdicts");
      ahead = (Date.parse(answer.headers.get("date")) || Date.now()) - Date.now();
      const { verdicts } = await answer.json();
      showVerdicts(verdicts);
      tellNews(verdicts);
      await pause(200);
    }
  })().finally(() => { reading = null; });
  return reading;
}

function showAbout() {
  const { policy } = about;
  const intel = about.trust_root === "intel";
  const lifetime = span(about.verdict_ttl_seconds);
  const warnings = [];
  if (!intel) {
    warnings.push("DANGER: the trust root is not Intel's. Verdicts say nothing about real hardware.");
  }
  if (about.gpu_root !== "nvidia") {
    warnings.push("DANGER: the root of GPUs is not NVIDIA's. Verdicts say nothing about real GPUs.");
  }
  if (about.nras_root !== "nvidia") {
    warnings.push("DANGER: NVIDIA's attestation service is trusted under an authority that is not NVIDIA's. Its opinion says nothing about real GPUs.");
  }
  if (policy.hardware_only) {
    warnings.push("HARDWARE ONLY: the policy checks no software. A verdict says \"a genuine TDX machine\", not what runs in it.");
  }
  part("warnings").replaceChildren(...warnings.map((words) => make("p", "danger", words)));
  part("about").replaceChildren(...definitions([
    ["Policy", `${policy.name}, of ${policy.date}`],
    ["Digest", make("code", "", policy.digest)],
    ["Software", policy.hardware_only ? "NOT CHECKED" : "compared with the policy"],
    ["Trust root", intel ? "Intel's" : "DANGER: not Intel's"],
    ["GPU root", about.gpu_root === "nvidia" ? "NVIDIA's" : "DANGER: not NVIDIA's"],
    ["NRAS authority", about.nras_root === "nvidia" ? "NVIDIA's" : "DANGER: not NVIDIA's"],
    ["CA chain", about.ca_chain],
    ["A verdict is valid for", `${lifetime} at most`],
    ["Version", about.version],
  ]).children);
  setText(part("policy"), `Policy ${policy.name}, ${policy.hardware_only ? "HARDWARE ONLY" : "hardware and software"}, `
    + `${intel ? "Intel's root" : "NOT Intel's root"}.`);
  for (const place of document.querySelectorAll(".ttl")) place.textContent = lifetime;
  part("brief").hidden = false;
  part("content").hidden = false;
}

async function showModels() {
  let names = [];
  try {
    const { data } = await (await ask("/v1/models")).json();
    names = data.map((model) => String(model.id));
    setText(part("model-count"), String(names.length));
    const more = names.length - MAX_MODELS_SHOWN;
    const shown = names.slice(0, MAX_MODELS_SHOWN).concat(more > 0 ? `and ${more} more` : []);
    part("model-list").replaceChildren(...shown.map((name) => make("li", "", name)));
  } catch (error) {
    if (error instanceof TokenWanted) throw error;
    setText(part("model-count"), error.message);
  }
  // For a shell, so only a name that means nothing to it.
  const model = names.find((name) => /^[\w./:-]+$/.test(name)) ?? "MODEL";
  setText(part("curl"), [
    `curl ${location.origin}/v1/chat/completions`,
    ...(token ? ["-H 'X-Verified-Proxy-Token: YOUR_TOKEN'"] : []),
    "-H 'Authorization: Bearer YOUR_API_KEY'",
    "-H 'Content-Type: application/json'",
    `-d '{"model": "${model}", "messages": [{"role": "user", "content": "Hello"}]}'`,
  ].join(" \\\n  "));
}

// Live.

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

function showLive(live, words) {
  part("live").className = `state ${live ? "good" : "waiting"}`;
  setText(part("live"), words);
}

/** Reads events until they end, which they do with the proxy, or break off. */
async function followEvents() {
  const broken = new AbortController();
  const hide = () => { if (document.hidden) broken.abort(); };
  document.addEventListener("visibilitychange", hide);
  let silence;
  const alive = () => {
    clearTimeout(silence);
    silence = setTimeout(() => broken.abort(), HEARTBEAT_MISSED_MS);
  };
  try {
    alive();
    const answer = await ask("/_proxy/events", broken.signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      if (events.some((event) => event.startsWith("event: verdicts\n"))) {
        await refresh();
        showLive(true, "● Live");
      }
    }
  } finally {
    clearTimeout(silence);
    document.removeEventListener("visibilitychange", hide);
    broken.abort();
  }
}

function whenVisible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => {
    document.addEventListener("visibilitychange", done, { once: true });
  }).then(whenVisible);
}

function askForToken() {
  part("brief").hidden = true;
  part("content").hidden = true;
  part("token").hidden = false;
  part("token-unknown").hidden = token === "";
  part("token-field").focus();
  return new Promise((done) => {
    part("token").addEventListener("submit", (event) => {
      event.preventDefault();
      token = part("token-field").value.trim();
      part("token-field").value = "";
      part("token").hidden = true;
      done();
    }, { once: true });
  });
}

async function stayLive() {
  let wait = 1000;
  for (;;) {
    // Browsers open few connections to a host, which windows in the back can do without.
    await whenVisible();
    let why = "the events ended";
    try {
      about = await (await ask("/_proxy/about")).json();
      showAbout();
      await showModels();
      await refresh();
      wait = 1000;
      await followEvents();
    } catch (error) {
      if (error instanceof TokenWanted) {
        showLive(false, "○ Waiting for a token");
        await askForToken();
        continue;
      }
      if (error.name !== "AbortError") why = error instanceof TypeError ? "no connection" : error.message;
    }
    showLive(false, `○ Not live: ${why.split("\n")[0]}`);
    await pause(wait);
    wait = Math.min(wait * 2, LONGEST_PAUSE_MS);
  }
}

setInterval(() => { for (const one of cards.values()) one.tick?.(); }, 1000);
stayLive();
