// The right column: what is on air, and the mix. Everything shown is what the server says; a wish is shown as a wish.

import { attr, h, icon, setIcon, text } from "./dom.js";
import { say } from "./dialogs.js";
import { FADER_OFF, MODES, changeInWords, clock, dbToGain, gainToDb, seconds } from "./format.js";

const OTHERS = ["ducked", "background", "silence"];
const CALM_MS = 250;

export function makeAir(page) {
  const sign = icon("speaker");
  const title = h("span", { class: "air-title" });
  const hint = h("span", { class: "air-hint" });
  const original = h("button", { type: "button", class: "air-original", "aria-pressed": "false", onclick: () => force("original") }, sign, h("span", { class: "air-words" }, title, hint));
  const backLabel = h("span", {}, "Back to dub");
  const back = h("button", { type: "button", class: "air-back", onclick: () => force("none") }, icon("back"), backLabel);
  const others = OTHERS.map((mode) => {
    const button = h("button", { type: "button", class: "air-other", "aria-pressed": "false", onclick: () => force(button.getAttribute("aria-pressed") === "true" ? "none" : mode) }, MODES[mode]);
    return { mode, button };
  });
  const word = h("p", { class: "air-word", role: "status", "aria-live": "polite" });
  const main = h("div", { class: "air-main" }, original, back);
  const node = h("section", { class: "card air-card", id: "air", tabindex: "-1", "aria-label": "On air" }, h("h2", {}, "On air now"), main, word, h("div", { class: "air-others", role: "group", "aria-label": "Other safe modes" }, others.map((each) => each.button)));

  let wish = null;
  let failed = null; // what was not confirmed, until the server has told of another change there
  const given = new Map(); // of each stream the orders on their way: how many, the last, the highest revision so far
  const force = async (mode, id = page.stream.id) => {
    const before = page.store.state.streams[id]?.controls.revision ?? 0;
    const asked = { mode, stream: id, revision: Infinity };
    const orders = given.get(id) ?? { open: 0, last: null, top: 0 };
    given.set(id, orders);
    orders.open += 1;
    orders.last = asked;
    if (page.stream?.id === id) {
      wish = asked;
      failed = null;
    }
    update();
    try {
      asked.revision = (await page.change({ force: mode }, { match: false, id })).revision;
      orders.top = Math.max(orders.top, asked.revision);
    } catch (error) {
      if (wish === asked) {
        wish = null;
        const now = page.stream.controls; // the feed may have told of it, though no answer came
        const done = now.revision > before && (now.force ?? "none") === mode;
        failed = done ? null : { stream: id, revision: now.revision, why: error.message };
      } else say(`${id}: ${error.message}`); // something else has been ordered, or another stream is shown
    }
    orders.open -= 1;
    if (orders.open === 0) {
      given.delete(id);
      // none waits for another, so an earlier one can have come after the last, which is what is wanted
      if (orders.last.revision < orders.top) return force(orders.last.mode, id);
    }
    update();
  };

  const update = () => {
    const stream = page.stream;
    const live = stream !== null && stream.source.state !== "off";
    if (wish && (wish.stream !== stream?.id || !live || stream.controls.revision >= wish.revision)) wish = null;
    const wrong = failed?.stream === stream?.id && stream?.controls.revision === failed?.revision ? failed : null;
    const forced = stream?.controls.force ?? null;
    const wanted = wish ? (wish.mode === "none" ? null : wish.mode) : forced;
    const on = forced === "original";
    attr(original, "aria-pressed", String(on));
    const heard = on && (!late(stream) || Object.values(stream.targets).some((target) => target.cause === "operator" && target.fallback === "original"));
    attr(original, "data-wish", (wish?.mode === "original" && !on) || (on && !heard));
    text(title, !on ? "Original audio now" : heard ? "Original is on air" : "Original is wanted");
    const whose = stream && Object.keys(page.store.state.streams).length > 1 ? `${stream.id}: ` : ""; // on a phone it stands alone
    const still = on ? (stream.forced ? `${stream.forced.by}, ${clock(stream.forced.at_s)}` : "chosen by an operator") : "one tap, heard at once";
    text(hint, wish?.mode === "original" ? "requested …" : wrong ? "Not confirmed" : whose + still);
    setIcon(sign, on ? "hand" : "speaker");
    attr(back, "data-wish", wish?.mode === "none" && forced !== null);
    text(backLabel, wish?.mode === "none" && forced !== null ? "Requested …" : "Back to dub");
    original.disabled = !live;
    back.disabled = !live || wanted === null;
    for (const { mode, button } of others) {
      attr(button, "aria-pressed", String(forced === mode));
      attr(button, "data-wish", wish?.mode === mode && forced !== mode);
      button.disabled = !live;
    }
    const fallback = live && stream.targets[page.language]?.fallback;
    attr(word, "data-tone", wrong ? "alarm" : wish || (live && stream.in_force === undefined) ? "busy" : forced || fallback ? "notice" : "ok");
    text(word, sentence(stream, live, forced, wrong));
  };
  /** What there is to say while the worker is not known to have what is set. */
  const late = (stream) => ((stream.in_force ?? 0) < stream.controls.revision ? " · the worker has not got it yet" : "");
  const sentence = (stream, live, forced, wrong) => {
    if (wrong) return `Not confirmed: ${wrong.why}`;
    if (!live) return "Off air";
    if (wish) return "Requested; waiting for the server";
    if (!forced && stream.in_force === undefined) return stream.headline.title; // no worker that would say what is on air
    const fallen = stream.targets[page.language];
    if (!forced && fallen?.fallback) return `Fallback on air: ${MODES[fallen.fallback].toLowerCase()}${late(stream)}`;
    const by = forced && stream.forced ? ` · ${stream.forced.by}, ${clock(stream.forced.at_s)}` : "";
    return `Confirmed: ${forced ? MODES[forced].toLowerCase() : "the dub"}${by}${late(stream)}`;
  };
  return { node, update };
}

