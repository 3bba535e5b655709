// OpenAI's own client for JavaScript against `kiln serve`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { crc32, deflateSync } from "node:zlib";

// The client is installed elsewhere, by run.sh.
const { default: OpenAI, toFile } = createRequire(`${process.env.NODE_CLIENTS}/`)("openai");
const root = path.resolve(import.meta.dirname, "../..");
const token = "0123456789abcdef0123456789abcdef";
const tiny = { size: "64x64", steps: 2, seed: 4 };
const servers = [];

/** Starts a server with the models that the tests in Python have; ended after the last test. */
async function start(...more) {
  const state = mkdtempSync(path.join(tmpdir(), "kiln-"));
  const models = ["tests/bundles/sd_turbo", "tests/bundles/sd", "models/sticker"].flatMap((model) => ["--model", path.join(root, model)]);
  const { KILN_TOKEN, ...environment } = process.env;
  const server = spawn(
    process.env.KILN ?? path.join(root, "target/debug/kiln"),
    ["serve", "--listen", "127.0.0.1:0", "--state", state, ...models, ...more],
    { env: environment, cwd: root, stdio: ["ignore", "pipe", "inherit"] },
  );
  servers.push({ server, state });
  for await (const line of createInterface({ input: server.stdout })) return line.trim().split(" ").at(-1);
  throw new Error("the server ended before it said where it is");
}

function client(url, apiKey = "none") {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: 60_000 });
}

let url;
before(async () => {
  url = await start();
});
after(() => {
  for (const { server, state } of servers) {
    assert.equal(server.exitCode, null, "the server has ended by itself");
    server.kill("SIGKILL");
    rmSync(state, { recursive: true, force: true });
  }
});

/** Width, height, and the text that begins with `parameters`, of a PNG file. */
function opened(file) {
  assert.deepEqual([...file.subarray(0, 8)], [137, 80, 78, 71, 13, 10, 26, 10]);
  let parameters = null;
  for (let at = 8; at < file.length; at += 12 + file.readUInt32BE(at)) {
    const [length, kind] = [file.readUInt32BE(at), file.toString("latin1", at + 4, at + 8)];
    const data = file.toString("latin1", at + 8, at + 8 + length);
    if (/^[it]TXt|tEXt$/.test(kind) && data.startsWith("parameters\0")) parameters = data;
  }
  return { width: file.readUInt32BE(16), height: file.readUInt32BE(20), parameters };
}

const decoded = (text) => Buffer.from(text, "base64");

