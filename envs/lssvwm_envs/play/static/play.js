"use strict";
// What is pressed goes to the server as requests; what it answers is drawn. See wire.py for the messages.

const $ = (id) => document.getElementById(id);
const MODES = ["real", "both", "dream"];
const REPEAT_FIRST = 260, REPEAT = 125; // ms, of a key or button that is held
const state = { socket: null, sent: 0, done: 0, view: null, opening: null, panels: [], held: new Set(), timer: null, parts: [], refused: false };

// Messages

function encode(header, payload) {
  const text = new TextEncoder().encode(JSON.stringify(header)), message = new Uint8Array(4 + text.length + payload.length);
  new DataView(message.buffer).setUint32(0, text.length, true);
  message.set(text, 4);
  message.set(payload, 4 + text.length);
  return message;
}

function ask(request, payload) {
  if (!state.socket || state.socket.readyState !== WebSocket.OPEN) return;
  state.sent += 1;
  state.socket.send(payload ? encode(request, payload) : JSON.stringify(request));
}

// Actions are not queued: what cannot be followed is not sent.
function act(action) {
  if (state.sent - state.done < 2) ask({ do: "act", action });
}

function connect() {
  const address = new URL("socket", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = state.socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("message", (event) => receive(new Uint8Array(event.data)));
  socket.addEventListener("close", () => {
    document.body.classList.add("closed");
    if (!$("note").classList.contains("wrong")) say("The connection has ended; load the page again.", true);
  });
}

function receive(message) {
  const length = new DataView(message.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(message.subarray(4, 4 + length))), payload = message.subarray(4 + length);
  if (header.type === "view") show(header, payload);
  else if (header.type === "opening") open(header);
  else if (header.type === "note") { say(header.text, header.wrong); state.refused = header.wrong; }
  else if (header.type === "file") download(header, payload);
}

function say(text, wrong) {
  $("note").textContent = text;
  $("note").classList.toggle("wrong", Boolean(wrong));
  if (!state.view) $("waiting").textContent = text;
}

function download({ name, kind }, payload) {
  const link = element("a"), address = URL.createObjectURL(new Blob([payload], { type: kind }));
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// What the server says

function open(header) {
  state.opening = header;
  $("checkpoint").replaceChildren(...header.names.map((name) => new Option(name, name, false, name === header.chosen)));
  $("recorder").classList.toggle("off", !header.can_record || !header.real);
  $("record").disabled = !header.can_record || !header.real;
  $("recorder").title = header.can_record ? "They are added when they end" : "Start lssvwm play with --out FOLDER to store them";
  if (!header.controls) return;
  $("env").textContent = header.real || "no real environment here";
  for (const button of document.querySelectorAll("[data-mode]")) button.disabled = !header.real && button.dataset.mode !== "dream";
  makeControls(header.controls);
  state.panels = [];
  $("panels").replaceChildren();
}

function show(view, payload) {
  state.view = view;
  state.done = view.done;
  if (view.notice) say(view.notice);
  else if (!state.refused) say("");
  state.refused = false; // a refusal stays readable until the next request is done
  const count = view.panels.length;
  while (state.panels.length > count) state.panels.pop().card.remove();
  while (state.panels.length < count) addPanel(state.panels.length);
  let offset = 0;
  const futures = view.panels.filter((panel) => panel.number !== null).length;
  view.panels.forEach((panel, i) => { offset += fillPanel(state.panels[i], panel, payload.subarray(offset), futures > 1); });
  sizePanels(state.panels, $("panels"));
  $("waiting").hidden = count > 0;
  if (!count) { $("waiting").textContent = view.notice; say(""); }
  showBar(view);
  showSettings(view);
}

function addPanel(i) {
  const number = () => state.view.panels[i].number;
  const made = makePanel(
    () => { if (number() !== null && !state.view.panels[i].selected) ask({ do: "select", number: number() }); },
    () => ask({ do: "close", number: number() }),
  );
  state.panels.push(made);
  $("panels").append(made.card);
}

function showBar(view) {
  const bar = $("rewind");
  bar.max = view.last;
  if (document.activeElement !== bar || !bar.matches(":active")) bar.value = view.at;
  const part = view.mode === "real" ? 100 : view.last ? (100 * view.dreamt_from) / view.last : 0;
  bar.style.setProperty("--real-part", `${part}%`);
  $("step").textContent = `${view.at} / ${view.last}`;
  $("first").disabled = $("back").disabled = view.at === 0;
  $("last").disabled = $("ahead").disabled = view.at === view.last;
}

function showSettings(view) {
  for (const button of document.querySelectorAll("[data-mode]")) button.setAttribute("aria-checked", String(button.dataset.mode === view.mode));
  $("together").checked = view.together;
  $("record").checked = view.recording;
  for (const name of ["denoise_steps", "horizon", "seed"]) if (document.activeElement !== $(name)) $(name).value = view.settings[name];
  $("passes-now").textContent = view.settings.denoise_steps;
}

// Controls of actions

function makeControls(controls) {
  const place = $("controls");
  place.replaceChildren();
  state.parts = [];
  if (controls.kind === "buttons") {
    for (const { action, label, keys } of controls.buttons) {
      const button = element("button", "", label);
      button.dataset.action = action;
      for (const key of keys) button.append(element("kbd", "", keyName(key)));
      hold(button, () => action);
      place.append(button);
    }
    return;
  }
  const count = (controls.sizes || controls.low).length;
  for (let i = 0; i < count; i++) place.append(makePart(controls, i));
  const button = element("button", "strong", "Act");
  button.append(element("kbd", "", "Space"));
  hold(button, chosen);
  place.append(button);
}

function makePart(controls, i) {
  const part = element("label", "part"), input = element("input"), value = element("output");
  if (controls.kind === "choices") {
    input.type = "range"; input.step = 1;
    input.min = controls.start[i]; input.max = controls.start[i] + controls.sizes[i] - 1; input.value = input.min;
  } else {
    const low = controls.low[i], high = controls.high[i], bounded = low !== null && high !== null;
    input.type = bounded ? "range" : "number";
    input.step = controls.whole ? 1 : bounded ? (high - low) / 200 : "any";
    if (low !== null) input.min = low;
    if (high !== null) input.max = high;
    input.value = bounded && !controls.whole ? (low + high) / 2 : Math.max(low ?? 0, 0);
  }
  input.dataset.part = i;
  const told = () => { value.textContent = Number(input.value).toFixed(controls.kind === "choices" || controls.whole ? 0 : 2); };
  input.addEventListener("input", told);
  told();
  state.parts.push(input);
  part.append(element("span", "", `Action ${i}: `), input);
  part.firstChild.append(value);
  return part;
}

const chosen = () => state.parts.map((input) => Number(input.value));
const keyName = (key) => key.replaceAll("Arrow", "").replace("Left", "←").replace("Right", "→").replace("Up", "↑").replace("Down", "↓").replace(/^ $/, "Space");

function repeat(action) {
  stopRepeating();
  const again = (wait) => { state.timer = setTimeout(() => { const found = action(); if (found !== null) act(found); again(REPEAT); }, wait); };
  act(action());
  again(REPEAT_FIRST);
}

function stopRepeating() {
  clearTimeout(state.timer);
  state.timer = null;
}

function hold(button, action) {
  button.addEventListener("pointerdown", (event) => { event.preventDefault(); button.classList.add("held"); repeat(action); });
  for (const end of ["pointerup", "pointerleave", "pointercancel"]) {
    button.addEventListener(end, () => { button.classList.remove("held"); stopRepeating(); });
  }
  button.addEventListener("click", (event) => { if (event.detail === 0) act(action()); }); // by keyboard
}

// Keys

function actionOfKeys() {
  const controls = state.opening && state.opening.controls;
  if (!controls) return null;
  if (controls.kind !== "buttons") return state.held.has(" ") ? chosen() : null;
  let best = null, most = 0;
  for (const { action, keys } of controls.buttons) {
    for (const key of keys) {
      const parts = key === "+" ? [key] : key.split("+");
      if (parts.length > most && parts.every((part) => state.held.has(part))) { best = action; most = parts.length; }
    }
  }
  return best;
}

const look = (at) => ask({ do: "look", at: Math.min(Math.max(at, 0), state.view.last) });
const setting = (name, value) => ask({ do: "settings", [name]: Math.round(value) });
const SHORTCUTS = {
  ",": () => look(state.view.at - 1),
  ".": () => look(state.view.at + 1),
  f: () => ask({ do: "fork" }),
  r: () => ask({ do: "begin" }),
  n: () => ask({ do: "next" }),
  m: () => { if (state.opening.real) ask({ do: "mode", mode: MODES[(MODES.indexOf(state.view.mode) + 1) % 3] }); },
  "[": () => setting("horizon", Math.max(1, state.view.settings.horizon / 2)),
  "]": () => setting("horizon", Math.min(100000, state.view.settings.horizon * 2)),
  "-": () => setting("denoise_steps", Math.max(1, state.view.settings.denoise_steps - 1)),
  "+": () => setting("denoise_steps", Math.min(16, state.view.settings.denoise_steps + 1)),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input[type=number], input[type=range], select");
  if (!state.view || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((key === " " || key === "Enter") && event.target.matches("button, summary, input, label")) return;
  state.held.add(key);
  if (actionOfKeys() !== null && isActionKey(key)) {
    event.preventDefault();
    if (!event.repeat) repeat(actionOfKeys);
  } else if (SHORTCUTS[key] && !event.repeat | (key === "," || key === ".")) {
    event.preventDefault();
    SHORTCUTS[key]();
  }
});

function isActionKey(key) {
  const controls = state.opening.controls;
  if (controls.kind !== "buttons") return key === " ";
  return controls.buttons.some(({ keys }) => keys.some((each) => each === key || each.split("+").includes(key)));
}

document.addEventListener("keyup", (event) => {
  state.held.delete(event.key.length === 1 ? event.key.toLowerCase() : event.key);
  if (actionOfKeys() === null) stopRepeating();
});
window.addEventListener("blur", () => { state.held.clear(); stopRepeating(); });

// Everything else that is pressed

function give(input, send) {
  input.addEventListener("change", async () => {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    if (file.size > 32 * 2 ** 20) say("Files of more than 32 MiB are refused.", true);
    else await send(file);
  });
}

async function sendPicture(file) {
  const [height, width, channels] = state.opening.shape;
  let bitmap;
  try { bitmap = await createImageBitmap(file); } catch { say("The file is no picture that this browser can read.", true); return; }
  const canvas = element("canvas");
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = bitmap.width > width; // enlarged pixels stay sharp
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height), bytes = new Uint8Array(height * width * channels);
  for (let i = 0; i < height * width; i++) {
    if (channels === 1) bytes[i] = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
    else for (let c = 0; c < channels; c++) bytes[i * channels + c] = data[4 * i + c];
  }
  ask({ do: "picture" }, bytes);
}

for (const button of document.querySelectorAll("[data-mode]")) button.addEventListener("click", () => ask({ do: "mode", mode: button.dataset.mode }));
for (const box of document.querySelectorAll("[data-show]")) {
  const told = () => document.body.toggleAttribute(`data-${box.dataset.show}`, box.checked);
  box.addEventListener("change", told);
  told();
}
for (const [id, does] of Object.entries({
  fork: SHORTCUTS.f, again: SHORTCUTS.r, next: SHORTCUTS.n, back: SHORTCUTS[","], ahead: SHORTCUTS["."],
  first: () => look(0), last: () => look(state.view.last), save: () => ask({ do: "save" }),
  video: () => { say("Encoding the video …"); ask({ do: "video" }); },
})) $(id).addEventListener("click", () => { if (state.view) does(); });
$("rewind").addEventListener("input", () => { if (state.sent - state.done < 3) look(Number($("rewind").value)); });
$("rewind").addEventListener("change", () => { look(Number($("rewind").value)); $("rewind").blur(); });
$("together").addEventListener("change", () => ask({ do: "together", on: $("together").checked }));
$("record").addEventListener("change", () => ask({ do: "record", on: $("record").checked }));
$("checkpoint").addEventListener("change", () => { say("Loading …"); ask({ do: "open", checkpoint: $("checkpoint").value }); $("checkpoint").blur(); });
$("denoise_steps").addEventListener("input", () => { $("passes-now").textContent = $("denoise_steps").value; });
$("denoise_steps").addEventListener("change", () => { setting("denoise_steps", $("denoise_steps").value); $("denoise_steps").blur(); });
for (const name of ["horizon", "seed"]) $(name).addEventListener("change", () => { setting(name, $(name).value); $(name).blur(); });
$("theme").addEventListener("click", () => {
  const light = getComputedStyle(document.documentElement).colorScheme === "light";
  document.documentElement.dataset.theme = light ? "dark" : "light";
});
give($("load"), async (file) => ask({ do: "load" }, new Uint8Array(await file.arrayBuffer())));
give($("picture"), sendPicture);
window.addEventListener("resize", () => sizePanels(state.panels, $("panels")));
connect();