/** `commit(at, id)` changes the stream that was before the operator when it was moved. */
function makeFader(page, label, low, high, step, shown, commit) {
  const value = h("output", { class: "fader-value" });
  const input = h("input", { type: "range", min: low, max: high, step, "aria-label": label });
  const node = h("label", { class: "fader" }, h("span", { class: "fader-name" }, label), input, value);
  let held = null; // the stream that it was moved for: what the server says of that one waits
  let last = low;
  const timers = new Map(); // of each stream what is not sent, or not answered yet
  const paint = (at = Number(input.value)) => {
    text(value, shown(at));
    attr(input, "aria-valuetext", shown(at));
    input.style.setProperty("--at", `${((at - low) / (high - low)) * 100}%`);
  };
  const letGo = (id) => {
    if (held !== id || timers.has(id)) return;
    held = null;
    attr(node, "data-wish", null);
    update(last, id);
  };
  input.addEventListener("input", () => {
    held = page.stream?.id ?? null;
    attr(node, "data-wish", true);
    paint();
  });
  input.addEventListener("change", () => {
    const id = page.stream?.id;
    if (id === undefined) return;
    const at = Number(input.value);
    clearTimeout(timers.get(id));
    const timer = setTimeout(async () => {
      await commit(at, id).catch((error) => say(error.message));
      if (timers.get(id) !== timer) return; // it was moved again
      timers.delete(id);
      if (Number(input.value) === at) letGo(id);
    }, CALM_MS);
    timers.set(id, timer);
  });
  // who moves it back to where it was has changed nothing, and there is no "change" of that
  let grip = null;
  input.addEventListener("pointerdown", (event) => (grip = event.pointerId));
  const released = (event) => event.pointerId === grip && setTimeout(() => letGo(held), CALM_MS);
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, released);
  const update = (at, id) => {
    last = at;
    if (held !== null && held !== id) {
      held = null; // another stream is shown
      attr(node, "data-wish", null);
    }
    if (held !== null) return;
    if (Number(input.value) !== at) input.value = at; // the next step; said is what is
    paint(at);
  };
  return { node, update, disable: (off) => (input.disabled = off) };
}

