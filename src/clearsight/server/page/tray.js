// The pictures that wait to be sent, and what the next question would cost.

import { count, isVideo, requestBody } from "./api.js";
import { make, medium } from "./view.js";

const $ = (id) => document.getElementById(id);
let timer = null;
let asking = null;

export const tray = { pictures: [], changed: () => {} };

export function add(...urls) {
  tray.pictures.push(...urls);
  show();
}

/** Hand over what waits, and be empty. */
export function take() {
  const taken = tray.pictures;
  tray.pictures = [];
  show();
  return taken;
}

function show() {
  $("tray").replaceChildren(...tray.pictures.map((url, index) => {
    const kind = isVideo(url) ? "video" : "picture";
    const remove = make("button", { type: "button", textContent: "×", "aria-label": `Remove ${kind} ${index + 1}` });
    remove.onclick = () => {
      tray.pictures.splice(index, 1);
      show();
    };
    return make("li", {}, medium(url, `${kind} ${index + 1}`), remove, make("p", { className: "quiet" }));
  }));
  tray.changed();
}

export function asUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function seenAt(use) {
  const size = use.size.join(" × ");
  return use.kind === "video" ? `${use.frames} frames of ${size}${use.note ? " (made to fit)" : ""}` : size;
}

/** Say what the next question costs, before it is sent; only the last wish is asked about. */
export function recount(turns, settings) {
  clearTimeout(timer);
  asking?.abort();
  const text = $("question").value;
  if (!text && !tray.pictures.length) {
    $("cost").textContent = "";
    return;
  }
  timer = setTimeout(async () => {
    asking = new AbortController();
    try {
      const next = { role: "user", text, pictures: tray.pictures };
      const found = await count(requestBody([...turns, next], settings), settings, asking.signal);
      const sizes = found.media.slice(found.media.length - tray.pictures.length);
      $("tray").querySelectorAll("p").forEach((place, index) => {
        place.textContent = `${sizes[index]?.tokens ?? "?"} tokens`;
      });
      const seen = sizes.length ? ` · seen at ${sizes.map(seenAt).join(", ")}` : "";
      $("cost").textContent = `${found.tokens} of ${found.context} tokens${seen}${found.fits ? "" : " · too long"}`;
    } catch (error) {
      if (error.name !== "AbortError") $("cost").textContent = error.message;
    }
  }, 250);
}
