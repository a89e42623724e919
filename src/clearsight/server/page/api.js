// The public HTTP API and nothing else: what this page does, any program can do.

export class ApiError extends Error {}

/** Whether a data: URL is that of a video, as the browser named it. */
export const isVideo = (url) => url.startsWith("data:video/");

function headers(settings) {
  const found = { "Content-Type": "application/json" };
  if (settings.key) found.Authorization = `Bearer ${settings.key}`;
  return found;
}

async function refused(response) {
  try {
    return new ApiError((await response.json()).error.message);
  } catch {
    return new ApiError(`The server answered ${response.status}.`);
  }
}

export async function models(settings) {
  const response = await fetch("/v1/models", { headers: headers(settings) });
  if (!response.ok) throw await refused(response);
  return (await response.json()).data;
}

export async function count(body, settings, signal) {
  const response = await fetch("/v1/count", { method: "POST", headers: headers(settings), body: JSON.stringify(body), signal });
  if (!response.ok) throw await refused(response);
  return response.json();
}

/** Server-sent events of one answer, parsed; ends with the stream. */
export async function* chat(body, settings, signal) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: headers(settings),
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) throw await refused(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const events = held.split("\n\n");
    held = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message);
      yield chunk;
    }
  }
}

/** A conversation as the body of a request. Turns: {role, text, pictures, calls, id}. */
export function requestBody(turns, settings) {
  const messages = settings.system ? [{ role: "system", content: settings.system }] : [];
  for (const turn of turns) messages.push(message(turn, settings));
  const body = { model: settings.model, messages };
  if (settings.max_tokens) body.max_tokens = settings.max_tokens;
  if (settings.temperature !== null) body.temperature = settings.temperature;
  if (settings.tools.length) body.tools = settings.tools;
  return body;
}

function message(turn, settings) {
  if (turn.role === "assistant") {
    const found = { role: "assistant", content: turn.text || null };
    if (turn.calls.length) found.tool_calls = turn.calls;
    else found.content = turn.text;
    return found;
  }
  const limits = {};
  if (settings.min_pixels) limits.min_pixels = settings.min_pixels;
  if (settings.max_pixels) limits.max_pixels = settings.max_pixels;
  const parts = (turn.pictures ?? []).map((url) => {
    const kind = isVideo(url) ? "video_url" : "image_url";
    return { type: kind, [kind]: { url }, ...limits };
  });
  const content = [...parts, { type: "text", text: turn.text }];
  return turn.role === "tool" ? { role: "tool", tool_call_id: turn.id, content } : { role: "user", content };
}

export function asCurl(body, settings) {
  const key = settings.key ? ` \\\n  -H "Authorization: Bearer $CLEARSIGHT_API_KEY"` : "";
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl ${location.origin}/v1/chat/completions \\\n  -H "Content-Type: application/json"${key} \\\n  -d '${json}'`;
}

export function asPython(body, settings) {
  const key = settings.key ? 'os.environ["CLEARSIGHT_API_KEY"]' : '"none"';
  return [
    settings.key ? "import json\nimport os\n" : "import json\n",
    "from openai import OpenAI\n",
    `client = OpenAI(base_url="${location.origin}/v1", api_key=${key})`,
    `request = json.loads(r'''${JSON.stringify(body, null, 2).replaceAll("'''", "\\u0027\\u0027\\u0027")}''')`,
    "answer = client.chat.completions.create(**request)",
    "print(answer.choices[0].message.content)\n",
  ].join("\n");
}