const dB = (at) => (at <= FADER_OFF ? "off" : `${at > 0 ? "+" : at < 0 ? "−" : ""}${Math.abs(at)} dB`);

export function makeMix(page) {
  const fader = (label, key, high) => ({
    ...makeFader(page, label, FADER_OFF, high, 1, dB, (at, id) => page.change({ mix: { [key]: dbToGain(at) } }, { id })),
    read: (controls) => Math.min(high, gainToDb(controls.mix[key])),
  });
  const faders = [fader("Dub", "dub_gain", 12), fader("Background", "bg_gain", 12), fader("Original under it", "original_gain", 0)];
  const duck = h("button", { type: "button", class: "switch", role: "switch", "aria-checked": "false", "aria-label": "Duck the background under the dub", onclick: () => page.act(duck, () => page.change({ mix: { ducking: { enabled: duck.getAttribute("aria-checked") !== "true" } } })) });
  const amount = makeFader(page, "Duck by", 0, 40, 1, (at) => `${at} dB`, (at, id) => page.change({ mix: { ducking: { range_db: at } } }, { id }));
  const delay = makeFader(page, "Delay", 2, 20, 0.5, (at) => seconds(at), (at, id) => page.change({ delay_s: at }, { id }));
  let set = ""; // what the server has said of it last, and of which stream: while it is chosen from, nothing else moves it
  const choose = async () => {
    const done = await page.act(fallback, () => page.change({ fallback: fallback.value }));
    if (done === null && page.stream) fallback.value = page.stream.controls.fallback;
  };
  const fallback = h("select", { "aria-label": "What is heard when there is no dub", onchange: choose }, Object.entries(MODES).map(([value, label]) => h("option", { value }, label)));
  const changed = h("p", { class: "changed" });
  const node = h(
    "section",
    { class: "card mix-card", "aria-label": "Mix" },
    h("h2", {}, "Mix"),
    faders.map((each) => each.node),
    h("div", { class: "fader" }, h("span", { class: "fader-name" }, "Ducking"), duck, h("span", { class: "fader-value" })),
    amount.node,
    h("label", { class: "fader" }, h("span", { class: "fader-name" }, "Without a dub"), fallback, h("span", {})),
    delay.node,
    changed,
  );
  return {
    node,
    update() {
      const stream = page.stream;
      const live = stream !== null && stream.source.state !== "off";
      for (const each of [...faders, amount, delay]) each.disable(!live);
      duck.disabled = fallback.disabled = !live;
      if (!stream) return;
      const { controls } = stream;
      for (const each of faders) each.update(each.read(controls), stream.id);
      attr(duck, "aria-checked", String(controls.mix.ducking.enabled));
      amount.update(controls.mix.ducking.range_db, stream.id);
      attr(amount.node, "data-off", !controls.mix.ducking.enabled);
      delay.update(controls.delay_s, stream.id);
      const moving = stream.delay.now !== undefined && Math.abs(stream.delay.now - controls.delay_s) > 0.05;
      const now = `${stream.id} ${controls.fallback}`;
      if (now !== set) fallback.value = controls.fallback;
      set = now;
      const latest = stream.changed ? `${clock(stream.changed.at_s)} ${stream.changed.by}: ${changeInWords(stream.changed.what)}` : "As the config has it";
      text(changed, !live ? "" : moving ? `The delay is ${seconds(stream.delay.now)}, on its way to ${seconds(controls.delay_s)}` : latest);
      attr(changed, "data-moving", live && moving);
      attr(changed, "title", changed.textContent);
    },
  };
}
