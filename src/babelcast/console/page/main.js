// Wires the parts; read this first. What is shown comes from the server alone (store.js); what is asked goes by net.js.

import { attr, h, icon, setIcon, show, text } from "./dom.js";
import { clock, duration } from "./format.js";
import { Feed, ask, kept, me, onDenied } from "./net.js";
import { Store } from "./store.js";
import { askName, login, say } from "./dialogs.js";
import { makeAlarms, makeEvents, makeStreams } from "./rail.js";
import { makeFacts, makeHeadline, makePreviews, makeWay, makeWorker } from "./stage.js";
import { makeMeters } from "./meters.js";
import { makeCharts } from "./charts.js";
import { makeTranscript } from "./transcript.js";
import { makeAir, makeMix } from "./desk.js";
import { makeDestinations } from "./destinations.js";
import { makeBridge } from "./bridge.js";
import { NAME, makeStart } from "./start.js";

const VERSION = document.querySelector("meta[name=page]").content;

/** `view` where it can be one. */
const wanted = (view) => (NAME.test(view) || view === "~bridge" ? view : null);

class Page {
  constructor() {
    this.store = new Store();
    this.view = location.hash.slice(1); // a stream's id, ~bridge or ~new
    this.met = wanted(this.view); // the view that was asked for or shown, and whether it is not there now
    this.gone = false;
    this.language = null;
    this.busy = Promise.resolve();
    this.revisions = {}; // of the streams that we have changed: what the feed has not told yet
    this.theme(kept.get("theme") ?? "dark");
    addEventListener("hashchange", () => this.turn(location.hash.slice(1)));
  }

  /** The stream that is shown, or null. */
  get stream() {
    return this.store.state?.streams[this.view] ?? null;
  }

  theme(name) {
    document.documentElement.dataset.theme = name;
    kept.set("theme", name);
  }

  turn(view) {
    if (view === this.view) return;
    this.view = view;
    this.met = wanted(view);
    this.gone = false;
    this.language = null;
    this.feed.follow(this.stream ? view : null);
    render();
    this.store.forget();
    parts.charts.update(true);
  }

  pick(code) {
    this.language = code;
    render();
    parts.charts.update(true);
  }

  /** Do it, with the button marked while it lasts; what is refused is said. */
  async act(button, doing) {
    attr(button, "aria-busy", "true");
    try {
      return await doing();
    } catch (error) {
      say(error.message);
      return null;
    } finally {
      attr(button, "aria-busy", null);
    }
  }

  /** Change a stream's controls, one change after the other. With `match` only on top of what is shown here. */
  change(patch, { match = true, id = this.stream.id } = {}) {
    const doing = async () => {
      const known = Math.max(this.revisions[id] ?? 0, this.store.state.streams[id]?.controls.revision ?? 0);
      const headers = match ? { "If-Match": `"${known}"` } : {};
      try {
        const { document } = await ask("PATCH", `api/v1/streams/${id}/controls`, patch, { headers });
        this.revisions[id] = document.revision;
        return document;
      } catch (error) {
        if (error.status === 412) {
          delete this.revisions[id];
          error.message = "Somebody else has just changed the controls: look again, then repeat it";
        }
        throw error;
      }
    };
    if (!match) return doing(); // what brings the original on air waits for nothing
    return (this.busy = this.busy.catch(() => {}).then(doing));
  }
}

const page = new Page();
const parts = {
  streams: makeStreams(page),
  alarms: makeAlarms(page),
  events: makeEvents(page),
  headline: makeHeadline(page),
  way: makeWay(page),
  previews: makePreviews(page),
  meters: makeMeters(page),
  facts: makeFacts(page),
  charts: makeCharts(page),
  transcript: makeTranscript(page),
  air: makeAir(page),
  mix: makeMix(page),
  destinations: makeDestinations(page),
  worker: makeWorker(page),
  bridge: makeBridge(page),
  start: makeStart(page),
};

