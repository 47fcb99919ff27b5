// The way to the server: requests, and a feed that comes back by itself.

const QUIET_MS = 8000; // the server speaks at least every five seconds
const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 4000;
const ANSWER_MS = 6000;
const LEND_MS = 1000;
const BACK_MS = 300;

const memory = new Map();

/** What the browser keeps; where it may keep nothing, as long as this page is open. */
export const kept = {
  get(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return memory.get(name) ?? null;
    }
  },
  set(name, value) {
    memory.set(name, value);
    try {
      localStorage.setItem(name, value);
    } catch { /* forbidden, or full */ }
  },
};

export const me = {
  get name() {
    return kept.get("operator") ?? "";
  },
  set name(value) {
    kept.set("operator", value);
  },
};

const SESSION = "api/v1/session";
let denied = () => {};

/** `told()` when an order was refused because nobody is logged in. */
export function onDenied(told) {
  denied = told;
}

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** JSON of the API. Throws Refused; status 0 where there is no answer. */
export async function ask(method, path, body, { headers = {}, patience = ANSWER_MS } = {}) {
  const all = { Accept: "application/json", ...headers };
  if (me.name) all["X-Operator"] = encodeURIComponent(me.name);
  if (body !== undefined) all["Content-Type"] = "application/json";
  let answer;
  let text;
  const lending = method === "GET" ? 0 : setTimeout(() => feed?.lend(), LEND_MS);
  try {
    answer = await fetch(path, {
      method,
      headers: all,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(patience),
      credentials: "same-origin",
      cache: "no-store",
    });
    text = await answer.text(); // it may be cut off there, too
  } catch {
    throw new Refused(0, "The server did not answer: this is not confirmed");
  } finally {
    clearTimeout(lending);
    if (method !== "GET") feed?.resume();
  }
  let document = null;
  try {
    document = JSON.parse(text);
  } catch { /* another program's error page says nothing to us */ }
  if (answer.status === 401 && path !== SESSION) denied();
  if (!answer.ok) throw new Refused(answer.status, document?.detail ?? `The server answered ${answer.status}`);
  return { status: answer.status, document, etag: answer.headers.get("etag") };
}

let feed = null;

/** Follows the server. `on`: state, patch, lines, points, levels, connected, lost(since ms), denied. */
export class Feed {
  constructor(on) {
    this.on = on;
    this.stream = null;
    this.source = null;
    this.timer = 0;
    this.failures = 0;
    this.lostAt = 0;
    this.heardAt = 0;
    this.up = false;
    this.wanted = false; // not while somebody has to log in first
    this.lent = false;
    feed = this;
    setInterval(() => this.listen(), 1000);
    addEventListener("online", () => this.wanted && this.open());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && !this.up && this.wanted) this.open();
    });
  }

  /** Show `stream` from now on. */
  follow(stream) {
    this.wanted = true;
    this.stream = stream;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.lent = false;
    this.source?.close();
    const query = new URLSearchParams();
    if (this.stream) query.set("stream", this.stream);
    if (me.name) query.set("who", encodeURIComponent(me.name));
    const source = (this.source = new EventSource(`api/v1/console/feed?${query}`));
    this.heardAt = Date.now();
    const take = (name, act) =>
      source.addEventListener(name, (event) => {
        if (source !== this.source) return;
        this.heardAt = Date.now();
        act(JSON.parse(event.data));
      });
    take("state", (document) => {
      this.failures = 0;
      this.up = true;
      this.lostAt = 0;
      this.on.state(document);
      this.on.connected();
    });
    take("patch", (document) => {
      if (!this.on.patch(document)) this.open();
    });
    for (const name of ["lines", "points", "levels"]) take(name, this.on[name]);
    source.addEventListener("error", () => {
      if (source === this.source) this.lose();
    });
  }

  /** Close, say so, and try again: after 0.3 s, then ever more rarely. */
  lose() {
    this.lent = false;
    this.source?.close();
    this.source = null;
    if (!this.lostAt) this.lostAt = this.heardAt || Date.now();
    this.up = false;
    this.on.lost(this.lostAt);
    if (this.timer) return;
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 1.7 ** this.failures) * (0.8 + 0.4 * Math.random());
    this.failures += 1;
    this.timer = setTimeout(() => this.again(), wait);
  }

  async again() {
    this.timer = 0;
    try {
      const { document } = await ask("GET", SESSION);
      if (document.needed && !document.ok) {
        this.on.denied();
        return;
      }
    } catch {
      this.lose();
      return;
    }
    this.open();
  }

  /** Give the connection to an order that waits for one: with HTTP/1.1 a browser has six to a server, for all its tabs. */
  lend() {
    if (!this.source || !this.up) return;
    this.lent = true;
    this.source.close();
    this.source = null;
    setTimeout(() => this.resume(), BACK_MS); // the order has it by now; one that takes long needs no more than that
  }

  resume() {
    if (!this.lent) return;
    const heardAt = this.heardAt;
    this.open();
    this.heardAt = heardAt; // a server that does not answer is none the less lost
  }

  listen() {
    if ((this.source || this.lent) && Date.now() - this.heardAt > QUIET_MS) this.lose();
  }

  /** Until somebody follows again. */
  stop() {
    this.wanted = false;
    this.lent = false;
    clearTimeout(this.timer);
    this.timer = 0;
    this.source?.close();
    this.source = null;
  }
}
