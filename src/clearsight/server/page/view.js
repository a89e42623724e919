// Turns as elements. Text is always set as text, never as markup.

import { isVideo } from "./api.js";
import { rich } from "./text.js";

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export function turnElement(turn) {
  const element = make("li", { className: `turn ${turn.role === "tool" ? "user tool" : turn.role}` });
  if (turn.role === "tool") element.append(make("p", { className: "quiet", textContent: `Result of ${turn.name ?? "the call"}` }));
  element.append(make("div", { className: "pictures" }), make("div", { className: "text" }), make("div", { className: "calls" }));
  element.append(make("p", { className: "quiet used" }));
  for (const url of turn.pictures ?? []) element.querySelector(".pictures").append(figure(url));
  fill(element, turn);
  return element;
}

/** Bring an element up to date with its turn. */
export function fill(element, turn) {
  element.classList.toggle("busy", Boolean(turn.busy));
  element.querySelector(".text").replaceChildren(...(turn.role === "assistant" ? rich(turn.text) : [turn.text]));
  element.querySelector(".calls").replaceChildren(...(turn.calls ?? []).map(call));
  element.querySelector(".used").textContent = turn.used ?? "";
}

function call(item) {
  let shown = item.function.arguments;
  try {
    shown = JSON.stringify(JSON.parse(shown), null, 2);
  } catch {
    // It is shown as it came.
  }
  return make("div", { className: "call" }, make("strong", { textContent: item.function.name }), make("pre", { textContent: shown }));
}

export function figure(url) {
  return make("figure", {}, medium(url, `${isVideo(url) ? "video" : "picture"} of this turn`));
}

/** A picture, or a video that can be played. */
export function medium(url, label) {
  if (!isVideo(url)) return make("img", { src: url, alt: label });
  return make("video", { src: url, controls: true, muted: true, preload: "metadata", "aria-label": label });
}

const SVG = "http://www.w3.org/2000/svg";

/** Draw boxes and points (in source pixels) over a picture. */
export async function annotate(holder, notes) {
  const image = holder.querySelector("img");
  await image.decode();
  const { naturalWidth: width, naturalHeight: height } = image;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  for (const note of notes) {
    const [x, y, right = x, bottom = y] = note.box ?? note.point;
    const shape = document.createElementNS(SVG, note.type === "box" ? "rect" : "ellipse");
    const values = note.type === "box"
      ? { x, y, width: right - x, height: bottom - y }
      : { cx: x, cy: y, rx: width / 60, ry: height / 60, fill: "var(--box)" };
    for (const [name, value] of Object.entries(values)) shape.setAttribute(name, value);
    svg.append(shape);
    if (note.label) {
      const tag = make("span", { className: "tag", textContent: note.label });
      tag.style.left = `${(100 * x) / width}%`;
      tag.style.top = `${(100 * y) / height}%`;
      holder.append(tag);
    }
  }
  holder.append(svg);
}
