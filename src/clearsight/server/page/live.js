// The camera button: frames go to /v1/realtime as they are seen, questions and answers go beside them.

import { fill, make, turnElement } from "./view.js";

const SENT_PER_SECOND = 4; // the server looks at two and skips the rest, so a late timer costs nothing
const WIDTH = 448; // more pixels than the server's frames have
const BEHIND = 1_000_000; // bytes not yet sent, from which on frames are held back
const $ = (id) => document.getElementById(id);

let session = null;

export const isLive = () => session !== null;
export const ask = (question) => session.ask(question);
export const cancel = () => session?.cancel();
export const stop = (reason) => session?.end(reason);

/** Open the camera and a session. Rejects with a sentence. */
export async function start(settings, changed) {
  if (!navigator.mediaDevices) throw new Error("The camera needs https, or a server on this machine.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "The camera was not allowed." : "There is no camera that can be used.");
  }
  session = new Session(stream, settings, changed);
  changed();
}

class Session {
  constructor(stream, settings, changed) {
    this.stream = stream;
    this.changed = changed;
    this.begin = performance.now();
    this.heldBack = 0;
    this.answering = null;
    this.canvas = make("canvas");
    $("live-video").srcObject = stream;
    $("live").hidden = false;
    $("live-state").textContent = "connecting";
    $("live-standing").replaceChildren();
    const protocols = settings.key ? ["realtime", `openai-insecure-api-key.${settings.key}`] : ["realtime"];
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/v1/realtime`, protocols);
    this.socket.onmessage = ({ data }) => this.take(JSON.parse(data));
    this.socket.onclose = ({ reason }) => this.end(reason || "The live session has ended.");
    this.socket.onopen = () => {
      const wishes = {};
      if (settings.system) wishes.instructions = settings.system;
      if (settings.temperature !== null) wishes.temperature = settings.temperature;
      this.send("session.update", { session: wishes });
      this.timer = setInterval(() => this.frame(), 1000 / SENT_PER_SECOND);
    };
  }

  send(type, fields = {}) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...fields }));
  }

  async frame() {
    const video = $("live-video");
    if (!video.videoWidth || this.socket.readyState !== WebSocket.OPEN) return;
    if (this.socket.bufferedAmount > BEHIND) {
      this.heldBack += 1;
      return;
    }
    const seconds = (performance.now() - this.begin) / 1000;
    const scale = Math.min(1, WIDTH / video.videoWidth);
    this.canvas.width = Math.round(video.videoWidth * scale);
    this.canvas.height = Math.round(video.videoHeight * scale);
    this.canvas.getContext("2d").drawImage(video, 0, 0, this.canvas.width, this.canvas.height);
    const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/jpeg", 0.85));
    if (!blob || this.socket.readyState !== WebSocket.OPEN) return;
    const head = new DataView(new ArrayBuffer(8));
    head.setFloat64(0, seconds);
    this.socket.send(new Blob([head, blob]));
  }

  ask(question) {
    if (this.answering) return false;
    this.show({ role: "user", text: question });
    this.answering = { turn: { role: "assistant", text: "", busy: true } };
    this.answering.element = this.show(this.answering.turn);
    const item = { type: "message", role: "user", content: [{ type: "input_text", text: question }] };
    this.send("conversation.item.create", { item });
    this.send("response.create");
    return true;
  }

  cancel() {
    this.send("response.cancel");
  }

  stand(instruction) {
    this.send("standing.create", { instruction });
  }

  take(event) {
    const answer = this.answering;
    if (event.type === "input_video_buffer.state") this.state(event.state);
    else if (event.type === "response.output_text.delta" && answer) {
      answer.turn.text += event.delta;
      fill(answer.element, answer.turn);
    } else if (event.type === "response.done") this.done(event.response);
    else if (event.type === "standing.created") this.standing(event);
    else if (event.type === "standing.spoken") {
      this.show({ role: "assistant", text: event.text, used: `${clock(event.time)} · ${event.instruction}` }).classList.add("spoken");
    } else if (event.type === "error") {
      $("live-error").textContent = event.error.message;
      if (answer && !answer.turn.text) this.done({ status: "failed" });
    }
  }

  done(response) {
    if (!this.answering) return;
    const { turn, element } = this.answering;
    this.answering = null;
    turn.busy = false;
    const { usage } = response;
    turn.used = usage ? `${usage.input_tokens} tokens in view, ${usage.output_tokens} written` : response.status;
    fill(element, turn);
    element.scrollIntoView({ block: "end" });
  }

  /** How far the model is behind, and what it did not look at. */
  state(state) {
    const parts = [
      `${clock(state.newest ?? 0)} seen`, `${state.taken} frames`, `${state.tokens} of ${state.budget_tokens} tokens`,
    ];
    if (state.lag_seconds >= 1) parts.push(`${state.lag_seconds.toFixed(1)} s behind`);
    const lost = state.dropped + state.late + state.too_fast + this.heldBack;
    if (lost) parts.push(`${lost} frames dropped`);
    $("live-state").textContent = parts.join(" · ");
  }

  standing({ number, instruction }) {
    const remove = make("button", { type: "button", textContent: "×", "aria-label": `Take back: ${instruction}` });
    const item = make("li", {}, `${instruction} `, remove);
    remove.onclick = () => {
      this.send("standing.delete", { number });
      item.remove();
    };
    $("live-standing").append(item);
    $("live-error").textContent = "";
  }

  show(turn) {
    const element = turnElement(turn);
    $("turns").append(element);
    $("empty").hidden = true;
    element.scrollIntoView({ block: "end" });
    return element;
  }

  end(reason) {
    if (session !== this) return;
    session = null;
    clearInterval(this.timer);
    for (const track of this.stream.getTracks()) track.stop();
    this.socket.onclose = null;
    this.socket.close();
    $("live-video").srcObject = null;
    $("live").hidden = true;
    this.done({ status: "stopped" });
    this.changed(reason);
  }
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

$("live-stop").onclick = () => stop();
$("live-form").onsubmit = (event) => {
  event.preventDefault();
  const text = $("live-instruction").value.trim();
  if (!text || !session) return;
  session.stand(text);
  $("live-instruction").value = "";
};
