// For those who are new: what to type into the encoder. The check list below it ticks itself.

import { attr, h, icon, show, text } from "./dom.js";

export const NAME = /^[a-z0-9][a-z0-9_-]{0,62}$/;

function copyField(label) {
  const value = h("code", { class: "copy-value", tabindex: "0" });
  const word = h("span", {}, "Copy");
  const button = h("button", { type: "button", class: "copy", onclick: copy }, icon("copy"), word);
  attr(button, "aria-label", `Copy: ${label}`);
  async function copy() {
    let done = true;
    try {
      await navigator.clipboard.writeText(value.textContent);
    } catch {
      // without HTTPS browsers give no clipboard: mark it, and copy as of old
      const range = document.createRange();
      range.selectNodeContents(value);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      done = document.execCommand("copy");
    }
    text(word, done ? "Copied" : "Not copied");
    setTimeout(() => text(word, "Copy"), 1500);
  }
  return { value, node: h("div", { class: "copy-field" }, h("span", { class: "copy-label" }, label), value, button) };
}

export function makeStart(page) {
  const title = h("h1", {});
  const name = h("input", { type: "text", value: "my-show", autocomplete: "off", autocapitalize: "none", spellcheck: "false", "aria-label": "Name of the stream", maxlength: 63 });
  const naming = h("label", { class: "naming" }, h("span", {}, "Name of the stream"), name);
  const wrong = h("p", { class: "field-error", role: "alert" });
  const server = copyField("Server");
  const key = copyField("Stream key");
  const where = h("p", { class: "start-note" }, "In OBS: Settings → Stream → Service: Custom. H.264 and AAC, as it sends by default; a key frame every 2 s.");
  const node = h(
    "section",
    { class: "card start-card", tabindex: "-1", "aria-label": "Connect an encoder" },
    title,
    h("p", { class: "start-lead" }, "Type these two into your encoder and start streaming. This page notices by itself."),
    naming,
    wrong,
    server.node,
    key.node,
    where,
  );
  const update = () => {
    const stream = page.stream;
    const missing = page.gone && NAME.test(page.view) ? page.view : null;
    const wanted = stream?.id ?? missing ?? name.value.trim();
    const good = NAME.test(wanted);
    show(naming, stream === null && !missing);
    text(wrong, good ? "" : "Small letters, digits, - and _; it begins with a letter or digit.");
    show(wrong, !good);
    text(title, stream ? `Put ${stream.id} on air` : missing ? `${missing} is not here now` : "Put a stream on air");
    const known = stream?.publish ?? Object.values(page.store.state.streams)[0]?.publish ?? page.store.state.server.publish;
    const host = known.host ?? (location.hostname.includes(":") ? `[${location.hostname}]` : location.hostname);
    text(server.value, good ? `rtmp://${host}:${known.port}/live/${wanted}` : "–");
    text(key.value, "in");
  };
  name.addEventListener("input", update);
  return { node, update };
}
