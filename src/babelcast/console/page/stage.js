// The middle: what viewers get, in words and pictures, and the way there.

import { attr, h, holdButton, icon, keyed, setIcon, show, text } from "./dom.js";
import { DASH, bitrate, count, duration, language, money, seconds } from "./format.js";
import { ask } from "./net.js";
import { makePreview } from "./preview.js";
import { TONE_ICON } from "./rail.js";

export function makeHeadline(page) {
  const sign = icon("off");
  const name = h("span", { class: "headline-name" });
  const title = h("h1", { class: "headline-title" });
  const detail = h("span", {});
  const since = h("span", { class: "figure-value" });
  const delay = h("span", { class: "figure-value" });
  const languages = h("div", { class: "languages", role: "group", "aria-label": "Language shown" });
  const node = h(
    "section",
    { class: "card headline", "aria-label": "State" },
    h(
      "div",
      { class: "headline-row" },
      sign,
      h("div", { class: "headline-words" }, title, h("p", { class: "headline-detail" }, name, detail)),
      h("div", { class: "headline-figures" }, languages, h("div", { class: "figure" }, since, h("span", { class: "figure-name" }, "on air")), h("div", { class: "figure" }, delay, h("span", { class: "figure-name" }, "delay"))),
    ),
  );
  const item = (code) => {
    const button = h("button", { type: "button", class: "small", onclick: () => page.pick(code) }, code);
    attr(button, "title", language(code));
    return { node: button, update: () => attr(button, "aria-pressed", String(page.language === code)) };
  };
  return {
    node,
    update() {
      const stream = page.stream;
      if (!stream) return;
      const { tone } = stream.headline;
      attr(node, "data-tone", tone);
      setIcon(sign, TONE_ICON[tone]);
      text(name, stream.id);
      text(title, stream.headline.title);
      const { source, targets } = stream.languages;
      text(detail, tone === "ok" ? `${language(source)} into ${targets.map(language).join(", ")}` : stream.headline.detail);
      attr(detail.parentNode, "title", detail.textContent);
      const target = stream.targets[page.language];
      text(since, target?.published_s ? duration(target.published_s) : DASH);
      text(delay, seconds(stream.delay.now ?? stream.delay.set));
      const several = stream.languages.targets.length > 1;
      show(languages, several);
      keyed(languages, several ? stream.languages.targets.map((code) => [code, code]) : [], item);
    },
  };
}

const STEP_ICON = { ok: "ok", waiting: "busy", problem: "alarm", notice: "hand", off: "off", skipped: "off" };

export function makeWay(page) {
  const list = h("ol", { class: "way" });
  const help = h("p", { class: "way-help", role: "status" });
  const node = h("div", { class: "way-card" }, list, help);
  attr(list, "aria-label", "From the encoder to the destinations");
  const item = () => {
    const sign = icon("off");
    const title = h("span", { class: "way-title" });
    const word = h("span", { class: "way-text" });
    const node = h("li", {}, sign, h("span", { class: "way-words" }, title, word));
    return {
      node,
      update(step) {
        attr(node, "data-state", step.state);
        setIcon(sign, STEP_ICON[step.state]);
        text(title, step.title);
        text(word, step.text);
      },
    };
  };
  return {
    node,
    update() {
      const steps = Object.values(page.stream?.steps ?? {}).sort((a, b) => a.rank - b.rank);
      keyed(list, steps.map((step) => [step.key, step]), item);
      const first = steps.find((step) => step.state === "problem") ?? steps.find((step) => step.state === "waiting") ?? steps.find((step) => step.state === "notice");
      const { title, detail } = page.stream?.headline ?? {};
      const unknown = steps.some((step) => step.state === "off"); // no worker that would say
      text(help, first ? `${first.title}: ${first.help}` : unknown ? `${title}: ${detail}` : "Everything works, from the encoder to the destinations.");
      attr(help, "title", help.textContent);
      attr(help, "data-state", first?.state ?? (unknown ? "off" : "ok"));
    },
  };
}

