import { asCurl, asPython, chat, isVideo, requestBody } from "./api.js";
import { EXAMPLES } from "./examples.js";
import { loadSettings, loadTurns, saveTurns } from "./keep.js";
import * as live from "./live.js";
import { setTheme, showModels, showSettings, switchTheme, takeSettings } from "./panel.js";
import * as waiting from "./tray.js";
import { annotate, figure, fill, make, turnElement } from "./view.js";

const $ = (id) => document.getElementById(id);
const settings = loadSettings();
let turns = [];
let running = null; // what stops the answer under way

const recount = () => waiting.recount(turns, settings);
waiting.tray.changed = () => {
  recount();
  showEnd();
};

// --- conversation ---------------------------------------------------------------------------------------------

function showEnd() {
  $("turns").lastElementChild?.scrollIntoView({ block: "end" });
}

function showAll() {
  $("turns").replaceChildren(...turns.map(turnElement));
  turns.forEach((turn, index) => drawNotes(turn, $("turns").children[index]));
  $("empty").hidden = turns.length > 0;
  showActions();
  showEnd();
}

function add(turn) {
  turns.push(turn);
  const element = turnElement(turn);
  $("turns").append(element);
  $("empty").hidden = true;
  showEnd();
  return element;
}

/** Calls of the last answer that have no result yet. */
function openCalls() {
  const from = turns.findLastIndex((turn) => turn.role !== "tool");
  const done = new Set(turns.slice(from + 1).map((turn) => turn.id));
  return (turns[from]?.calls ?? []).filter((call) => !done.has(call.id));
}

async function send(question) {
  const [call, ...others] = openCalls();
  const said = { text: question, pictures: waiting.take() };
  if (call) add({ role: "tool", id: call.id, name: call.function.name, ...said });
  else add({ role: "user", ...said });
  if (others.length) showActions();
  else await answer();
}

async function answer() {
  hideNotice();
  const body = requestBody(turns, settings);
  const turn = { role: "assistant", text: "", calls: [], busy: true };
  const element = add(turn);
  const begin = performance.now();
  running = new AbortController();
  setBusy(true);
  try {
    for await (const chunk of chat(body, settings, running.signal)) take(turn, chunk), fill(element, turn);
    turn.used = [turn.used, `${((performance.now() - begin) / 1000).toFixed(1)} s`, turn.cut].filter(Boolean).join(" · ");
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
  showActions();
  showEnd();
  if (!(await saveTurns(turns))) showNotice("This browser has no room to keep the conversation.");
  recount();
}

function take(turn, chunk) {
  const choice = chunk.choices[0];
  if (choice) {
    turn.text += choice.delta.content ?? "";
    turn.calls.push(...(choice.delta.tool_calls ?? []).map(({ id, type, function: made }) => ({ id, type, function: made })));
    turn.notes = choice.delta.annotations ?? turn.notes;
    if (choice.finish_reason === "length") turn.cut = "cut short";
  }
  if (chunk.usage) {
    const { prompt_tokens: asked, completion_tokens: made } = chunk.usage;
    turn.used = `${asked} tokens read, ${made} written`;
  }
}

/** Boxes are drawn on a copy of the picture they belong to, beside the answer. */
async function drawNotes(turn, element) {
  const pictures = turns.slice(0, turns.indexOf(turn)).flatMap((other) => other.pictures ?? []).filter((url) => !isVideo(url));
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

/** What can be done with each turn, and what the next text will be. */
function showActions() {
  document.querySelectorAll(".actions").forEach((old) => old.remove());
  turns.forEach((turn, index) => {
    const wishes = turn.role === "assistant" ? { Copy: (event) => copyText(turn.text, event.target) } : { Edit: () => edit(index) };
    if (turn.role === "assistant" && index === turns.length - 1) wishes.Retry = () => retry(index);
    const buttons = Object.entries(wishes).map(([name, act]) => make("button", { type: "button", textContent: name, onclick: act }));
    $("turns").children[index]?.append(make("div", { className: "actions" }, ...buttons));
  });
  const [call] = openCalls();
  $("question").placeholder = call ? `What ${call.function.name} gave back` : "Ask about the picture";
}

function rewind(index) {
  if (running) return false;
  turns = turns.slice(0, index);
  showAll();
  saveTurns(turns);
  return true;
}

function edit(index) {
  const turn = turns[index];
  if (!rewind(index)) return;
  waiting.take();
  $("question").value = turn.text;
  waiting.add(...(turn.pictures ?? []));
  grow();
  $("question").focus();
}

const retry = (index) => rewind(index) && answer();

// --- notices and copying --------------------------------------------------------------------------------------

function showNotice(text, again) {
  const act = make("button", { type: "button", textContent: again ? "Retry" : "Close" });
  act.onclick = () => {
    hideNotice();
    again?.();
  };
  $("notice").replaceChildren(make("span", { textContent: text }), act);
  $("notice").hidden = false;
}

function hideNotice() {
  $("notice").hidden = true;
}

async function greet() {
  try {
    await showModels(settings);
    hideNotice();
  } catch (error) {
    showNotice(error.message, greet);
  }
}

async function copyText(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

function copyRequest(write, button) {
  return copyText(write(requestBody(turns.filter((turn) => !turn.busy), settings), settings), button);
}

// --- what people do -------------------------------------------------------------------------------------------

const LARGEST = 45_000_000; // bytes; a request may have 64 MiB, and base64 adds a third

async function addFiles(files) {
  const pictures = files.filter((file) => /^(image|video)\//.test(file.type) && file.size <= LARGEST);
  const other = files.find((file) => !pictures.includes(file));
  if (other) {
    const large = other.size > LARGEST ? `is larger than ${LARGEST / 1e6} MB` : "is neither a picture nor a video";
    showNotice(`${other.name || "That"} ${large}.`);
  }
  waiting.add(...(await Promise.all(pictures.map(waiting.asUrl))));
  $("question").focus();
}

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
  openMenu(false);
});
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
$("new").onclick = () => {
  running?.abort();
  live.stop();
  turns = [];
  saveTurns(turns);
  showAll();
  recount();
  $("question").focus();
};
function openMenu(open) {
  $("menu").setAttribute("aria-expanded", open);
}
$("menu").onclick = () => openMenu($("menu").getAttribute("aria-expanded") !== "true");
document.addEventListener("click", (event) => event.target.closest("#menu, #nav [id^=copy]") ?? openMenu(false));
$("theme").onclick = () => switchTheme(settings);
$("open-settings").onclick = () => showSettings(settings);
$("close-settings").onclick = (event) => {
  if (!takeSettings(settings)) event.preventDefault();
  else greet().then(recount);
};
$("copy-curl").onclick = (event) => copyRequest(asCurl, event.target);
$("copy-python").onclick = (event) => copyRequest(asPython, event.target);
$("examples").append(...EXAMPLES.map(({ question, url }) => {
  const picture = url();
  const act = () => {
    waiting.add(picture);
    send(question);
  };
  const look = make("img", { src: picture, alt: "" });
  return make("li", {}, make("button", { type: "button", onclick: act }, look, make("span", { textContent: question })));
}));

setTheme(settings.theme);
greet();
$("question").focus();
loadTurns().then((kept) => {
  // Whoever was quicker than the browser's memory has begun anew.
  if (turns.length) return;
  turns = kept;
  showAll();
});
