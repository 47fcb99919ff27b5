// What the server says, as it was said last; and who is told when it changes.

export class Store {
  constructor() {
    this.state = null;
    this.revision = 0;
    this.levels = {};
    this.lines = [];
    this.points = [];
    this.ahead = 0; // by how much the server's clock is ahead of ours, in seconds
    this.listeners = { state: new Set(), levels: new Set(), lines: new Set(), points: new Set() };
  }

  on(kind, listener) {
    this.listeners[kind].add(listener);
  }

  tell(kind) {
    for (const listener of this.listeners[kind]) listener();
  }

  /** Seconds since 1970 by the server's clock. */
  now() {
    return Date.now() / 1000 + this.ahead;
  }

  whole(document) {
    this.state = document.state;
    this.revision = document.revision;
    this.synced();
    this.forget();
  }

  /** What is of one stream alone: another one is shown, or it is told again from the beginning. */
  forget() {
    this.lines = [];
    this.points = [];
    this.levels = {};
    this.tell("lines");
    this.tell("points");
    this.tell("levels");
  }

  /** False where it does not fit: the whole must be asked for again. */
  patch(document) {
    if (document.from !== this.revision) return false;
    this.state = merged(this.state, document.patch);
    this.revision = document.revision;
    this.synced();
    return true;
  }

  synced() {
    this.ahead = this.state.now - Date.now() / 1000;
    this.tell("state");
  }

  takeLines(document) {
    this.lines = [...this.lines, ...document.lines].slice(-200);
    this.tell("lines");
  }

  takePoints(document) {
    this.points = [...this.points, ...document.points].slice(-600);
    this.tell("points");
  }

  takeLevels(document) {
    this.levels = document.levels;
    this.tell("levels");
  }
}

/** JSON merge patch (RFC 7386). */
export function merged(before, patch) {
  const after = { ...before };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete after[key];
    else if (typeof value === "object" && !Array.isArray(value)) after[key] = merged(isObject(after[key]) ? after[key] : {}, value);
    else after[key] = value;
  }
  return after;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
