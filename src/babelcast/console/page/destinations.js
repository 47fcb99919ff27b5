// Where the programme is sent. Keys are never shown: the server does not tell them.

import { attr, h, holdButton, icon, keyed, setIcon, show, text } from "./dom.js";
import { bitrate, count, duration } from "./format.js";
import { ask } from "./net.js";

const ICONS = { live: "ok", connecting: "busy", retrying: "alarm", failed: "alarm", stalled: "warn", idle: "off", stopped: "off" };
const TONES = { live: "ok", connecting: "busy", retrying: "alarm", failed: "alarm", stalled: "warning", idle: "off", stopped: "off" };
const HOLD_MS = 1000;

/** `base()` is the API's path of the list; null where nothing can be done to them from here. */
export function destinationList(page, base) {
  const list = h("ul", { class: "destinations" });
  const item = (name) => {
    const sign = icon("off");
    const state = h("span", { class: "dest-state" });
    const figures = h("span", { class: "dest-figures" });
    const url = h("span", { class: "dest-url" });
    const error = h("p", { class: "dest-error" });
    const order = (what) => ask("POST", `${base()}/${encodeURIComponent(name)}/${what}`);
    const start = h("button", { type: "button", class: "small", onclick: () => page.act(start, () => order("start")) }, "Start");
    const stop = holdButton("Hold to stop", HOLD_MS, () => page.act(stop, () => order("stop")), () => page.view);
    const actions = h("span", { class: "dest-actions" }, start, stop);
    show(actions, base !== null);
    attr(start, "aria-label", `Start ${name}`);
    attr(stop, "aria-label", `Stop ${name}: hold`);
    const node = h("li", { class: "dest" }, h("div", { class: "dest-head" }, sign, h("strong", { class: "dest-name" }, name), state, actions), h("div", { class: "dest-line" }, figures, url), error);
    return {
      node,
      update(dest) {
        const on = dest.enabled;
        setIcon(sign, ICONS[dest.state]);
        attr(node, "data-tone", TONES[dest.state]);
        text(state, dest.slate && dest.state === "live" ? "live, slate" : dest.state);
        const up = dest.connected !== undefined && dest.state === "live" ? ` · ${duration(page.store.now() - dest.connected)}` : "";
        text(figures, dest.state === "live" || dest.state === "stalled" ? bitrate(dest.kbps) + up : "");
        text(url, dest.url);
        const trouble = dest.state !== "live" && on ? (dest.last_error ?? "") : "";
        const again = dest.reconnects ? count(dest.reconnects, "reconnect") : "";
        const lost = dest.dropped ? `${count(dest.dropped, "packet")} dropped` : "";
        text(error, trouble || [again, lost].filter(Boolean).join(" · "));
        attr(error, "data-bad", Boolean(trouble));
        show(start, !on);
        show(stop, on);
      },
    };
  };
  return {
    node: list,
    update: (destinations) => keyed(list, Object.entries(destinations ?? {}).sort(([, a], [, b]) => a.rank - b.rank), item),
  };
}

export function makeDestinations(page) {
  const list = destinationList(page, () => `api/v1/streams/${page.stream.id}/destinations`);
  const none = h("p", { class: "empty" }, "None yet. Name them in babelcast.yaml under the stream: name, url, key.");
  const node = h("section", { class: "card destinations-card", "aria-label": "Destinations" }, h("h2", {}, "Destinations"), none, list.node);
  return {
    node,
    update() {
      const destinations = page.stream?.destinations ?? {};
      show(none, Object.keys(destinations).length === 0);
      list.update(destinations);
    },
  };
}
