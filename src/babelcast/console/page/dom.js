// The document, made by hand. Text goes in as text: nothing here or elsewhere takes HTML.

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  ok: "M4 10.5l4 4 8-9",
  warn: "M10 3.2L18 17H2zM10 8.2v4M10 14.2v.3",
  alarm: "M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15zM10 6v5M10 13.6v.3",
  busy: "M10 3a7 7 0 1 1-7 7",
  off: "M5 10h10",
  dot: "M10 7a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  hand: "M6 10V5.5a1.3 1.3 0 0 1 2.6 0V9 4a1.3 1.3 0 0 1 2.6 0v5-3.6a1.3 1.3 0 0 1 2.6 0V12c0 3-1.6 5.5-4.6 5.5-2.4 0-3.6-1-4.7-3L3 11.4c-.4-.9.9-1.8 1.7-1L6 12",
  speaker: "M3 8v4h3l4 3.5v-11L6 8zM13 7.5a4 4 0 0 1 0 5M15.3 5.3a7 7 0 0 1 0 9.4",
  back: "M8 5L3.5 9.5 8 14M4 9.5h8a4.5 4.5 0 0 1 0 9",
  copy: "M7 7h9v10H7zM4 13V3h9",
  down: "M10 3v9M6 8.5l4 4 4-4M4 16.5h12",
  play: "M6 4l10 6-10 6z",
  stop: "M5 5h10v10H5z",
  person: "M10 10a3.4 3.4 0 1 0 0-6.8 3.4 3.4 0 0 0 0 6.8zM3.5 17c.6-3.4 3.2-5 6.5-5s5.9 1.6 6.5 5",
  link: "M8.5 11.5l3-3M9 6l1.6-1.6a3.5 3.5 0 0 1 5 5L14 11M11 14l-1.6 1.6a3.5 3.5 0 0 1-5-5L6 9",
  plus: "M10 4v12M4 10h12",
  bridge: "M2 15h16M4 15V9c4 0 4-3 6-3s2 3 6 3v6M10 6v9",
};

/** An element. `props`: attributes; `on…` listeners; `class`. Children: nodes, strings, or nothing. */
export function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  svg.append(path);
  setIcon(svg, name);
  return svg;
}

export function setIcon(svg, name) {
  if (svg.dataset.icon === name) return;
  svg.dataset.icon = name;
  svg.firstChild.setAttribute("d", PATHS[name] ?? PATHS.dot);
}

/** Set text where it differs: an update that changes nothing touches nothing. */
export function text(node, value) {
  const wanted = value === undefined || value === null ? "" : String(value);
  if (node.firstChild === null || node.childNodes.length > 1 || node.firstChild.nodeType !== Node.TEXT_NODE) node.textContent = wanted;
  else if (node.firstChild.data !== wanted) node.firstChild.data = wanted;
}

/** Set or, with null, false or undefined, remove an attribute where it differs. */
export function attr(node, name, value) {
  if (value === undefined || value === null || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const wanted = value === true ? "" : String(value);
  if (node.getAttribute(name) !== wanted) node.setAttribute(name, wanted);
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** Bring the children of `parent` in line with `items`: [key, value] pairs, in order. `make(key)` gives {node, update}. */
export function keyed(parent, items, make) {
  const known = (parent.keyedParts ??= new Map());
  const wanted = new Set(items.map(([key]) => key));
  for (const [key, part] of known) {
    if (!wanted.has(key)) {
      part.node.remove();
      known.delete(key);
    }
  }
  let place = parent.firstChild;
  for (const [key, value] of items) {
    let part = known.get(key);
    if (!part) {
      part = make(key);
      known.set(key, part);
    }
    if (part.node !== place) parent.insertBefore(part.node, place);
    else place = place.nextSibling;
    part.update?.(value);
  }
}

/** A button that acts once it has been held, by pointer or key, for `ms`; a slip does nothing. Nor is anything done
 * where it is switched off or gone by then, or `about()`, what it is about, is no longer what it was. */
export function holdButton(label, ms, act, about = () => null) {
  const button = h("button", { class: "hold", type: "button", "aria-label": label }, h("span", { class: "hold-fill", "aria-hidden": "true" }), h("span", {}, label));
  let timer = 0;
  const begin = () => {
    if (timer || button.disabled) return;
    button.classList.add("holding");
    const begun = about();
    timer = setTimeout(() => {
      end();
      if (!button.disabled && button.offsetParent && about() === begun) act();
    }, ms);
  };
  const end = () => {
    clearTimeout(timer);
    timer = 0;
    button.classList.remove("holding");
  };
  button.addEventListener("pointerdown", begin);
  for (const name of ["pointerup", "pointerleave", "pointercancel", "blur"]) button.addEventListener(name, end);
  button.addEventListener("keydown", (event) => {
    if ((event.key === "Enter" || event.key === " ") && !event.repeat) begin();
    if (event.key === "Enter" || event.key === " ") event.preventDefault();
  });
  button.addEventListener("keyup", (event) => {
    end();
    event.preventDefault();
  });
  // assistive technology can't hold: it is asked instead
  button.addEventListener("click", (event) => {
    if (event.detail === 0 && confirm(`${button.getAttribute("aria-label")}?`)) act();
  });
  // what the browser makes of the touch as it ends would meet the button that has come in this one's place
  button.addEventListener("touchend", (event) => event.cancelable && event.preventDefault());
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  return button;
}