const link = h("span", { class: "link-word" });
const linkSign = icon("busy");
const others = h("span", { class: "others" });
const you = h("button", { type: "button", class: "quiet you", onclick: () => askName(page, () => page.feed.open()) }, icon("person"), h("span", {}));
const topClock = h("span", { class: "top-clock" });
const skip = h("a", { class: "skip", href: "#air", onclick: toControls }, "Skip to the controls");
const top = h("header", { class: "top" }, skip, h("span", { class: "brand" }, h("img", { src: `console/${VERSION}/icon.svg`, alt: "", width: 26, height: 26 }), "Babelcast"), h("span", { class: "link", role: "status" }, linkSign, link), others, topClock, you);
const lostSinceWord = h("span", {});
const lostFor = h("span", { "aria-hidden": "true" });
const lost = h("div", { class: "banner lost", role: "alert", hidden: true }, lostSinceWord, lostFor, ". What is shown is old; the broadcast goes on without this page.");
const newer = h("div", { class: "banner newer-page", role: "status", hidden: true }, "There is a newer version of this page. ", h("button", { type: "button", class: "small", onclick: () => location.reload() }, "Reload"));

parts.headline.node.append(parts.way.node);
const rail = h("div", { class: "rail" }, parts.streams.node, parts.alarms.node, parts.charts.node, parts.events.node);
const onAir = h("div", { class: "stage" }, parts.headline.node, parts.start.node, parts.previews.node, parts.meters.node, parts.facts.node, parts.transcript.node, parts.bridge.stage);
const desk = h("div", { class: "desk" }, parts.air.node, parts.mix.node, parts.destinations.node, parts.worker.node, parts.bridge.desk);
const main = h("main", { class: "board" }, rail, onAir, desk);

// a key that is kept down, and the second click of two, which may meet what has just come there, order nothing
main.addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter" && event.target.closest("button")) event.preventDefault();
});
main.addEventListener("click", (event) => {
  if (event.detail > 1 && event.target.closest(".air-other, .switch, .alarm button")) event.stopPropagation();
}, true);

/** Not by the address: what stands after # in it is the stream that is shown. */
function toControls(event) {
  event.preventDefault();
  const controls = page.view === "~bridge" ? parts.bridge.desk : page.stream ? parts.air.node : parts.start.node;
  controls.focus();
}

function choose(state) {
  const known = page.view in state.streams || (page.view === "~bridge" && state.bridge) || page.view === "~new";
  const live = Object.values(state.streams).filter((stream) => stream.source.state !== "off");
  if (page.view === "~new" && choose.waiting) {
    const fresh = live.find((stream) => !choose.waiting.has(stream.id));
    if (fresh) location.replace(`#${fresh.id}`); // the encoder has found the way
  }
  choose.waiting = page.view === "~new" ? (choose.waiting ?? new Set(live.map((stream) => stream.id))) : null;
  if (known) {
    if (page.gone) page.feed.follow(page.stream ? page.view : null); // it is told anew
    page.met = page.view;
    page.gone = false;
    return;
  }
  page.gone = page.met === page.view;
  if (page.gone) return; // nobody is put before another stream because theirs is not there
  const first = live[0] ?? Object.values(state.streams)[0];
  page.view = first ? first.id : "~new";
  history.replaceState(null, "", `#${page.view}`);
  page.feed.follow(first ? first.id : null);
}

