import { asCurl, asPython, chat, count, models, requestBody } from "./api.js";
import * as live from "./live.js";
import { loadSettings, loadTurns, saveSettings, saveTurns } from "./keep.js";
import { annotate, examplePicture, figure, fill, make, turnElement } from "./view.js";

const $ = (id) => document.getElementById(id);
const settings = loadSettings();
let turns = loadTurns();
let waiting = []; // data: URLs to send with the next question
let running = null; // what stops the answer under way
let counting = null;

// --- conversation ---------------------------------------------------------------------------------------------

function showAll() {
  $("turns").replaceChildren(...turns.map(turnElement));
  turns.forEach((turn, index) => drawNotes(turn, $("turns").children[index]));
  $("empty").hidden = turns.length > 0;
}

function add(turn) {
  turns.push(turn);
  const element = turnElement(turn);
  $("turns").append(element);
  $("empty").hidden = true;
  element.scrollIntoView({ block: "end" });
  return element;
}

async function send(question) {
  const last = turns.at(-1);
  if (last?.calls?.length) {
    // After a call, what is typed is its result.
    for (const call of last.calls) add({ role: "tool", id: call.id, text: question });
  } else {
    add({ role: "user", text: question, pictures: waiting });
    waiting = [];
    showTray();
  }
  await answer();
}

async function answer() {
  hideNotice();
  const body = requestBody(turns, settings);
  const turn = { role: "assistant", text: "", calls: [], busy: true };
  const element = add(turn);
  running = new AbortController();
  setBusy(true);
  try {
    for await (const chunk of chat(body, settings, running.signal)) take(turn, chunk), fill(element, turn);
  } catch (error) {
    if (error.name !== "AbortError") {
      turns = turns.filter((other) => other !== turn);
      element.remove();
      showNotice(error.message, answer);
      return;
    }
    turn.used = "stopped";
  } finally {
    running = null;
    turn.busy = false;
    setBusy(false);
  }
  fill(element, turn);
  await drawNotes(turn, element);
  element.scrollIntoView({ block: "end" });
  const lost = saveTurns(turns);
  if (lost) showNotice(`The ${lost} oldest turns are too large to be kept in this browser.`);
  recount();
}

function take(turn, chunk) {
  const choice = chunk.choices[0];
  if (choice) {
    turn.text += choice.delta.content ?? "";
    turn.calls.push(...(choice.delta.tool_calls ?? []).map(({ id, type, function: made }) => ({ id, type, function: made })));
    turn.notes = choice.delta.annotations ?? turn.notes;
  }
  if (chunk.usage) {
    const { prompt_tokens: asked, completion_tokens: made } = chunk.usage;
    turn.used = `${asked} tokens read, ${made} written`;
  }
}

/** Boxes are drawn on a copy of the picture they belong to, beside the answer. */
async function drawNotes(turn, element) {
  const pictures = turns.flatMap((other) => other.pictures ?? []);
  for (const image of new Set((turn.notes ?? []).map((note) => note.image))) {
    if (!pictures[image]) continue;
    const holder = figure(pictures[image]);
    element.querySelector(".pictures").append(holder);
    await annotate(holder, turn.notes.filter((note) => note.image === image));
  }
}

function setBusy(busy) {
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("turns").setAttribute("aria-busy", busy);
}

// --- pictures -------------------------------------------------------------------------------------------------

async function addFiles(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) {
      showNotice(`${file.name || "That"} is not a picture.`);
      continue;
    }
    waiting.push(await asUrl(file));
  }
  showTray();
  recount();
  $("question").focus();
}

function asUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function showTray() {
  $("tray").replaceChildren(...waiting.map((url, index) => {
    const remove = make("button", { type: "button", textContent: "×", "aria-label": `Remove picture ${index + 1}` });
    remove.onclick = () => {
      waiting.splice(index, 1);
      showTray();
      recount();
    };
    return make("li", {}, make("img", { src: url, alt: `picture ${index + 1}` }), remove);
  }));
}

/** Say what the next question costs, before it is sent. */
function recount() {
  clearTimeout(counting);
  counting = setTimeout(async () => {
    const text = $("question").value;
    if (!text && !waiting.length) {
      $("cost").textContent = "";
      return;
    }
    try {
      const body = requestBody([...turns, { role: "user", text, pictures: waiting }], settings);
      const found = await count(body, settings);
      const sizes = found.media.slice(found.media.length - waiting.length).map((use) => use.size.join(" × "));
      const seen = sizes.length ? ` · seen at ${sizes.join(", ")}` : "";
      $("cost").textContent = `${found.tokens} of ${found.context} tokens${seen}${found.fits ? "" : " · too long"}`;
    } catch (error) {
      $("cost").textContent = error.message;
    }
  }, 250);
}

