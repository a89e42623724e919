// What stays in this browser: settings, and the conversation with its pictures, photographs of any size among them.

export const DEFAULTS = {
  model: "", key: "", system: "", max_tokens: 512, temperature: null, min_pixels: null, max_pixels: null, tools: [], theme: "",
};

export function loadSettings() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem("settings")) };
  } catch {
    return { ...DEFAULTS };
  }
}

export function saveSettings(settings) {
  localStorage.setItem("settings", JSON.stringify(settings));
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function shelf(mode) {
  const opening = indexedDB.open("clearsight", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("kept");
  return (await result(opening)).transaction("kept", mode).objectStore("kept");
}

/** The turns kept last, none where the browser keeps nothing. */
export async function loadTurns() {
  try {
    return (await result((await shelf("readonly")).get("turns"))) ?? [];
  } catch {
    return [];
  }
}

/** Whether the browser had room. */
export async function saveTurns(turns) {
  try {
    await result((await shelf("readwrite")).put(turns.filter((turn) => !turn.busy), "turns"));
    return true;
  } catch {
    return false;
  }
}
