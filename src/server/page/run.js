// One job from being sent to its pictures; a full queue is asked again, and a job outlives a reload of the page.

import * as api from "./api.js";

export const ENDED = ["finished", "cancelled", "failed", "interrupted"];

/** A job as the page speaks of it. */
export function read(job) {
  const wish = job.wish ?? job;
  const tookS = job.ended_ms && job.started_ms ? (job.ended_ms - job.started_ms) / 1000 : null;
  const pictures = job.pictures ?? [];
  const seed = wish.seed ?? pictures[0]?.seed ?? null;
  return {
    id: job.id, number: job.number ?? null, state: job.state, place: job.place ?? null, waitS: job.wait_s ?? null,
    prompt: wish.prompt ?? "", model: job.model ?? wish.model ?? "", steps: job.steps ?? wish.steps ?? null, sampler: wish.sampler ?? null,
    seed, tookS, madeMs: job.created_ms ?? null,
    error: job.error ?? null, wish,
    pictures: pictures.map((picture, index) => ({ index: picture.n ?? index, seed: picture.seed ?? (seed === null ? null : seed + index) })),
  };
}

/** Sends `wish`; while the queue is full it waits as long as the server says, or until `signal` is aborted: then it is null. */
export async function send(wish, waiting, signal) {
  for (;;) {
    try {
      return read(await api.submit(wish));
    } catch (error) {
      if (error.status !== 429) throw error;
      if (signal.aborted) return null;
      const wait = Math.min(60, Math.max(1, error.retryAfterS ?? 2));
      waiting(wait);
      await pause(1000 * wait, signal);
      if (signal.aborted) return null;
    }
  }
}

/** Waits so long, or until `signal` is aborted. */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}

/**
 * Follows the job to its end. `seen` has `queued(place, waitS)`, `step(step, steps, leftS)`, `preview(blob, share)`;
 * the job as it ended is what it resolves to.
 */
export async function watch(id, seen, signal) {
  let share = 0;
  let steps = null;
  let end = {};
  await api.follow(id, (event, data) => {
    if (event === "state") {
      const job = read(data);
      // The server counts those before it.
      if (job.state === "queued" && job.place !== null) seen.queued(job.place + 1, job.waitS);
    } else if (event === "step") {
      share = data.steps ? data.step / data.steps : 0;
      ({ steps } = data);
      seen.step(data.step, data.steps, data.left_s ?? null);
    } else if (event === "end") {
      end = data;
    } else if (event === "preview") {
      seen.preview(blob(data.png), share);
    }
  }, signal);
  if (signal?.aborted) return null;
  const job = read({ ...await api.job(id), ...end });
  // The plan decided them where the wish did not.
  return { ...job, steps: job.steps ?? steps };
}

/** The command that makes the same picture with the same model elsewhere. */
export function command(job, index = 0) {
  const quoted = `'${job.prompt.replaceAll("'", "'\\''")}'`;
  const picture = job.pictures[index];
  return ["kiln generate", job.prompt ? quoted : null, job.model ? `--model ${job.model}` : null, picture?.seed === null ? null : `--seed ${picture?.seed}`,
    job.steps ? `--steps ${job.steps}` : job.wish.within_s ? `--within ${job.wish.within_s}s` : null, job.sampler ? `--sampler ${job.sampler}` : null].filter(Boolean).join(" ");
}

/** Whether another device can open the addresses of this page: not where they name this device alone, or need the token. */
export function reachable() {
  const name = location.hostname;
  return !api.hasToken() && !/^(localhost|127\.|\[?::1)/.test(name) && !name.endsWith(".localhost");
}

function blob(base64) {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}
