// The settings dialog, the list of models and the theme.

import { models } from "./api.js";
import { saveSettings } from "./keep.js";
import { make } from "./view.js";

const $ = (id) => document.getElementById(id);
const TEXTS = ["key", "system", "model"];
const NUMBERS = ["max_tokens", "temperature", "min_pixels", "max_pixels"];

export function showSettings(settings) {
  for (const name of [...TEXTS, ...NUMBERS]) $(`set-${name}`).value = settings[name] ?? "";
  $("set-tools").value = settings.tools.length ? JSON.stringify(settings.tools, null, 2) : "";
  $("settings-error").textContent = "";
  $("settings").showModal();
}

/** Take over what was typed; false, with a sentence beside it, if it cannot be read. */
export function takeSettings(settings) {
  let tools = [];
  try {
    tools = JSON.parse($("set-tools").value || "[]");
    if (!Array.isArray(tools)) throw new Error();
  } catch {
    $("settings-error").textContent = "The tools are not a JSON list.";
    return false;
  }
  for (const name of TEXTS) settings[name] = $(`set-${name}`).value;
  for (const name of NUMBERS) settings[name] = $(`set-${name}`).value === "" ? null : Number($(`set-${name}`).value);
  settings.tools = tools;
  saveSettings(settings);
  return true;
}

/** Fill the list of models. Throws ApiError. */
export async function showModels(settings) {
  const found = await models(settings);
  $("set-model").replaceChildren(...found.map(({ id }) => make("option", { value: id, textContent: id })));
  if (!found.some(({ id }) => id === settings.model)) settings.model = found[0].id;
  $("model").textContent = settings.model;
}

/** theme: "light", "dark", or "" for what the system has. */
export function setTheme(theme) {
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

export function switchTheme(settings) {
  settings.theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  saveSettings(settings);
  setTheme(settings.theme);
}