export function makePreviews(page) {
  const source = makePreview("Source");
  const output = makePreview("Output");
  const node = h("div", { class: "previews" }, source.node, output.node);
  return {
    node,
    update(state) {
      const stream = page.stream;
      const served = state.server.preview;
      const live = stream?.source.state === "live" || stream?.source.state === "stalled";
      const none = served ? "" : "No preview is served here";
      source.update(live && served ? `live/${stream.id}/in` : null, none || (live ? "" : "No source"), "now, undelayed");
      const several = (stream?.languages.targets.length ?? 0) > 1;
      const out = stream?.targets[page.language]?.output === "live";
      const path = several ? `live/${stream?.id}/out/${page.language}` : `live/${stream?.id}/out`;
      output.update(out && served ? path : null, none || (out ? "" : "Not on air yet"), stream ? `as viewers see it, ${seconds(stream.delay.now ?? stream.delay.set)} later` : "");
    },
  };
}

const CLOSED = { closed: "closed", open: "OPEN", "half-open": "half open" };

export function makeFacts(page) {
  const names = ["Backend", "Breaker", "Fallback", "Phrases", "Cost so far", "In / out"];
  const cells = names.map((name) => {
    const value = h("dd", {});
    const more = h("dd", { class: "fact-more" });
    const node = h("div", {}, h("dt", {}, name), value, more);
    return { value, more, node };
  });
  const node = h("section", { class: "card facts-card", "aria-label": "Dubbing" }, h("dl", { class: "facts" }, cells.map((cell) => cell.node)));
  return {
    node,
    update() {
      const stream = page.stream;
      const target = stream?.targets[page.language];
      const set = (index, value, more = "", tone = null) => {
        text(cells[index].value, value);
        text(cells[index].more, more);
        attr(cells[index].node, "data-tone", tone);
      };
      const breakers = Object.values(target?.breakers ?? {});
      const bad = breakers.find((each) => each.state !== "closed");
      set(0, target ? (target.backend ?? breakers[0]?.backend ?? "none") : DASH, target?.backend_state ?? "", target?.backend_state === "retrying" ? "alarm" : null);
      set(1, breakers.length ? CLOSED[(bad ?? breakers[0]).state] : DASH, bad?.reason ?? (breakers.some((each) => each.opened) ? `opened ${count(breakers.reduce((sum, each) => sum + each.opened, 0), "time")}` : ""), bad ? "alarm" : null);
      set(2, target ? (target.fallback ?? "none") : DASH, target ? `${duration(target.fallback_s)} in all` : "", target?.fallback ? (target.cause === "operator" ? "notice" : "warning") : null);
      set(3, target ? target.segments - target.dropped : DASH, target?.dropped ? `${target.dropped} came too late` : "spoken", target?.dropped > 0.1 * target?.segments ? "notice" : null);
      set(4, target ? money(target.cost) : DASH, target?.cost === undefined ? "not charged" : "by the price list");
      set(5, stream ? bitrate(stream.source.kbps) : DASH, target ? bitrate(target.kbps) : "");
    },
  };
}

export function makeWorker(page) {
  const restart = holdButton("Hold to restart", 1000, () => page.act(restart, () => ask("POST", `api/v1/streams/${page.stream.id}/restart`)), () => page.view);
  attr(restart, "aria-label", "Restart the worker: hold");
  const first = h("p", { class: "worker-line" });
  const more = h("p", { class: "worker-line" });
  const node = h("section", { class: "card worker-card", "aria-label": "Worker" }, h("div", {}, first, more), restart);
  return {
    node,
    update() {
      const stream = page.stream;
      if (!stream) return;
      const { worker, source } = stream;
      const join = (...parts) => parts.filter(Boolean).join(" · ");
      text(first, join(`Worker ${worker.generation || ""}`, worker.megabytes && `${worker.megabytes} MB`, stream.separation && `separation ${stream.separation}`));
      text(more, join(source.video, source.audio) || "no source");
      for (const line of [first, more]) attr(line, "title", line.textContent);
      restart.disabled = source.state === "off";
    },
  };
}
