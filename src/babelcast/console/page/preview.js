// What is seen now: pages of the preview in frames, loaded once they are in sight, and only for the stream that is shown.

import { attr, h, show, text } from "./dom.js";

// One sound at a time: the frame that is switched on last has it.
let heard = null;
addEventListener("message", ({ origin, source, data }) => {
  if (origin !== location.origin || data?.type !== "babelcast.preview") return;
  if (data.muted && heard === source) heard = null;
  if (data.muted || heard === source) return;
  heard?.postMessage({ type: "babelcast.preview.command", muted: true }, location.origin);
  heard = source;
});

/** A frame for `path`; null where there is nothing to show. `says` is written while nothing is shown. */
export function makePreview(label) {
  const says = h("p", { class: "preview-says" });
  const box = h("div", { class: "preview-box" }, says);
  const when = h("span", { class: "preview-when" });
  const node = h("figure", { class: "preview" }, h("figcaption", {}, h("strong", {}, label), when), box);
  let path = null;
  let frame = null;
  let seen = false;

  const fit = () => {
    const wanted = seen && path !== null;
    if (wanted && frame?.dataset.path !== path) {
      frame?.remove();
      frame = h("iframe", { src: `preview/${path}`, title: `${label}: preview`, allow: "autoplay; fullscreen", "data-path": path });
      box.append(frame);
    } else if (!wanted && frame) {
      frame.remove();
      frame = null;
    }
    show(says, !frame);
  };
  new IntersectionObserver((entries) => {
    seen = entries.some((entry) => entry.isIntersecting);
    if (seen) fit(); // once in sight it stays: to scroll past must not cut it off
  }).observe(box);

  return {
    node,
    /** `wanted`: the path, or null with the words to show in its place. */
    update(wanted, words, note) {
      path = wanted;
      text(says, words);
      text(when, note);
      attr(box, "data-empty", wanted === null);
      fit();
    },
  };
}