// --- notices, settings, copying -----------------------------------------------------------------------------

function showNotice(text, again) {
  const notice = $("notice");
  notice.replaceChildren(make("span", { textContent: text }));
  const act = make("button", { type: "button", textContent: again ? "Retry" : "Close" });
  act.onclick = () => {
    hideNotice();
    again?.();
  };
  notice.append(act);
  notice.hidden = false;
}

function hideNotice() {
  $("notice").hidden = true;
}

const NUMBERS = ["max_tokens", "temperature", "min_pixels", "max_pixels"];

function showSettings() {
  for (const name of ["key", "system", "model", ...NUMBERS]) $(`set-${name}`).value = settings[name] ?? "";
  $("set-tools").value = settings.tools.length ? JSON.stringify(settings.tools, null, 2) : "";
  $("settings-error").textContent = "";
  $("settings").showModal();
}

function takeSettings() {
  let tools = [];
  try {
    tools = JSON.parse($("set-tools").value || "[]");
    if (!Array.isArray(tools)) throw new Error();
  } catch {
    $("settings-error").textContent = "The tools are not a JSON list.";
    return false;
  }
  for (const name of ["key", "system", "model"]) settings[name] = $(`set-${name}`).value;
  for (const name of NUMBERS) settings[name] = $(`set-${name}`).value === "" ? null : Number($(`set-${name}`).value);
  settings.tools = tools;
  saveSettings(settings);
  return true;
}

async function showModels() {
  try {
    const found = await models(settings);
    $("set-model").replaceChildren(...found.map(({ id }) => make("option", { value: id, textContent: id })));
    if (!found.some(({ id }) => id === settings.model)) settings.model = found[0].id;
    $("model").textContent = settings.model;
    hideNotice();
  } catch (error) {
    showNotice(error.message, showModels);
  }
}

function setTheme(theme) {
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

async function copy(write, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(write(requestBody(turns.filter((turn) => !turn.busy), settings), settings));
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

// --- what people do -------------------------------------------------------------------------------------------

$("composer").onsubmit = (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (running || !question) return;
  if (live.isLive() && !live.ask(question)) return;
  $("question").value = "";
  grow();
  if (!live.isLive()) send(question);
};
$("question").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("composer").requestSubmit();
  }
};
function grow() {
  $("question").style.height = "auto";
  $("question").style.height = `${$("question").scrollHeight + 2}px`;
}
$("question").oninput = () => {
  grow();
  recount();
};
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  running?.abort();
  live.cancel();
});
$("go-live").onclick = async () => {
  hideNotice();
  try {
    await live.start(settings, liveChanged);
  } catch (error) {
    showNotice(error.message);
  }
};
function liveChanged(reason) {
  $("go-live").hidden = live.isLive();
  $("question").placeholder = live.isLive() ? "Ask about what the camera sees" : "Ask about the picture";
  $("question").focus();
  if (reason) showNotice(reason);
}
$("stop").onclick = () => running?.abort();
for (const id of ["files", "camera"]) {
  $(id).onchange = async (event) => {
    await addFiles([...event.target.files]);
    event.target.value = "";
  };
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) addFiles([...event.clipboardData.files]);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop") addFiles([...event.dataTransfer.files]);
  });
}
$("new").onclick = () => {
  running?.abort();
  live.stop();
  turns = [];
  saveTurns(turns);
  showAll();
  recount();
  $("question").focus();
};
$("example").onclick = () => {
  waiting.push(examplePicture());
  showTray();
  $("question").value = "What does it say?";
  recount();
  $("question").focus();
};
$("theme").onclick = () => {
  settings.theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  saveSettings(settings);
  setTheme(settings.theme);
};
$("open-settings").onclick = showSettings;
$("close-settings").onclick = (event) => {
  if (!takeSettings()) event.preventDefault();
  else showModels().then(recount);
};
$("copy-curl").onclick = (event) => copy(asCurl, event.target);
$("copy-python").onclick = (event) => copy(asPython, event.target);

setTheme(settings.theme);
showAll();
showModels();
$("question").focus();
