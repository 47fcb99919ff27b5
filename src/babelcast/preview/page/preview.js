// The preview page: asks what there is, shows it, says what is wrong, and tries again by itself.
//
// Address: /preview/PATH?token=…&muted=0&controls=0   (the token may also stand after #)
// To the parent: {type: "babelcast.preview", path, state, reason, muted, video, audio}, on every change and once a
// second while live. From the parent: {type: "babelcast.preview.command", muted: true | false}.

import { Refused, Session, ask, wait } from "./player.js";

const TICK_MS = 250;
const PLACEHOLDER_MS = 1000;
const FIRST_PICTURE_MS = 6000;
const STALLED_MS = 2500;
const SOUND_ALONE_MS = 1500;

const query = new URLSearchParams(location.search);
const token = query.get("token") ?? new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
const path = decodeURIComponent(location.pathname.replace(/^\/preview\/?/, "").replace(/\/$/, "")) || "bridge";
const api = `/api/v1/preview/${path.split("/").map(encodeURIComponent).join("/")}`;
const root = document.documentElement;
const at = (id) => document.getElementById(id);
const video = at("video");

let session = null;
let shown = { state: "", reason: "" };
let figures = null;
let meter = null;

// --- what is shown ---

const TITLES = { placeholder: "Nothing on air yet", connecting: "Connecting", error: "No picture" };

function show(state, reason = "", title = TITLES[state] ?? "") {
  if (shown.state === state && shown.reason === reason) return;
  shown = { state, reason };
  root.dataset.state = state;
  at("title").textContent = title;
  at("detail").textContent = reason;
  if (state !== "live") figures = null;
  tell();
}

function tell() {
  if (parent === window) return;
  parent.postMessage({
    type: "babelcast.preview",
    path,
    state: shown.state,
    reason: shown.reason,
    muted: video.muted,
    video: figures?.width ? { width: figures.width, height: figures.height, fps: figures.fps } : null,
    audio: figures?.soundBytes ? { level_dbfs: level() } : null,
  }, "*"); // nothing secret is in it, and who may embed the page is the server's rule
}

function refresh() {
  root.dataset.sound = figures?.soundBytes ? "1" : "0";
  root.dataset.pictures = figures?.frames ? "some" : "none";
  const rate = figures?.fps ? ` · ${figures.fps} fps` : "";
  at("figures").textContent = figures?.width ? `${figures.width} × ${figures.height}${rate}` : "";
}

// --- sound ---

function setMuted(muted) {
  video.muted = muted;
  root.dataset.muted = muted ? "1" : "0";
  at("mute").setAttribute("aria-label", muted ? "Sound on" : "Sound off");
  if (!muted) listen();
  tell();
}

/** Begin to measure the level: only possible once the browser allows sound. */
function listen() {
  if (!session) return;
  const context = meter?.context ?? new AudioContext();
  meter?.source.disconnect();
  const source = context.createMediaStreamSource(session.stream);
  const analyser = context.createAnalyser();
  analyser.fftSize = 2048;
  source.connect(analyser);
  context.resume().catch(() => {});
  meter = { context, source, analyser, samples: new Float32Array(analyser.fftSize) };
}

/** RMS in dBFS, null where it can't be measured (no sound yet, or not allowed by the browser). */
function level() {
  if (meter?.context.state !== "running") return null;
  meter.analyser.getFloatTimeDomainData(meter.samples);
  const power = meter.samples.reduce((sum, each) => sum + each * each, 0) / meter.samples.length;
  return power > 1e-10 ? Math.round(100 * Math.log10(power)) / 10 : -100;
}

function drawLevel() {
  const now = video.muted || shown.state !== "live" ? null : level();
  root.dataset.meter = now === null ? "0" : "1";
  at("level-fill").style.transform = `scaleX(${now === null ? 0 : Math.max(0, Math.min(1, 1 + now / 60))})`;
}

// --- the loop ---

