// OpenAI's SDK for Node. Prints one JSON line a case: its title, and what speaks against it.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';

const world = JSON.parse(process.argv[2]);
const { default: OpenAI, toFile } = createRequire(`${world.modules}/`)('openai');
const SOON = world.soon * 1000;
const MESSAGES = [{ role: 'user', content: world.prompt }];
const TOOLS = world.tools;
// Half an hour of it.
const ENDLESS = { 'x-fake-chunks': '36000', 'x-fake-delay-ms': '50' };
const SOUND = Buffer.concat(
  Array.from({ length: 9000 }, (_, n) => createHash('sha256').update(`piece ${n}`).digest()),
);
const cases = [];
const add = (title, run) => cases.push([`OpenAI Node: ${title}`, run]);

const sdk = (more = {}, url = world.url) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: world.api_key, maxRetries: 0, timeout: 60_000, ...more });
const chat = (client, more = {}, options = {}) =>
  client.chat.completions.create({ model: world.model, messages: MESSAGES, ...more }, options);

async function control(name, body) {
  const answer = await fetch(`${world.http_url}/_fake/${name}`, body && {
    method: 'POST',
    body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200);
  return answer.json();
}

/** The one connection on which the backend saw this request line. */
async function seen(line) {
  const all = await control('received');
  const found = all.filter((one) => one.request_lines.some((each) => each.startsWith(line)));
  assert.equal(found.length, 1, `${found.length} connections with ${line}`);
  return found[0];
}

async function closes(line) {
  for (const end = Date.now() + SOON; !(await seen(line)).closed_ms; await sleep(20)) {
    assert(Date.now() < end, `the backend sees no end in ${SOON} ms`);
  }
}

/** The error, which has to be of exactly this class. */
async function raises(kind, call) {
  const error = await call().then((answer) => assert.fail(JSON.stringify(answer)), (why) => why);
  assert.equal(error.constructor, kind, `${error.constructor.name}: ${error.message}`);
  return error;
}

/** A fetch that notes each answer's status. */
const noting = (statuses) => async (...asked) => {
  const answer = await fetch(...asked);
  statuses.push(answer.status);
  return answer;
};

add('chat, with verdict and model in the head', async () => {
  const { data, response } = await chat(sdk()).withResponse();
  assert.match(response.headers.get('x-verified-proxy-verdict'), /^[0-9a-f]{16}$/);
  assert.equal(response.headers.get('x-verified-proxy-model'), world.model);
  assert.equal(data.choices[0].message.content, world.answer);
  assert.deepEqual([data.usage.prompt_tokens, data.usage.completion_tokens], world.usage);
});

add('streamed chat with usage', async () => {
  const pieces = [];
  const usage = [];
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await chat(sdk(), options)) {
    for (const choice of chunk.choices) if (choice.delta.content) pieces.push(choice.delta.content);
    if (chunk.usage) usage.push([chunk.usage.prompt_tokens, chunk.usage.completion_tokens]);
  }
  assert.equal(pieces.join(''), world.answer);
  assert.equal(pieces.length, 4);
  assert.deepEqual(usage, [world.usage]);
});

add('a tool call, and its result', async () => {
  const { choices: [choice] } = await chat(sdk(), { tools: TOOLS });
  assert.equal(choice.finish_reason, 'tool_calls');
  const [call] = choice.message.tool_calls;
  assert.equal(call.function.name, 'look_up');
  assert.deepEqual(JSON.parse(call.function.arguments), { text: world.prompt });
  const result = { role: 'tool', tool_call_id: call.id, content: 'found it' };
  const messages = [...MESSAGES, choice.message, result];
  const answer = await chat(sdk(), { tools: TOOLS, messages });
  assert.equal(answer.choices[0].message.content, 'You said: found it');
});

add('a tool call in a stream', async () => {
  // The SDK's own putting together.
  const stream = sdk().chat.completions.stream({ model: world.model, messages: MESSAGES, tools: TOOLS });
  const { choices: [choice] } = await stream.finalChatCompletion();
  assert.equal(choice.finish_reason, 'tool_calls');
  const { name, arguments: text } = choice.message.tool_calls[0].function;
  assert.deepEqual([name, JSON.parse(text)], ['look_up', { text: world.prompt }]);
});

add('embeddings, as base64 and as numbers', async () => {
  const digest = createHash('sha256').update('a b').digest();
  const wanted = [...digest.subarray(0, 8)].map((byte) => byte / 256);
  for (const more of [{}, { encoding_format: 'float' }]) {
    const answer = await sdk().embeddings.create({ model: world.model, input: ['a b'], ...more });
    assert.deepEqual([...answer.data[0].embedding], wanted);
  }
});

add('models.list and models.retrieve', async () => {
  const names = [];
  for await (const model of sdk().models.list()) names.push(model.id);
  assert.deepEqual(names, [world.model]);
  assert.equal((await sdk().models.retrieve(world.model)).id, world.model);
  const error = await raises(OpenAI.NotFoundError, () => sdk().models.retrieve('no/such'));
  assert.equal(error.code, 'model_not_found');
});

for (const order of ['file, model', 'model, file']) {
  add(`audio, in the order ${order}`, async () => {
    await control('clear', {});
    const file = await toFile(SOUND, 'speech.wav', { type: 'audio/wav' });
    const form = order.startsWith('file') ? { file, model: world.model } : { model: world.model, file };
    const { text } = await sdk().audio.transcriptions.create(form);
    const digest = createHash('sha256').update(SOUND).digest('hex');
    assert.equal(text, `${SOUND.length} bytes, SHA-256 ${digest}`);
    const { bytes } = await seen('POST /v1/audio/transcriptions');
    const fileIsFirst = bytes.indexOf('name="file"') < bytes.indexOf('name="model"');
    assert.equal(fileIsFirst, order.startsWith('file'));
  });
}

