// Speaks to the server that this page came from: requests, errors, the stream of a job's events.

const TOKEN = "kiln.token";

/** What the server, or the way to it, refused; `code` is the server's word or `offline`. */
export class ApiError extends Error {
  constructor(code, message, status = 0, retryAfterS = null) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** Takes `#token=…` out of the address, so that it is in no history, screenshot or bookmark. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("token")) return;
  sessionStorage.setItem(TOKEN, given.get("token"));
  given.delete("token");
  const rest = given.toString().replace(/=$/, "");
  history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
}

export function rememberToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;

async function request(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, signal, cache: "no-store", credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("offline", String(error.message || error));
  }
  if (response.ok) return response;
  let problem = {};
  try {
    problem = (await response.json()).error ?? {};
  } catch {
    // A body that is no JSON says nothing that the status does not.
  }
  const wait = Number.parseFloat(response.headers.get("Retry-After"));
  throw new ApiError(
    problem.code || `status_${response.status}`, problem.message || response.statusText || String(response.status),
    response.status, Number.isFinite(wait) ? wait : null,
  );
}

async function json(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}

const at = (id) => `/jobs/${encodeURIComponent(id)}`;

export const bundles = async () => list(await json("/bundles"), "bundles");
export const lineage = () => json("/lineage");
export const status = () => json("/status");
export const plan = (wish, signal) => json("/plan", { method: "POST", body: wish, signal });
export const submit = (wish) => json("/jobs", { method: "POST", body: wish });
export const job = (id) => json(at(id));
export const cancel = (id) => json(`${at(id)}/cancel`, { method: "POST" });
export const remove = (id) => request(at(id), { method: "DELETE" });

export async function jobs(limit, before) {
  const query = new URLSearchParams({ limit });
  if (before) query.set("before", before);
  return list(await json(`/jobs?${query}`), "jobs");
}

export const pictureAddress = (id, index) => `${at(id)}/pictures/${index}`;

/** A picture's file; a token cannot travel with an `img`, so it is fetched. */
export async function picture(id, index) {
  return (await request(pictureAddress(id, index))).blob();
}

function list(answer, key) {
  return Array.isArray(answer) ? answer : answer?.[key] ?? [];
}

/**
 * Follows a job: calls `on(event, data)` for each event until `end`, or until `signal` is aborted.
 * A stream that breaks is opened again; the server begins each with the job's present state.
 */
export async function follow(id, on, signal) {
  for (let broken = 0; ;) {
    try {
      const response = await request(`${at(id)}/events`, { signal });
      for await (const { event, data } of events(response.body)) {
        broken = 0;
        on(event, data);
        if (event === "end") return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
      if (broken >= 5) throw error;
    }
    if (signal?.aborted) return;
    broken += 1;
    await new Promise((resolve) => setTimeout(resolve, Math.min(4000, 250 * 2 ** broken)));
    if (broken > 6) throw new ApiError("offline", "");
  }
}

/** Server-sent events out of a stream of bytes. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text = (text + value).replaceAll("\r\n", "\n");
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const block = parse(text.slice(0, end));
        text = text.slice(end + 2);
        if (block) yield block;
      }
    }
  } finally {
    // A browser has six connections to a server; one that nobody reads to its end would keep one of them.
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}
