// One WHEP session: offer, answer, tracks, figures, goodbye.

/** An answer that is no success. `status` is HTTP's; 0 where nobody answered. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** fetch() with the token, within a time: {response, text}, all of it; throws Refused. */
export async function ask(url, { token, ms = 8000, headers = {}, ...options } = {}) {
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  let text;
  try {
    response = await fetch(url, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(ms) });
    text = await response.text(); // it may be cut off there, too
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  if (response.ok) return { response, text };
  let detail = "";
  try {
    detail = JSON.parse(text).detail ?? "";
  } catch { /* another program's error page says nothing to us */ }
  throw new Refused(response.status, detail || `The server answered ${response.status}.`);
}

/** Resolves after `ms`, or early when `wake` is called; `wait.wake` is of the latest wait. */
export function wait(ms) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    wait.wake = () => { clearTimeout(timer); resolve(); };
  });
}
wait.wake = () => {};

export class Session {
  #peer;
  #token;
  #location = null;
  #last = null; // {frames, at, fps}: the first second is no measure, as it catches up

  constructor(iceServers, token) {
    this.#token = token;
    this.#peer = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    this.stream = new MediaStream();
    for (const kind of ["video", "audio"]) {
      const { receiver } = this.#peer.addTransceiver(kind, { direction: "recvonly" });
      this.stream.addTrack(receiver.track);
    }
  }

  /** Whether the connection is lost for good. */
  get over() {
    return ["failed", "closed"].includes(this.#peer.connectionState) || this.#hungUp();
  }

  /** Calls `told` when the connection is lost for good; of a session that is open. */
  onceOver(told) {
    const check = () => this.over && told();
    this.#peer.addEventListener("connectionstatechange", check);
    for (const { transport } of this.#peer.getReceivers()) transport?.addEventListener("statechange", check);
  }

  async open(url) {
    await this.#peer.setLocalDescription();
    if (this.#peer.getConfiguration().iceServers.length) await this.#gathered(1500);
    const { response, text: sdp } = await ask(url, {
      token: this.#token,
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: this.#peer.localDescription.sdp,
    });
    this.#location = new URL(response.headers.get("Location"), response.url);
    try {
      await this.#peer.setRemoteDescription({ type: "answer", sdp });
    } catch {
      throw new Refused(0, "This browser can't play what the server offers.");
    }
  }

  /** What arrived: sizes in pixels, frames per second (null in the first second), bytes since the start. */
  async figures() {
    const found = { width: 0, height: 0, frames: 0, bytes: 0, soundBytes: 0, fps: null, lost: 0 };
    for (const report of (await this.#peer.getStats()).values()) {
      if (report.type !== "inbound-rtp") continue;
      found.bytes += report.bytesReceived ?? 0;
      found.lost += Math.max(0, report.packetsLost ?? 0);
      if (report.kind === "audio") found.soundBytes = report.bytesReceived ?? 0;
      if (report.kind === "video") {
        found.width = report.frameWidth ?? 0;
        found.height = report.frameHeight ?? 0;
        found.frames = report.framesDecoded ?? 0;
      }
    }
    found.fps = this.#rate(found.frames, performance.now());
    return found;
  }

  /** Leave. `unloading`: the page goes away, and nothing can be waited for. */
  close(unloading = false) {
    const peer = this.#peer;
    if (!this.#location || this.#hungUp()) return peer.close(); // the server has forgotten this viewer by itself
    const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
    const told = fetch(this.#location, { method: "DELETE", headers, keepalive: true }).catch(() => {});
    this.#location = null;
    if (unloading) peer.close();
    else told.finally(() => peer.close());
  }

  #rate(frames, now) {
    if (!this.#last && frames) this.#last = { frames: null, at: now, fps: null };
    if (this.#last && now - this.#last.at >= 1000) {
      const { frames: before, at } = this.#last;
      const fps = before === null ? null : Math.round(((frames - before) * 1000) / (now - at));
      this.#last = { frames, at: now, fps };
    }
    return this.#last?.fps ?? null;
  }

  #hungUp() {
    return this.#peer.getReceivers().some((each) => each.transport?.state === "closed");
  }

  #gathered(ms) {
    return new Promise((resolve) => {
      setTimeout(resolve, ms);
      const check = () => this.#peer.iceGatheringState === "complete" && resolve();
      this.#peer.addEventListener("icegatheringstatechange", check);
      check();
    });
  }
}