function render() {
  const { state } = page.store;
  if (!state) return;
  const { stream } = page;
  if (stream && !stream.languages.targets.includes(page.language)) page.language = stream.languages.targets[0];
  const bridge = page.view === "~bridge" && Boolean(state.bridge);
  const off = !bridge && (!stream || stream.source.state === "off");
  const only = (names, visible) => names.forEach((name) => show(parts[name].node, visible));
  only(["headline"], !bridge && stream !== null);
  only(["start"], off);
  only(["previews", "meters", "facts", "charts"], !bridge && !off);
  only(["transcript"], !bridge && stream !== null);
  only(["air", "mix", "destinations", "worker"], !bridge && stream !== null);
  show(parts.bridge.stage, bridge);
  show(parts.bridge.desk, bridge);
  attr(main, "data-off", off);
  parts.streams.update(state);
  parts.alarms.update(state);
  parts.events.update(state);
  parts.bridge.update(state);
  parts.previews.update(state);
  if (!bridge) {
    parts.start.update();
    for (const name of ["headline", "way", "facts", "air", "mix", "destinations", "worker", "transcript"]) parts[name].update(state);
  }
  const names = Object.entries(state.server.operators ?? {}).flatMap(([name, count]) => Array(count).fill(name));
  text(others, names.length > 1 ? [`${names.length} operators`, [...new Set(names)].filter((name) => name !== "operator").join(", ")].filter(Boolean).join(": ") : "");
  attr(others, "title", others.textContent);
  text(you.lastChild, me.name || "Your name");
  show(newer, state.server.page !== VERSION);
  const alarms = Object.values(state.alarms).filter((alarm) => !alarm.by && alarm.severity === "alarm").length;
  document.title = `${alarms ? `(${alarms}) ` : ""}${stream ? `${stream.id}: ${stream.headline.title}` : "Babelcast"}`;
}

function connected() {
  document.body.classList.remove("stale");
  show(lost, false);
  setIcon(linkSign, "ok");
  attr(link.parentNode, "data-tone", "ok");
  text(link, "Connected");
}

function disconnected(since) {
  document.body.classList.add("stale");
  show(lost, true);
  setIcon(linkSign, "alarm");
  attr(link.parentNode, "data-tone", "alarm");
  text(link, "Disconnected");
  text(lostSinceWord, `Console disconnected since ${clock(since / 1000 + page.store.ahead)}`); // as all other times here
  text(lostFor, ` (${duration((Date.now() - since) / 1000)})`);
}

let pending = false;
function soon() {
  if (pending) return;
  pending = true;
  const once = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    pending = false;
    choose(page.store.state);
    render();
  };
  const frame = requestAnimationFrame(once);
  const timer = setTimeout(once, 1000); // behind other tabs nothing is drawn, but its title is seen
}

page.store.on("state", soon);
page.store.on("state", () => {
  for (const [id, revision] of Object.entries(page.revisions)) {
    const stream = page.store.state.streams[id];
    if (!stream || stream.source.state === "off" || stream.controls.revision >= revision) delete page.revisions[id]; // off air they begin anew
  }
});
page.store.on("lines", () => parts.transcript.update());
page.store.on("points", () => parts.charts.update());
page.store.on("levels", () => parts.meters.update(page.store.levels));

let lostSince = 0;
page.feed = new Feed({
  state: (document) => page.store.whole(document),
  patch: (document) => page.store.patch(document),
  lines: (document) => document.stream === page.view && page.store.takeLines(document),
  points: (document) => document.stream === page.view && page.store.takePoints(document),
  levels: (document) => document.stream === page.view && page.store.takeLevels(document),
  connected() {
    lostSince = 0;
    connected();
  },
  lost(since) {
    lostSince = since;
    disconnected(since);
  },
  denied: begin,
});

setInterval(() => {
  text(topClock, clock(page.store.now()));
  if (lostSince) disconnected(lostSince);
}, 1000);

async function begin() {
  page.feed.stop();
  try {
    const { document: session } = await ask("GET", "api/v1/session");
    if (session.needed && !session.ok) return login(() => page.feed.follow(known()));
  } catch {
    // the feed says so, and tries again
  }
  page.feed.follow(known());
}

const known = () => (NAME.test(page.view) ? page.view : null);

onDenied(begin);
document.getElementById("app").replaceChildren(top, lost, newer, main);
begin();
