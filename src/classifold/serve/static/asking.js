// Asks the server: a few requests at a time, again where it is busy, with the API key of this tab.
import { GONE, UNREACHABLE, refusal } from "./words.js";

const KEY = "classifold-api-key";
const MOST_TRIES = 6;
const MOST_WAIT = 30; // seconds

/** A request that has no answer: `message` says why in words, `status` is 0 without any answer. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// A browser may forbid storage; then the key lasts until the page is left.
let kept = "";
export function readKey() {
  try {
    return sessionStorage.getItem(KEY) ?? kept;
  } catch {
    return kept;
  }
}

export function keepKey(key) {
  kept = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // It is kept above.
  }
}

export function kindOf(file) {
  return file.type.startsWith("image/") ? file.type : "application/octet-stream";
}

/** Send one request; `onWait(seconds)` is called before it is sent again because the server is busy. */
export async function ask(path, { file = null, signal, onWait = () => {} } = {}) {
  for (let tries = 1; ; tries += 1) {
    const response = await send(path, file, signal);
    const body = await read(response);
    if (response.ok) {
      if (body === null) throw new Refused("What answered is not this server: a proxy may stand before it.", 502);
      return body;
    }
    const isBusy = response.status === 429 || response.status === 503;
    if (!isBusy || tries === MOST_TRIES) throw new Refused(refusal(response.status, body), response.status);
    const asked = Number(response.headers.get("Retry-After"));
    const seconds = Math.min(MOST_WAIT, Math.max(asked > 0 ? asked : 1, 0.5 * 2 ** (tries - 1)));
    onWait(seconds);
    await wait(seconds, signal);
  }
}

async function send(path, file, signal) {
  const headers = {};
  const key = readKey();
  if (key) headers.Authorization = `Bearer ${key}`;
  if (file) headers["Content-Type"] = kindOf(file);
  try {
    return await fetch(path, { method: file ? "POST" : "GET", body: file, headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused((await isReadable(file)) ? UNREACHABLE : GONE, 0);
  }
}

async function isReadable(file) {
  if (!file) return true;
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

async function read(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

function wait(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("removed", "AbortError"));
    });
  });
}

/** Runs at most `most` jobs at a time, in the order in which they came. */
export class Line {
  #most;
  #running = 0;
  #waiting = [];

  constructor(most) {
    this.#most = most;
  }

  add(job) {
    this.#waiting.push(job);
    this.#next();
  }

  async #next() {
    if (this.#running >= this.#most || this.#waiting.length === 0) return;
    this.#running += 1;
    try {
      await this.#waiting.shift()();
    } finally {
      this.#running -= 1;
      this.#next();
    }
  }
}