/** A PNG file of one colour: red, green, blue and, where there is a fourth, opacity. */
function png(colour, side = 64) {
  const chunk = (kind, data) => {
    const body = Buffer.concat([Buffer.from(kind, "latin1"), data]);
    const [head, foot] = [Buffer.alloc(4), Buffer.alloc(4)];
    head.writeUInt32BE(data.length);
    foot.writeUInt32BE(crc32(body));
    return Buffer.concat([head, body, foot]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header.set([8, colour.length === 4 ? 6 : 2], 8);
  const row = Buffer.concat([Buffer.from([0]), Buffer.concat(Array(side).fill(Buffer.from(colour)))]);
  const pixels = deflateSync(Buffer.concat(Array(side).fill(row)));
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", pixels), chunk("IEND", Buffer.alloc(0))]);
}

const file = (colour, name = "a.png") => toFile(png(colour), name, { type: "image/png" });

test("models are listed and found", async () => {
  const names = [];
  for await (const model of client(url).models.list()) names.push(model.id);
  assert.deepEqual(names, ["sd_turbo", "sd", "sticker"]);
  assert.equal((await client(url).models.retrieve("sticker")).owned_by, "kiln");
  await assert.rejects(client(url).models.retrieve("nothing"), (error) =>
    error instanceof OpenAI.NotFoundError && error.code === "model_not_found" && error.param === "model");
});

test("pictures come in the answer or as addresses", async () => {
  const made = await client(url).images.generate({ prompt: "a red apple", n: 2, response_format: "b64_json", ...tiny });
  assert.deepEqual([made.data.length, made.size, made.output_format], [2, "64x64", "png"]);
  assert.ok(Math.abs(made.created - Date.now() / 1000) < 300);
  const first = decoded(made.data[0].b64_json);
  const { width, height, parameters } = opened(first);
  assert.deepEqual([width, height], [64, 64]);
  assert.match(parameters, /a red apple[^]*Seed: 4/);
  const again = await client(url).images.generate({ prompt: "a red apple", response_format: "url", ...tiny });
  assert.equal(again.data[0].b64_json, undefined);
  const fetched = Buffer.from(await (await fetch(again.data[0].url)).arrayBuffer());
  assert.deepEqual(opened(fetched).parameters, parameters);
});

test("a stream has partial pictures and the whole one", async () => {
  const wish = { model: "sd", prompt: "a red apple", size: "64x64", steps: 8, seed: 4 };
  const events = [];
  for await (const event of await client(url).images.generate({ ...wish, stream: true, partial_images: 2 })) events.push(event);
  assert.deepEqual(events.map((event) => event.type), [
    "image_generation.partial_image", "image_generation.partial_image", "image_generation.completed",
  ]);
  assert.deepEqual(events.slice(0, 2).map((event) => event.partial_image_index), [0, 1]);
  assert.equal(events[2].usage.total_tokens, 0);
  for (const event of events) {
    const { width, height } = opened(decoded(event.b64_json));
    assert.equal(event.size, `${width}x${height}`);
  }
  const whole = await client(url).images.generate(wish);
  assert.equal(opened(decoded(events[2].b64_json)).parameters, opened(decoded(whole.data[0].b64_json)).parameters);
});

test("a stream that is left takes its job along", async () => {
  const wish = { model: "sd", prompt: "a red apple", size: "512x512", n: 8, steps: 200 };
  const stream = await client(url).images.generate({ ...wish, stream: true, partial_images: 1 });
  stream.controller.abort();
  const until = Date.now() + 60_000;
  for (;;) {
    const { jobs } = await (await fetch(`${url}/jobs?limit=1`)).json();
    if (jobs[0].state === "cancelled") break;
    assert.ok(Date.now() < until, `the job is ${jobs[0].state}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
});

test("pictures are edited and varied", async () => {
  const speaks = client(url);
  const wish = { prompt: "a green apple", size: "64x64", seed: 4, steps: 4, strength: 0.5 };
  const edit = async (mask) => {
    const made = await speaks.images.edit({ image: await file([200, 30, 30]), ...(mask && { mask: await file(mask, "mask.png") }), ...wish });
    return decoded(made.data[0].b64_json);
  };
  assert.equal(opened(await edit()).width, 64);
  const [changed, kept] = [await edit([0, 0, 0, 0]), await edit([0, 0, 0, 255])];
  assert.notDeepEqual(changed.subarray(-2000), kept.subarray(-2000), "a mask that is clear everywhere and one that is nowhere give the same");
  await assert.rejects(edit([0, 0, 0]), (error) => error instanceof OpenAI.BadRequestError && error.param === "mask");
  const { prompt, ...rest } = wish;
  const varied = await speaks.images.createVariation({ image: await file([200, 30, 30]), ...rest });
  assert.equal(opened(decoded(varied.data[0].b64_json)).height, 64);
});

test("errors are those that the client knows", async () => {
  const cases = [
    { n: 100_000 }, { prompt: "a".repeat(3000) }, { size: "7" }, { quality: "hd" }, { background: "transparent" }, { output_format: "webp" },
    { steps: -1 }, { sampler: "../../etc/passwd" }, { unknown: 1 }, { stream: true, partial_images: 9 }, { stream: true, response_format: "url" },
  ];
  let count = 0;
  for (const wish of cases) {
    await assert.rejects(client(url).images.generate({ prompt: "a", ...wish }), (error) => {
      assert.ok(error instanceof OpenAI.APIError && [400, 413].includes(error.status), JSON.stringify(wish));
      assert.equal(error.type, "invalid_request_error");
      return true;
    });
    count += 1;
  }
  assert.equal(count, 11);
  await assert.rejects(client(url).images.edit({ image: await toFile(Buffer.from("no picture"), "a.png"), prompt: "a" }), OpenAI.APIError);
});

test("a token is asked for", async () => {
  const tokens = path.join(mkdtempSync(path.join(tmpdir(), "kiln-")), "tokens");
  writeFileSync(tokens, `${token}\n`);
  const locked = await start("--token-file", tokens);
  await assert.rejects(client(locked, "wrong").images.generate({ prompt: "a", ...tiny }), (error) =>
    error instanceof OpenAI.AuthenticationError && error.code === "invalid_api_key");
  assert.equal((await client(locked, token).images.generate({ prompt: "a", ...tiny })).data.length, 1);
  rmSync(path.dirname(tokens), { recursive: true });
});
