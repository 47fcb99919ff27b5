// What was said, and what it became, line by line. The texts come from recognition and translation: they are text.

import { attr, h, icon, keyed, show, text } from "./dom.js";
import { clock, duration, language } from "./format.js";

export function makeTranscript(page) {
  const body = h("ol", { class: "lines" });
  const empty = h("p", { class: "empty" }, "What is said appears here, a few seconds after it was spoken.");
  const box = h("div", { class: "scroll lines-box", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Transcript and translation" }, empty, body);
  const newer = h("button", { type: "button", class: "newer small", hidden: true, onclick: () => toEnd() }, icon("down"), "Latest");
  const columns = ["source", "dub"].map(() => {
    const name = h("h2", {});
    const files = h("span", { class: "downloads" });
    return { name, files, node: h("div", { class: "lines-title" }, name, files) };
  });
  const [source, dub] = columns.map((each) => each.name);
  const node = h("section", { class: "card transcript-card", "aria-label": "Transcript and translation" }, h("div", { class: "lines-head" }, h("h2", {}, "On air"), columns.map((each) => each.node)), box, newer);

  let stuck = true;
  box.addEventListener("scroll", () => {
    stuck = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    show(newer, !stuck);
  });
  const toEnd = () => {
    stuck = true;
    box.scrollTop = box.scrollHeight;
    show(newer, false);
  };

  const item = () => {
    const when = h("time", {});
    const from = h("span", { class: "line-source", lang: page.stream?.languages.source, dir: "auto" });
    const to = h("span", { class: "line-dub", dir: "auto" });
    const node = h("li", { class: "line" }, when, from, to);
    return {
      node,
      update(line) {
        text(when, line.at === undefined ? duration(line.from) : clock(line.at));
        text(from, line.source);
        text(to, line.dub);
        attr(to, "lang", line.language);
        attr(node, "data-dropped", line.dropped);
        attr(node, "title", line.dropped ? "It came too late and was not spoken" : `${line.lag_s} s after it was said`);
      },
    };
  };

  let offered = "";
  const offer = (stream) => {
    const wanted = JSON.stringify([stream?.id, stream?.languages.source, page.language]);
    if (wanted === offered) return;
    offered = wanted;
    if (!stream) return;
    const base = `api/v1/streams/${stream.id}`;
    const link = (href, label, name) => h("a", { class: "download", href, download: name, title: `Download ${name}`, "aria-label": `Download ${name}` }, label);
    const from = stream.languages.source;
    for (const [index, code] of [from, page.language].entries()) {
      const links = ["vtt", "srt"].map((form) => link(`${base}/captions/${code}.${form}`, form, `${stream.id}.${code}.${form}`));
      if (index === 1) links.push(link(`${base}/transcript.json`, "json", `${stream.id}.transcript.json`));
      columns[index].files.replaceChildren(icon("down"), ...links);
    }
  };

  return {
    node,
    update() {
      const stream = page.stream;
      const lines = page.store.lines.filter((line) => line.language === page.language);
      text(source, stream ? language(stream.languages.source) : "");
      text(dub, page.language ? language(page.language) : "");
      offer(stream);
      show(empty, lines.length === 0);
      keyed(body, lines.map((line) => [line.n, line]), item);
      if (stuck) box.scrollTop = box.scrollHeight;
    },
  };
}
