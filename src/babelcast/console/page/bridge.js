// The media bridge: one source to two destinations. Absent where none is configured.

import { attr, h, holdButton, icon, setIcon, show, text } from "./dom.js";
import { destinationList } from "./destinations.js";
import { DASH, bitrate, count, number } from "./format.js";
import { ask } from "./net.js";
import { makePreview } from "./preview.js";

const PATIENCE_MS = 50_000; // a start tries encoders
const TONES = { live: "ok", slate: "warning", waiting: "warning", starting: "busy", failed: "alarm", stopped: "off" };
const WORDS = { live: "The bridge is live", slate: "The slate is on air", waiting: "Waiting for its source", starting: "Starting", failed: "It could not be started", stopped: "Stopped" };
const ICONS = { ok: "ok", warning: "warn", busy: "busy", alarm: "alarm", off: "off" };

export function makeBridge(page) {
  const sign = icon("off");
  const title = h("h1", { class: "bridge-title" });
  const detail = h("p", { class: "headline-detail" });
  const head = h("section", { class: "card headline", "aria-label": "Media bridge" }, h("div", { class: "headline-row" }, sign, h("div", { class: "headline-words" }, title, detail)));
  const preview = makePreview("Bridge");
  const order = (what) => ask("POST", `api/v1/bridge/${what}`, undefined, { patience: PATIENCE_MS });
  const start = h("button", { type: "button", onclick: () => page.act(start, () => order("start")) }, icon("play"), "Start");
  const restart = holdButton("Hold to restart", 1000, () => page.act(restart, () => order("restart")));
  const stop = holdButton("Hold to stop", 1000, () => page.act(stop, () => order("stop")));
  const facts = ["Source", "Sound", "Encoder", "Programme"].map((name) => {
    const value = h("dd", {});
    const more = h("dd", { class: "fact-more" });
    return { value, more, node: h("div", {}, h("dt", {}, name), value, more) };
  });
  const reasons = h("ul", { class: "reasons" });
  const list = destinationList(page, null);
  const stage = h("div", { class: "bridge-stage" }, head, h("div", { class: "previews previews-one" }, preview.node), h("section", { class: "card" }, h("h2", {}, "Health"), reasons, h("dl", { class: "facts" }, facts.map((each) => each.node))));
  const desk = h("div", { class: "bridge-desk", role: "group", tabindex: "-1", "aria-label": "Controls of the bridge" }, h("section", { class: "card" }, h("h2", {}, "Bridge"), h("div", { class: "bridge-orders" }, start, restart, stop)), h("section", { class: "card" }, h("h2", {}, "Destinations"), list.node));
  return {
    stage,
    desk,
    update(state) {
      const bridge = state.bridge;
      const shown = page.view === "~bridge";
      if (!bridge || !shown) return preview.update(null, "", ""); // what is not seen is not heard either
      const down = bridge.state === undefined;
      const tone = down ? "alarm" : TONES[bridge.state];
      attr(head, "data-tone", tone);
      setIcon(sign, ICONS[tone]);
      text(title, down ? "The bridge does not answer" : WORDS[bridge.state]);
      text(detail, down ? bridge.error : (bridge.last_error ?? bridge.reasons[0] ?? "all is well"));
      const running = !down && !["stopped", "failed"].includes(bridge.state);
      start.disabled = running || down;
      restart.disabled = stop.disabled = !running;
      const there = running && state.server.preview;
      preview.update(there ? "bridge" : null, there ? "" : running ? "No preview is served here" : "Nothing to see while it is stopped", "what it sends now");
      reasons.replaceChildren(...(bridge.reasons ?? []).map((reason) => h("li", {}, reason)));
      show(reasons, (bridge.reasons ?? []).length > 0);
      const { source, sound, encoder } = bridge;
      const rows = down ? facts.map(() => [DASH, []]) : [
        [source.state, [bitrate(source.kbps), source.reconnects ? count(source.reconnects, "reconnect") : "", source.last_error ?? source.url ?? ""]],
        [sound.state === "input" ? "the source's" : sound.state, [sound.source === "input" ? "" : sound.source, sound.last_error ?? ""]],
        [encoder.name ?? DASH, [encoder.dropped ? `${count(encoder.dropped, "picture")} left out` : "", encoder.duplicated ? `${count(encoder.duplicated, "picture")} shown twice` : ""]],
        [bitrate(encoder.kbps), [`${number(encoder.fps, 1)} pictures a second`]],
      ];
      rows.forEach(([value, more], index) => {
        text(facts[index].value, value);
        text(facts[index].more, more.filter(Boolean).join(" · "));
      });
      list.update(bridge.destinations);
    },
  };
}
