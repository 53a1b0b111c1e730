// Chromium against verified-proxy in front of fake-tee: hostile pages, then the
// proxy's own page.
"use strict";

const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { chromium } = require("playwright-core");

const { check, until, startFake, startProxy, startSite, stopAll, passed } = require("./machines.js");
const { inPage, CROSS_ORIGIN, REBOUND } = require("./attacks.js");

/** Of the endpoint list, and attested: it would run as markup. */
const HOSTILE = "<img src=x onerror=document.title='hostile'>";
const OTHER = "other.completions.near.ai";
const TOKEN = "token-of-ann-0123456789";
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
  // The browser asks nobody for names; this one leads here, as after rebinding.
  "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];

/** Does all of `expected` in `page`: what it sees, and that the proxy refused it. */
async function attempt(page, proxy, from, target, expected) {
  for (const [attack, sight] of Object.entries(expected)) {
    const before = await proxy.refusals();
    const seen = await page.evaluate(inPage, { attack, proxy: target, model: HOSTILE });
    const fits = typeof sight === "string" ? seen === sight : sight.test(seen);
    check(`${attack} from ${from}: the page sees ${seen.slice(0, 24).trim()}`, fits, seen);
    await until(`${attack} from ${from} is refused`, async () => await proxy.refusals() > before);
  }
}

async function attacks(browser, bin, fake) {
  const page = await browser.newPage();
  const site = await startSite();
  let proxy = await startProxy(bin, fake);
  for (const host of ["127.0.0.1", "evil.example"]) {
    await page.goto(`http://${host}:${site.port}/`);
    await attempt(page, proxy, `another origin (${host})`, proxy.url, CROSS_ORIGIN);
    // Not by frame-ancestors alone: there is nothing in the frames.
    const frames = await Promise.all(page.frames().slice(1).map((frame) => frame.content()));
    check(`no frame on ${host} holds the page`, frames.length === 2 && !frames.join().includes("What is not proved"), frames);
  }
  proxy.stop();
  // The name led to the site when its page came; now it leads to the proxy, and port
  // and origin are the same.
  await page.goto(`http://evil.example:${site.port}/`);
  await site.stop();
  proxy = await startProxy(bin, fake, [], site.port);
  await attempt(page, proxy, "a rebound name", `http://evil.example:${site.port}`, REBOUND);
  const received = await fake.received();
  check("no backend saw a connection", received.length === 0, received);
  await page.close();
  proxy.stop();
}

async function allowed(browser, bin, fake) {
  const site = await startSite();
  const proxy = await startProxy(bin, fake, ["--allow-origin", `http://127.0.0.1:${site.port}`]);
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${site.port}/`);
  const read = await page.evaluate(async ({ url, model }) => {
    const answer = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: "Bearer x" },
      body: JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "a b c d e f" }] }),
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) text += piece.value;
    return { status: answer.status, verdict: answer.headers.get("x-verified-proxy-verdict"), text };
  }, { url: proxy.url, model: HOSTILE });
  check("a page that is allowed reads a stream", read.status === 200 && read.text.endsWith("data: [DONE]\n\n"), read);
  check("and the name of its verdict", /^[0-9a-f]{16}$/.test(read.verdict), read);
  await page.goto(`http://evil.example:${site.port}/`);
  const seen = await page.evaluate(inPage, { attack: "fetch of JSON", proxy: proxy.url, model: HOSTILE });
  check("another one still does not", seen === "TypeError", seen);
  await page.close();
  proxy.stop();
}

/** A window on the proxy's page that notes what should not happen. */
async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const wrong = [];
  context.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) wrong.push(`request to ${request.url()}`);
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) wrong.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`error: ${error}`));
  const answer = await page.goto(`${url}/_proxy/`);
  return { page, wrong, answer, close: () => context.close() };
}

const text = (page, selector) => page.locator(selector).innerText();

async function shows(page, selector, expected) {
  await until(`${selector} shows ${expected}`, async () => expected.test(await text(page, selector)));
  check(`${selector} shows ${expected.source}`, true);
}

