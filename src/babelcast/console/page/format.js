// Numbers and times as people read them. Absent values are a dash.

export const DASH = "–";

export function number(value, digits = 0) {
  return value === undefined || value === null ? DASH : value.toFixed(digits).replace("-", "−");
}

export function count(value, thing) {
  return `${value} ${thing}${value === 1 ? "" : "s"}`;
}

export function seconds(value, digits = 1) {
  return value === undefined || value === null ? DASH : `${number(value, digits)} s`;
}

export function bitrate(kbps) {
  if (kbps === undefined || kbps === null) return DASH;
  return kbps >= 1000 ? `${(kbps / 1000).toFixed(1)} Mbit/s` : `${Math.round(kbps)} kbit/s`;
}

export function decibel(value) {
  if (value === undefined || value === null) return DASH;
  return value <= -100 ? "−∞" : number(value, 0);
}

export function money(usd) {
  if (usd === undefined || usd === null) return "free";
  return `$${usd.toFixed(usd < 10 ? 2 : 1)}`;
}

/** 83 → 1:23; 3671 → 1:01:11 */
export function duration(total) {
  if (total === undefined || total === null) return DASH;
  const whole = Math.max(0, Math.floor(total));
  const two = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest}` : rest.replace(/^0/, "");
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

export function clock(unix) {
  return unix === undefined || unix === null ? DASH : CLOCK.format(new Date(unix * 1000));
}

const NAMES = new Intl.DisplayNames(["en"], { type: "language" });

export function language(code) {
  try {
    return NAMES.of(code) ?? code;
  } catch {
    return code;
  }
}

/** A linear gain as dB; the lowest step of a fader is nothing at all. */
export const FADER_OFF = -40;

export function gainToDb(gain) {
  return gain <= 0.01 ? FADER_OFF : Math.round(20 * Math.log10(gain));
}

export function dbToGain(db) {
  return db <= FADER_OFF ? 0 : Number((10 ** (db / 20)).toFixed(4));
}

export const MODES = {
  original: "Original",
  background: "Background only",
  ducked: "Original, turned down",
  repeat: "Last dub again",
  silence: "Silence",
};

/** What the log says of a change, as an operator says it. */
export function changeInWords(what) {
  return what.replace(/\bforce (\w+)/g, (_, mode) => (mode === "none" ? "back to dub" : `${(MODES[mode] ?? mode).toLowerCase()} on air`));
}
