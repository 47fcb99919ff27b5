// Lag and sync over the last ten minutes, on canvas, once a second.

import { h, text } from "./dom.js";
import { number, seconds } from "./format.js";

const SPAN_S = 600;

function chart(title, hint) {
  const value = h("span", { class: "chart-value" }, "–");
  const canvas = h("canvas", { role: "img", "aria-label": `${title} over the last ten minutes` });
  return { value, canvas, node: h("figure", { class: "chart", title: hint }, h("figcaption", {}, h("span", {}, title), value), canvas, h("div", { class: "chart-axis", "aria-hidden": "true" }, h("span", {}, "10 min ago"), h("span", {}, "now"))) };
}

export function makeCharts(page) {
  const lag = chart("Dub lag", "From the first sound of a phrase to its dub in hand. It must stay under the delay (dashed).");
  const sync = chart("Dub against its picture", "How much later (+) than its picture a phrase is spoken; the lower line is sound against picture of the source.");
  const node = h("section", { class: "card charts-card", "aria-label": "Over time" }, lag.node, sync.node);
  let drawnAt = 0;
  const draw = () => {
    const { points } = page.store;
    const stream = page.stream;
    const styles = getComputedStyle(document.documentElement);
    const color = (name) => styles.getPropertyValue(`--${name}`).trim();
    const now = page.store.now();
    const of = (index) => points.map(([at, , languages]) => [at, languages[page.language]?.[index] ?? null]);
    const fallback = points.map(([at, , languages]) => [at, languages[page.language]?.[2] === 1]);
    const delay = stream?.delay.now ?? stream?.delay.set ?? 6;
    const target = stream?.targets[page.language];
    plot(lag.canvas, now, { series: [[of(0), color("accent")]], shade: [fallback, color("shade")], low: 0, high: Math.max(delay * 1.25, 4), lines: [[delay, color("muted")]], grid: color("line") });
    const offsets = of(1);
    const reach = Math.max(1, ...offsets.map(([, value]) => Math.abs(value ?? 0)), ...points.map(([, value]) => Math.abs(value) / 1000));
    const source = points.map(([at, value]) => [at, value / 1000]);
    plot(sync.canvas, now, { series: [[source, color("muted")], [offsets, color("accent")]], shade: [fallback, color("shade")], low: -reach * 1.1, high: reach * 1.1, lines: [[0, color("muted")]], grid: color("line") });
    text(lag.value, target ? `${seconds(target.lag_s)} of ${seconds(delay)}` : "–");
    text(sync.value, target?.offset_s === undefined ? "–" : `${target.offset_s >= 0 ? "+" : ""}${number(target.offset_s, 2)} s`);
    lag.canvas.setAttribute("aria-label", `Dub lag over the last ten minutes; now ${lag.value.textContent}`);
    sync.canvas.setAttribute("aria-label", `Dub against its picture over the last ten minutes; now ${sync.value.textContent}`);
  };
  return {
    node,
    update(force = false) {
      const now = performance.now();
      if (!force && now - drawnAt < 900) return;
      drawnAt = now;
      draw();
    },
  };
}

function plot(canvas, now, { series, shade, low, high, lines, grid }) {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: wide, clientHeight: tall } = canvas;
  if (!wide || !tall) return;
  if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(tall * ratio)) {
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(tall * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, wide, tall);
  const x = (at) => wide - ((now - at) / SPAN_S) * wide;
  const y = (value) => tall - ((value - low) / (high - low)) * tall;
  pen.fillStyle = shade[1];
  for (const [at, on] of shade[0]) if (on) pen.fillRect(x(at) - wide / SPAN_S, 0, (wide / SPAN_S) * 2, tall);
  pen.lineWidth = 1;
  pen.strokeStyle = grid;
  pen.beginPath();
  for (const part of [0, 0.5, 1]) {
    const at = Math.min(tall - 0.5, Math.max(0.5, Math.round(tall * part) + 0.5));
    pen.moveTo(0, at);
    pen.lineTo(wide, at);
  }
  pen.stroke();
  pen.setLineDash([4, 4]);
  for (const [value, color] of lines) {
    pen.strokeStyle = color;
    pen.beginPath();
    pen.moveTo(0, y(value));
    pen.lineTo(wide, y(value));
    pen.stroke();
  }
  pen.setLineDash([]);
  pen.lineWidth = 2;
  pen.lineJoin = "round";
  for (const [points, color] of series) {
    pen.strokeStyle = color;
    pen.beginPath();
    let down = false;
    let last = 0;
    for (const [at, value] of points) {
      if (value === null || now - at > SPAN_S) {
        down = false;
        continue;
      }
      if (down && at - last < 12) pen.lineTo(x(at), y(value));
      else pen.moveTo(x(at), y(value));
      down = true;
      last = at;
    }
    pen.stroke();
  }
}