async function ownPage(browser, bin, fake, folder) {
  const shoot = async (page, name) => {
    if (folder) await page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true });
  };
  const proxy = await startProxy(bin, fake);
  const window = await open(browser, proxy.url);
  const { page, wrong } = window;
  await shows(page, "#live", /^● Live$/);
  check("nothing asked yet: it says what to do first", await page.isVisible("#first"));
  const curl = await text(page, "#curl");
  check("with this address and a model", curl.includes(`curl ${proxy.url}/v1/`) && curl.includes('"fake/plain"'), curl);
  check("a name that a shell would obey is not in the line", !curl.includes("onerror"), curl);
  check("the policy's digest is shown", /[0-9a-f]{64}/.test(await text(page, "#about")));
  check("a root that is not Intel's is shouted", (await text(page, "#warnings")).startsWith("DANGER"));
  await shoot(page, "empty");

  await page.evaluate(() => { window.same = true; });
  check("a request is answered", (await proxy.chat(HOSTILE)).status === 200);
  await shows(page, "#backend-list", /✓ verified/);
  await shows(page, "#news", /was verified/);
  // The same machine under another name, which says what it serves.
  check("another one is refused", (await proxy.chat("fake/plain")).status === 502);
  await shows(page, "#refusal-list", /rejected_model/);
  await shows(page, "#refusal-list", /What to do: \S/);
  await shows(page, "#backend-list", /✓ verified/);

  const summary = "#backend-list summary";
  await page.evaluate(() => document.activeElement.blur());
  for (let tabs = 0; tabs < 20; tabs += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((of) => document.activeElement.matches(of), summary)) break;
  }
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  check("Tab reaches a report, and it shows", await page.evaluate((of) => document.activeElement.matches(of), summary)
    && outline === "solid", outline);
  await page.keyboard.press("Enter");
  await shows(page, "#backend-list .checks >> nth=0", /✓ proved/);
  const checks = await page.locator("#backend-list .checks li").count();
  const { compared } = await (await fetch(`${proxy.url}/_proxy/about`)).json();
  const known = Object.keys(compared).length;
  check("Enter opens it, with every check", checks === known, `${checks} of ${known}`);
  const report = await text(page, "#backend-list");
  const order = ["Evidence", "Hardware", "Boot chain", "Software", "Identity", "Deployment", "GPUs", "Channel", "Not proved"];
  const places = order.map((title) => report.indexOf(`\n${title}\n`));
  check("its parts go from the hardware to what is not proved", places.every((at, index) => at > (places[index - 1] ?? -1)), places);
  const names = ["os_image_hash", "machine_unmeasured", "tee_tcb_svn"].filter((name) => report.includes(name));
  check("what was seen has words, not names", report.includes("platform family (FMSPC)") && names.length === 0, names);
  const rows = (columns) => page.evaluate((wanted) => [...document.querySelectorAll("#backend-list table")]
    .filter((table) => [...table.querySelectorAll("th")].map((cell) => cell.textContent).join() === wanted)
    .flatMap((table) => [...table.querySelectorAll("tbody tr")].map((row) => row.textContent)), columns);
  const up = await rows("Service,Image,File and tag,Commit,Since");
  check("it lists what is up, by image", up.length === 4 && up.every((row) => row.includes("fake.yaml@") && row.includes("@sha256:")), up);
  const gpus = await rows("GPUs,Driver,VBIOS,Protected PCIe,Devices");
  check("GPUs that are alike share a row", gpus.length === 1 && gpus[0].startsWith("8 × GH100"), gpus);
  check("limits are among what is not proved", (await text(page, "#backend-list .open-list")).includes("the deployment log is written by software"));
  check("findings are there to unfold", await page.locator("#backend-list .findings").count() > 0);
  check("the hostile name is text in the report", (await text(page, "#backend-list")).includes("<img src=x"));
  await page.click("#model-count");
  check("and in the list of models", (await text(page, "#model-list")).includes(HOSTILE));
  check("it did not become an element", await page.locator("main img").count() === 0);
  check("nor ran", await page.title() === "verified-proxy", await page.title());
  await page.click("#refusal-list summary");
  await shows(page, "#refusal-list", /✕ failed/);
  await shoot(page, "light");

  for (const [name, options] of [
    ["dark", { colorScheme: "dark" }],
    ["narrow", { viewport: { width: 360, height: 780 } }],
    ["narrow-dark", { viewport: { width: 360, height: 780 }, colorScheme: "dark" }],
  ]) {
    const other = await open(browser, proxy.url, options);
    await shows(other.page, "#live", /^● Live$/);
    await shows(other.page, "#backend-list", /✓ verified/);
    await shoot(other.page, name);
    const unfold = () => other.page.evaluate(() => {
      for (const details of document.querySelectorAll("main details")) details.open = true;
    });
    await unfold();
    await shows(other.page, "#refusal-list", /✕ failed/);
    await shows(other.page, "#backend-list", /✓ proved/);
    // What was in the reports.
    await unfold();
    const width = await other.page.evaluate(() => document.documentElement.scrollWidth);
    check(`${name}: everything open is ${width} px wide`, width <= (options.viewport?.width ?? 1280));
    await shoot(other.page, `${name}-open`);
    check(`${name}: nothing went wrong`, other.wrong.length === 0, other.wrong);
    await other.close();
  }

  await fake.tamper("debug-td");
  // A key that was refused a moment ago is left alone for a second.
  await until("a tampered machine is refused", async () => (await (await proxy.chat("fake/plain")).text()).includes("rejected_td_debug"));
  await shows(page, "#backend-list", /✕ refused/);
  await shows(page, "#news", /is no longer valid/);
  check("the withdrawn verdict is among the earlier ones", await text(page, "#former-count") === "1");
  check("all of it without a reload", await page.evaluate(() => window.same === true));
  check("nothing went wrong: no error, no request elsewhere", wrong.length === 0, wrong);
  proxy.stop();
  await shows(page, "#live", /^○ Not live/);
  await window.close();
  await fake.tamper("none");
}