async function run() {
  for (let failures = 0; ; ) {
    try {
      const view = JSON.parse((await ask(api, { token })).text);
      if (view.state === "offline") {
        failures = 0;
        show("placeholder", `${path} appears here by itself when it starts.`);
        await wait(PLACEHOLDER_MS);
        continue;
      }
      if (view.pictures === "unsupported" && !view.sound) throw await why("The pictures can't be shown.");
      if (shown.state !== "error") show("connecting");
      await watch(view);
      show("connecting"); // what stands there is no longer live; to ask may take its time
      failures = 0;
    } catch (error) {
      if (!(error instanceof Refused)) console.error(error);
      if (error.status === 404 && /published/.test(error.message)) { // it went between two questions
        await wait(TICK_MS);
        continue;
      }
      failures += 1;
      const seconds = [401, 403].includes(error.status) ? 15 : Math.min(10, 2 ** Math.min(failures - 1, 4));
      await explain(error, seconds);
    } finally {
      session?.close();
      session = null;
    }
  }
}

/** Returns when the stream is over or lost, after it was seen; throws Refused where it never was. */
async function watch(view) {
  session = new Session(view.ice_servers, token);
  await session.open(`${api}/whep`);
  video.srcObject = session.stream;
  video.requestVideoFrameCallback?.(() => wait.wake());
  session.onceOver(() => wait.wake());
  await play();
  if (meter || !video.muted) listen();
  const began = performance.now();
  let progress = { bytes: 0, at: began };
  let toldAt = 0;
  while (!session.over) {
    await wait(TICK_MS);
    const now = performance.now();
    const found = await session.figures();
    if (found.bytes > progress.bytes) progress = { bytes: found.bytes, at: now };
    figures = found;
    refresh();
    if (found.frames || (found.soundBytes && now - began > SOUND_ALONE_MS && view.pictures !== "reencoded")) {
      show("live");
      at("title").textContent = "Sound alone";
      at("detail").textContent = found.frames ? "" : "This stream has no pictures that can be shown.";
      if (now - toldAt > 1000) { toldAt = now; tell(); }
    } else if (now - began > FIRST_PICTURE_MS) {
      throw await why("Connected, but no picture came. A firewall between here and the server?");
    }
    if (shown.state === "live" && now - progress.at > STALLED_MS) return;
  }
  if (shown.state !== "live") throw await why("The connection ended before a picture came.");
}

/** What the server knows of it, else `guess`. */
async function why(guess) {
  const view = JSON.parse((await ask(api, { token })).text);
  if (view.state === "offline") return new Refused(404, "Nothing is published there any more.");
  return new Refused(0, view.error ? `${view.error[0].toUpperCase()}${view.error.slice(1)}.` : guess);
}

async function play() {
  const wanted = root.dataset.muted === "0";
  video.muted = !wanted;
  try {
    await Promise.race([video.play(), wait(3000)]);
  } catch {
    setMuted(true); // sound needs a touch first
    await Promise.race([video.play().catch(() => {}), wait(1000)]);
  }
}

async function explain(error, seconds) {
  const title = { 401: "Not allowed to watch", 403: "Not allowed to watch", 404: "No such stream" }[error.status];
  const reason = error.status === 401
    ? (token ? "The token is not valid." : "A token is needed: add ?token=… to the address.")
    : error.message;
  for (let left = seconds; left > 0 && !explain.now; left--) {
    at("retry-in").textContent = `(${left} s)`; // not in the status, which a screen reader would read each second
    show("error", reason, title ?? TITLES.error);
    await wait(1000);
  }
  explain.now = false;
}

// --- the user ---

at("mute").addEventListener("click", () => setMuted(!video.muted));
at("retry").addEventListener("click", () => { explain.now = true; wait.wake(); });
at("full").addEventListener("click", toggleFull);
addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey }) => {
  if (ctrlKey || metaKey || altKey) return;
  if (key === "m") setMuted(!video.muted);
  if (key === "f") toggleFull();
});
addEventListener("message", ({ source, data }) => {
  if (source === parent && data?.type === "babelcast.preview.command" && typeof data.muted === "boolean") {
    setMuted(data.muted);
  }
});
addEventListener("pagehide", () => session?.close(true));

function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else root.requestFullscreen?.().catch(() => {});
}

document.title = `Preview · ${path}`;
at("badge-path").textContent = path;
root.dataset.controls = query.get("controls") === "0" ? "0" : "1";
root.dataset.pictures = "none";
root.dataset.muted = query.get("muted") === "0" ? "0" : "1";
if (!document.fullscreenEnabled) at("full").hidden = true;
setInterval(drawLevel, 60);
show("connecting");
run();
