// The left column: which streams there are, what wants attention, what happened.

import { attr, h, icon, keyed, setIcon, show, text } from "./dom.js";
import { changeInWords, clock, count, duration } from "./format.js";
import { ask } from "./net.js";

export const TONE_ICON = { off: "off", busy: "busy", ok: "ok", notice: "hand", warning: "warn", alarm: "alarm" };

export function makeStreams(page) {
  const list = h("ul", { class: "streams" });
  const node = h("nav", { class: "card streams-card", "aria-label": "Streams" }, h("h2", {}, "Streams"), list);
  const item = (view) => {
    const sign = icon("off");
    const name = h("span", { class: "stream-name" });
    const title = h("span", { class: "stream-title" });
    const badge = h("span", { class: "badge", hidden: true });
    const link = h("a", { href: `#${view}` }, sign, h("span", { class: "stream-words" }, name, title), badge);
    return {
      node: h("li", {}, link),
      update(value) {
        setIcon(sign, value.icon ?? TONE_ICON[value.tone]);
        attr(link, "data-tone", value.tone);
        attr(link, "aria-current", page.view === view ? "page" : null);
        text(name, value.name);
        text(title, value.title);
        show(badge, value.alarms > 0);
        text(badge, value.alarms);
        attr(badge, "aria-label", count(value.alarms, "alarm"));
      },
    };
  };
  let inSight = null;
  return {
    node,
    update(state) {
      const alarms = Object.values(state.alarms);
      const open = (match) => alarms.filter((alarm) => !alarm.by && alarm.severity === "alarm" && match(alarm)).length;
      const order = { off: 1 };
      const streams = Object.values(state.streams).sort((a, b) => (order[a.headline.tone] ?? 0) - (order[b.headline.tone] ?? 0) || a.id.localeCompare(b.id));
      const items = streams.map((stream) => [stream.id, { name: stream.id, title: stream.headline.title, tone: stream.headline.tone, alarms: open((alarm) => alarm.stream === stream.id) }]);
      if (state.bridge) {
        const health = state.bridge.health ?? "down";
        const tone = { ok: "ok", degraded: "warning", down: state.bridge.state === "stopped" ? "off" : "alarm" }[health];
        items.push(["~bridge", { name: "Media bridge", title: state.bridge.state ?? "no answer", tone, icon: "bridge", alarms: 0 }]);
      }
      items.push(["~new", { name: "Connect an encoder", title: "address and key", tone: "quiet", icon: "plus", alarms: 0 }]);
      keyed(list, items, item);
      const shown = list.querySelector("[aria-current]");
      if (shown && inSight !== page.view) {
        list.scrollLeft = shown.offsetLeft - list.offsetLeft; // on a phone they are in a row
        const at = shown.offsetTop - node.offsetTop;
        if (at < node.scrollTop || at + shown.offsetHeight > node.scrollTop + node.clientHeight) node.scrollTop = at - node.clientHeight / 2;
      }
      inSight = page.view;
    },
  };
}

export function makeAlarms(page) {
  const list = h("ul", { class: "alarms" });
  const calm = h("p", { class: "calm" }, icon("ok"), "Nothing needs you now");
  const badge = h("span", { class: "badge", hidden: true });
  const spoken = h("p", { class: "unseen", role: "alert" }); // for screen readers: the times in the list change every second
  const node = h("section", { class: "card alarms-card", "aria-label": "Alarms" }, h("h2", {}, "Alarms ", badge), h("div", { class: "alarms-live" }, calm, list), spoken);
  const item = (key) => {
    const sign = icon("alarm");
    const title = h("span", { class: "alarm-title" });
    const when = h("span", { class: "alarm-when" });
    const advice = h("p", { class: "alarm-advice" });
    const button = h("button", { type: "button", class: "small", onclick: () => page.act(button, () => ask("POST", `api/v1/alarms/${key.split("/").map(encodeURIComponent).join("/")}/acknowledge`)) }, "Acknowledge");
    const by = h("span", { class: "alarm-by" });
    const node = h("li", { class: "alarm" }, h("div", { class: "alarm-head" }, sign, title), advice, h("div", { class: "alarm-foot" }, when, by, button));
    return {
      node,
      update(alarm) {
        const over = alarm.over !== undefined;
        attr(node, "data-severity", over ? "over" : alarm.severity);
        attr(node, "data-seen", Boolean(alarm.by));
        setIcon(sign, over ? "ok" : alarm.severity === "alarm" ? "alarm" : "warn");
        text(title, (alarm.stream && Object.keys(page.store.state.streams).length > 1 ? `${alarm.stream}: ` : "") + alarm.title);
        text(advice, alarm.advice);
        show(advice, !over); // what there was to do
        const often = alarm.times > 1 ? ` · ${alarm.times} times` : "";
        text(when, (over ? `${clock(alarm.since)} to ${clock(alarm.over)}` : `since ${clock(alarm.since)} · ${duration(page.store.now() - alarm.since)}`) + often);
        text(by, alarm.by ? `seen by ${alarm.by}` : "");
        show(button, !alarm.by && alarm.severity === "alarm");
        text(button, over ? "Over: clear" : "Acknowledge");
      },
    };
  };
  return {
    node,
    update(state) {
      const items = Object.entries(state.alarms).sort(([, a], [, b]) => a.rank - b.rank);
      const open = items.filter(([, alarm]) => !alarm.by && alarm.severity === "alarm").length;
      show(calm, items.length === 0);
      show(badge, open > 0);
      text(badge, open);
      attr(node, "data-open", open > 0);
      text(spoken, items.filter(([, alarm]) => !alarm.by && alarm.severity === "alarm" && alarm.over === undefined).map(([, alarm]) => `Alarm: ${alarm.title}.`).join(" "));
      keyed(list, items, item);
    },
  };
}

const KINDS = {
  source_ready: "source on air",
  source_gone: "source gone",
  worker_started: "worker started",
  worker_stopped: "worker stopped",
  worker_failed: "worker failed",
  worker_refused: "refused",
  restart_requested: "restart",
  destination_started: "destination started",
  destination_stopped: "destination stopped",
  controls_changed: "controls",
  controls_reset: "controls as in the config again",
  bridge_ordered: "order",
  stream_forgotten: "forgotten",
};

const PLAIN = new Set(["source_ready", "controls_reset"]); // the kind says it all

export function makeEvents() {
  const list = h("ol", { class: "events" });
  const node = h("section", { class: "card events-card", "aria-label": "What happened" }, h("h2", {}, "What happened"), h("div", { class: "scroll", tabindex: "0", "aria-label": "Events, the latest first" }, list));
  const item = () => {
    const when = h("time", {});
    const what = h("span", { class: "event-what" });
    const detail = h("span", { class: "event-detail" });
    return {
      node: h("li", {}, when, h("span", {}, what, " ", detail)),
      update(event) {
        text(when, clock(event.at));
        text(what, `${event.stream}: ${KINDS[event.kind] ?? event.kind}`);
        text(detail, PLAIN.has(event.kind) ? "" : changeInWords(event.detail.replace(/ \(revision \d+\)$/, "")));
      },
    };
  };
  return {
    node,
    update(state) {
      const items = Object.entries(state.events).sort(([a], [b]) => Number(b) - Number(a));
      keyed(list, items, item);
    },
  };
}