async function policy(browser, bin, fake) {
  const site = await startSite();
  const proxy = await startProxy(bin, fake);
  const window = await open(browser, proxy.url);
  const { page } = window;
  await shows(page, "#live", /^● Live$/);
  const tried = await page.evaluate(async (elsewhere) => {
    const failure = async (attempt) => {
      try {
        return await attempt();
      } catch (error) {
        return error.name;
      }
    };
    const outcome = (element) => new Promise((done) => {
      element.onload = () => done("loaded");
      element.onerror = () => done("blocked");
      document.head.append(element);
    });
    return {
      markup: await failure(() => { document.body.innerHTML = "<p>x</p>"; }),
      script: await failure(() => {
        const script = document.createElement("script");
        script.append("window.ran = true");
        document.head.append(script);
        return window.ran ? "ran" : "blocked";
      }),
      // What a backend answers has the proxy's origin too.
      own: await failure(() => outcome(Object.assign(document.createElement("link"), { rel: "stylesheet", href: "/_proxy/live" }))),
      elsewhere: await failure(() => fetch(elsewhere, { mode: "no-cors" })),
      image: await failure(() => outcome(Object.assign(document.createElement("img"), { src: elsewhere }))),
    };
  }, `http://127.0.0.1:${site.port}/`);
  const blocked = { markup: "TypeError", script: "blocked", own: "blocked", elsewhere: "TypeError", image: "blocked" };
  check("the document's policy blocks all but itself", JSON.stringify(tried) === JSON.stringify(blocked), tried);
  const source = await page.evaluate(() => new Promise((done) => {
    const events = new EventSource("/_proxy/events");
    events.addEventListener("verdicts", (event) => { events.close(); done(event.data); });
  }));
  check("EventSource reads the events too", source === "0", source);
  await page.goto(`${proxy.url}/`);
  check("the bare address leads to the page", page.url() === `${proxy.url}/_proxy/`, page.url());
  await window.close();
  proxy.stop();
}

async function token(browser, bin, fake, folder) {
  const file = path.join(fake.folder, "tokens");
  fs.writeFileSync(file, `ann ${TOKEN}\n`, { mode: 0o600 });
  const proxy = await startProxy(bin, fake, ["--client-token-file", file]);
  const window = await open(browser, proxy.url);
  const { page } = window;
  await shows(page, "#live", /Waiting for a token/);
  check("without a token it shows nothing else", !await page.isVisible("#content"));
  if (folder) await page.screenshot({ path: path.join(folder, "token.png") });
  await page.keyboard.type("wrong-token-0123456789");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#token-unknown:not([hidden])");
  await page.keyboard.type(TOKEN);
  await page.keyboard.press("Enter");
  await shows(page, "#live", /^● Live$/);
  check("with it, the page is live", await page.isVisible("#content"));
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  check("the token is kept nowhere", kept === '[{},{},""]' && !(await page.content()).includes(TOKEN), kept);
  await window.close();
  proxy.stop();
}

async function main() {
  const [bin, folder] = process.argv.slice(2);
  if (folder) fs.mkdirSync(folder, { recursive: true });
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "verified-proxy-browser-"));
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: FLAGS });
  try {
    const fake = await startFake(bin, scratch, ["--model", HOSTILE, "--also", `${OTHER}=fake/plain`]);
    fake.folder = scratch;
    fake.connect_to_all = [fake.domain, OTHER].map((domain) => `${domain}:443:${fake.backend}`);
    await attacks(browser, bin, fake);
    await allowed(browser, bin, fake);
    await ownPage(browser, bin, fake, folder);
    await policy(browser, bin, fake);
    await token(browser, bin, fake, folder);
    console.log(`browser: ${passed()} checks passed`);
  } finally {
    await browser.close();
    stopAll();
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

main().catch((error) => {
  console.error(`browser: ${error.stack}`);
  process.exitCode = 1;
});
