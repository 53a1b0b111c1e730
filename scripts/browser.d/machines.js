// The programs under test, and what they are asked.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");

let passed = 0;

/** Stops at the first check that fails. */
function check(what, holds, detail = "") {
  if (!holds) throw new Error(`FAILED: ${what}: ${typeof detail === "string" ? detail : JSON.stringify(detail)}`);
  passed += 1;
  console.log(`   ok  ${what}`);
}

/** Asks until the answer is one; a loaded machine is slow. */
async function until(what, look) {
  const end = Date.now() + 30_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`FAILED: ${what}: not within 30 s`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

const children = [];

function run(program, args) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "ignore"] });
  children.push(child);
  return child;
}

function stopAll() {
  for (const child of children) child.kill();
}

async function startFake(bin, folder, args) {
  run(path.join(bin, "fake-tee"), ["--dir", folder, ...args]).stdout.resume();
  const file = path.join(folder, "env.json");
  const env = await until("fake-tee starts", () => {
    try {
      return JSON.parse(fs.readFileSync(file, "utf8"));
    } catch {
      return null;
    }
  });
  const tell = async (control, order) => {
    const answer = await fetch(`${env.http_url}/_fake/${control}`, { method: "POST", body: JSON.stringify(order) });
    if (!answer.ok) throw new Error(`fake-tee: ${control}: ${await answer.text()}`);
  };
  return {
    ...env,
    tamper: (name) => tell("tamper", { name }),
    clear: () => tell("clear", {}),
    received: async () => (await fetch(`${env.http_url}/_fake/received`)).json(),
  };
}

/** A proxy in front of `fake`. */
async function startProxy(bin, fake, args = [], wantedPort = 0) {
  const child = run(path.join(bin, "verified-proxy"), [
    "serve", "--port", String(wantedPort), "--endpoints-url", fake.endpoints_url, "--pccs-url", fake.pccs_url,
    "--compose-files-url", fake.compose_files_url,
    "--compose-tags-url", fake.compose_tags_url,
    "--extra-ca", fake.extra_ca, ...fake.connect_to_all.flatMap((to) => ["--connect-to", to]),
    "--danger-tdx-root", fake.danger_tdx_root, "--danger-gpu-root", fake.danger_gpu_root, "--policy", fake.policy, "--state-dir", "none", ...args,
  ]);
  let said = "";
  child.stdout.on("data", (data) => { said += data; });
  const [, port] = await until("verified-proxy starts", () => /http:\/\/[^\s:]+:(\d+)/.exec(said));
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    stop: () => child.kill(),
    chat: (model) => fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model, messages: [{ role: "user", content: "hello" }] }),
    }),
    /** Requests that the guard refused so far. */
    refusals: async () => {
      const text = await (await fetch(`${url}/_proxy/metrics`)).text();
      const counts = text.matchAll(/refusals_total\{code="(?:host|origin)_not_allowed"\} (\d+)/g);
      return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
    },
  };
}

/** A site with one empty page, on loopback. */
async function startSite() {
  const server = http.createServer((request, response) => {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><title>a page</title>");
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  server.unref();
  const stop = () => new Promise((done) => {
    server.close(done);
    server.closeAllConnections();
  });
  return { port: server.address().port, stop };
}

module.exports = { check, until, startFake, startProxy, startSite, stopAll, passed: () => passed };
