// Levels ten times a second. Bars are moved by transforms: nothing is laid out again.

import { h, text } from "./dom.js";
import { decibel } from "./format.js";

const FLOOR_DB = -60;
const HOLD_MS = 1500;
const NAMES = [
  ["source", "Source", "the voice and all, as it came"],
  ["background", "Background", "without the voice"],
  ["dub", "Dub", "the new voice"],
  ["output", "Output", "what viewers hear"],
];

const share = (db) => Math.min(1, Math.max(0, (db - FLOOR_DB) / -FLOOR_DB));

export function makeMeters(page) {
  const rows = NAMES.map(([key, name, hint]) => {
    const cover = h("div", { class: "meter-cover" });
    const peak = h("div", { class: "meter-peak" });
    const value = h("span", { class: "meter-value" }, "–");
    const bar = h("div", { class: "meter-bar", role: "meter", "aria-label": `${name}: ${hint}`, "aria-valuemin": FLOOR_DB, "aria-valuemax": 0, "aria-valuenow": FLOOR_DB }, cover, peak);
    return { key, cover, peak, value, bar, held: FLOOR_DB, heldAt: 0, node: h("div", { class: "meter", title: hint }, h("span", { class: "meter-name" }, name), bar, value) };
  });
  const marks = h("div", { class: "meter-marks", "aria-hidden": "true" }, ...[-60, -48, -36, -24, -12, 0].map((db) => h("span", {}, decibel(db))));
  const node = h("section", { class: "card meters-card", "aria-label": "Levels, in dBFS" }, ...rows.map((row) => row.node), marks, marks.cloneNode(true));
  let spoken = 0;
  return {
    node,
    update(levels) {
      const found = levels?.[page.language];
      const now = performance.now();
      rows.forEach((row, index) => {
        const db = found ? found[index] : -120;
        if (!found || db >= row.held || now - row.heldAt > HOLD_MS) {
          row.held = db;
          row.heldAt = now;
        }
        row.cover.style.transform = `scaleX(${(1 - share(db)).toFixed(3)})`;
        row.peak.style.transform = `translateX(${(share(row.held) * 100).toFixed(1)}%)`;
        row.peak.style.opacity = row.held > FLOOR_DB ? "1" : "0";
        text(row.value, found ? decibel(db) : "–");
      });
      if (now - spoken > 2000) {
        spoken = now;
        rows.forEach((row, index) => row.bar.setAttribute("aria-valuenow", found ? Math.round(Math.max(FLOOR_DB, found[index])) : FLOOR_DB));
      }
    },
  };
}
