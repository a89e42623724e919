// The little of Markdown that models write, as elements. Text is always set as text, never as markup.

import { make } from "./view.js";

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*/g;

function inline(text) {
  const found = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    found.push(text.slice(at, match.index));
    found.push(make(match[1] ? "code" : "strong", { textContent: match[1] ?? match[2] }));
    at = match.index + match[0].length;
  }
  return [...found, text.slice(at)];
}

const ITEM = /^\s*(?:[-*•]|(\d+)[.)])\s+(.*)$/;

/** Paragraphs, lists, headings and code, in order. */
export function rich(text) {
  const blocks = [];
  let open = null; // the paragraph or list being added to
  const lines = text.split("\n");
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index];
    const item = line.match(ITEM);
    const heading = line.match(/^#{1,6}\s+(.*)$/);
    if (line.startsWith("```")) {
      const end = lines.findIndex((other, later) => later > index && other.startsWith("```"));
      const stop = end < 0 ? lines.length : end;
      blocks.push(make("pre", { textContent: lines.slice(index + 1, stop).join("\n") }));
      [index, open] = [stop, null];
    } else if (!line.trim()) {
      open = null;
    } else if (item) {
      const name = item[1] ? "OL" : "UL";
      if (open?.tagName !== name) blocks.push((open = make(name, item[1] ? { start: Number(item[1]) } : {})));
      open.append(make("li", {}, ...inline(item[2])));
    } else if (heading) {
      blocks.push(make("h3", {}, ...inline(heading[1])));
      open = null;
    } else if (open?.tagName === "P") {
      open.append("\n", ...inline(line));
    } else {
      blocks.push((open = make("p", {}, ...inline(line))));
    }
  }
  return blocks;
}
