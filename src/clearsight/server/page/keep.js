// What stays in this browser: settings, and the conversation with its pictures as far as they fit.

const LIMIT = 4_000_000; // characters; browsers keep about five million for a site

export const DEFAULTS = {
  model: "", key: "", system: "", max_tokens: 512, temperature: null, min_pixels: null, max_pixels: null, tools: [], theme: "",
};

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function loadSettings() {
  return { ...DEFAULTS, ...read("settings", {}) };
}

export function saveSettings(settings) {
  localStorage.setItem("settings", JSON.stringify(settings));
}

export function loadTurns() {
  return read("turns", []);
}

/** Keep the newest turns that fit; returns how many older ones were left out. */
export function saveTurns(turns) {
  let kept = turns.filter((turn) => !turn.busy);
  const all = kept.length;
  let text = JSON.stringify(kept);
  while (text.length > LIMIT && kept.length) {
    kept = kept.slice(1);
    while (kept.length && kept[0].role !== "user") kept = kept.slice(1);
    text = JSON.stringify(kept);
  }
  try {
    localStorage.setItem("turns", text);
  } catch {
    localStorage.removeItem("turns");
    return all;
  }
  return all - kept.length;
}