add('images, generated and edited', async () => {
  const answer = await sdk().images.generate({ model: world.model, prompt: world.prompt, n: 2 });
  assert.equal(answer.data.length, 2);
  const png = Buffer.from(answer.data[0].b64_json, 'base64');
  assert.equal(png.subarray(1, 4).toString(), 'PNG');
  const whole = Buffer.concat([png, SOUND]);
  const image = await toFile(whole, 'picture.png', { type: 'image/png' });
  const edited = await sdk().images.edit({ model: world.model, image, prompt: world.prompt });
  assert(Buffer.from(edited.data[0].b64_json, 'base64').equals(whole), 'another image came back');
});

add('responses, plain and streamed', async () => {
  const answer = await sdk().responses.create({ model: world.model, input: world.prompt });
  assert.deepEqual([answer.status, answer.output_text], ['completed', world.answer]);
  const events = [];
  const asked = { model: world.model, input: world.prompt, stream: true };
  for await (const event of await sdk().responses.create(asked)) events.push(event);
  const deltas = events.filter((event) => event.type === 'response.output_text.delta');
  assert.equal(deltas.map((event) => event.delta).join(''), world.answer);
  assert.equal(events.at(-1).type, 'response.completed');
});

add('a backend\'s errors are the SDK\'s classes', async () => {
  const classes = [
    [400, OpenAI.BadRequestError], [401, OpenAI.AuthenticationError],
    [403, OpenAI.PermissionDeniedError], [404, OpenAI.NotFoundError], [413, OpenAI.APIError],
    [429, OpenAI.RateLimitError], [500, OpenAI.InternalServerError], [503, OpenAI.InternalServerError],
  ];
  for (const [status, kind] of classes) {
    const headers = { 'x-fake': `status=${status}` };
    const error = await raises(kind, () => chat(sdk(), {}, { headers }));
    assert.equal(error.status, status);
    assert.match(error.message, /on order/);
  }
});

/** The error, the statuses that the SDK saw, and the backend's count of probes. */
async function refused(url, maxRetries) {
  const statuses = [];
  await control('tamper', { name: 'tcb-out-of-date' });
  await control('clear', {});
  try {
    const client = sdk({ maxRetries, fetch: noting(statuses) }, url);
    const error = await raises(OpenAI.InternalServerError, () => chat(client));
    const lines = (await control('received')).flatMap((one) => one.request_lines);
    assert(lines.every((line) => line.startsWith('GET /v1/attestation/report?')), lines.join());
    return { error, statuses, probes: lines.length };
  } finally {
    await control('tamper', { name: 'none' });
  }
}

add('a refused backend is a 502 with code and hint, and is not asked again', async () => {
  const { error, statuses, probes } = await refused(world.fresh_urls[0], 3);
  assert.deepEqual([error.status, error.code], [502, 'rejected_tcb_platform']);
  assert.match(error.message, /hint: /);
  assert.deepEqual(statuses, [502]);
  // The proxy itself tries three connections.
  assert.deepEqual([probes, (await refused(world.fresh_urls[1], 0)).probes], [3, 3]);
});

add('a timeout, and the backend sees the connection close', async () => {
  await control('clear', {});
  const began = Date.now();
  const options = { headers: { 'x-fake': 'hang' }, timeout: 1000 };
  await raises(OpenAI.APIConnectionTimeoutError, () => chat(sdk(), {}, options));
  assert(Date.now() - began < SOON);
  await closes('POST /v1/chat/completions');
});

add('abort in mid-stream, and the backend sees the connection close', async () => {
  await control('clear', {});
  const stream = await chat(sdk(), { stream: true }, { headers: ENDLESS });
  let count = 0;
  for await (const _ of stream) {
    if (++count < 3) continue;
    assert.equal((await seen('POST /v1/chat/completions')).closed_ms, null);
    stream.controller.abort();
    break;
  }
  await closes('POST /v1/chat/completions');
});

add('busy, with Retry-After, is asked again, and answered then', async () => {
  // A slow machine may not attest in the short time that this proxy has.
  const holder = await chat(sdk({ maxRetries: 5 }, world.narrow_url), { stream: true }, { headers: ENDLESS });
  const statuses = [];
  let refused;
  const patient = async (...asked) => {
    const answer = await noting(statuses)(...asked);
    if (answer.status === 503) {
      assert.equal(answer.headers.get('retry-after'), '2');
      refused = Date.now();
      holder.controller.abort();
    }
    return answer;
  };
  const answer = await chat(sdk({ maxRetries: 2, fetch: patient }, world.narrow_url));
  assert.equal(answer.choices[0].message.content, world.answer);
  assert.deepEqual(statuses, [503, 200]);
  assert(Date.now() - refused >= 1990, `it was asked again after ${Date.now() - refused} ms`);
});

add('a placeholder is replaced by the proxy\'s key', async () => {
  await control('clear', {});
  const answer = await chat(sdk({ apiKey: 'not-needed' }, world.keyed_url));
  assert.equal(answer.choices[0].message.content, world.answer);
  const { bytes } = await seen('POST /v1/chat/completions');
  assert.match(bytes, new RegExp(`\r\nauthorization: Bearer ${world.injected}\r\n`, 'i'));
  assert(!bytes.includes('not-needed'));
});

for (const [title, run] of cases) {
  let error = null;
  try {
    await run();
  } catch (why) {
    error = `${why.name}: ${why.message}`.slice(0, 2000);
  }
  console.log(JSON.stringify([title, error]));
}
console.log(JSON.stringify('done'));
process.exit(0);
