"use strict";
// Drawing: what a view says, as panels. Nothing here asks the server for anything.

// Stops of a colour scale from empty to full.
const SCALE = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];

function colourOf(level) {
  const place = (level / 255) * (SCALE.length - 1), low = Math.min(Math.floor(place), SCALE.length - 2), share = place - low;
  return SCALE[low].map((value, i) => Math.round(value + share * (SCALE[low + 1][i] - value)));
}

// Puts bytes (H, W, C), C of 1, 3 or 4, on a canvas of their own size; CSS enlarges it.
function drawFrame(canvas, bytes, [height, width, channels]) {
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes[i * channels + (channels === 1 ? 0 : c)];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function drawLevels(canvas, bytes, [down, across]) {
  canvas.width = across; canvas.height = down;
  const image = new ImageData(across, down);
  for (let i = 0; i < down * across; i++) {
    colourOf(bytes[i]).forEach((value, c) => { image.data[4 * i + c] = value; });
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// A card with a picture, and under it what the model says.
function makePanel(onSelect, onClose) {
  const card = element("article", "panel"), head = element("h2"), name = element("span"), source = element("span", "source");
  const close = element("button", "", "×"), picture = element("div", "picture"), canvas = element("canvas", "frame"), over = element("div", "over");
  close.setAttribute("aria-label", "Let this future go");
  close.addEventListener("click", (event) => { event.stopPropagation(); onClose(); });
  card.addEventListener("click", onSelect);
  head.append(name, source, close);
  picture.append(canvas, over);
  const gauges = element("div", "gauges"), rows = {};
  for (const [kind, label] of [["reward", "Reward"], ["end", "End"], ["doubt", "Doubt"]]) {
    const bar = element("div", `gauge ${kind} of-${kind}`), fill = element("i"), value = element("output", `of-${kind}`);
    bar.append(fill);
    gauges.append(element("span", `of-${kind}`, label), kind === "reward" ? element("span", "of-reward") : bar, value);
    rows[kind] = { fill, value };
  }
  const memory = element("div", "memory of-memory");
  gauges.append(element("span", "of-memory", "Memory"), memory);
  card.append(head, picture, gauges);
  return { card, name, source, close, canvas, over, rows, memory };
}

const number = (value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2);
const SOURCES = { real: "real frame", dream: "dreamt", given: "given frame" };

function fillPanel(made, panel, bytes, closable) {
  const real = panel.number === null, { rows } = made;
  made.card.classList.toggle("real", real);
  made.card.classList.toggle("selected", panel.selected);
  made.card.classList.toggle("driven", panel.driven);
  made.card.dataset.line = panel.name;
  made.card.dataset.at = panel.at;
  made.name.textContent = panel.name;
  made.source.textContent = `${SOURCES[panel.source]} · step ${panel.at}`;
  made.close.hidden = real || !closable;
  made.canvas.setAttribute("role", "img");
  made.canvas.setAttribute("aria-label", `${made.name.textContent}, ${made.source.textContent}`);
  const said = panel.terminated ? "The episode has ended." : panel.truncated ? "The episode was cut." : panel.cut ? "The dream is at its horizon." : "";
  made.over.textContent = said;
  made.over.hidden = !said;
  rows.reward.value.textContent = `${number(panel.reward)}  Σ ${number(panel.total)}`;
  for (const kind of ["end", "doubt"]) {
    const value = panel[kind];
    rows[kind].fill.style.width = value === null ? "0" : `${100 * value}%`;
    rows[kind].value.textContent = value === null ? "–" : value.toFixed(2);
  }
  const [height, width, channels] = panel.shape;
  drawFrame(made.canvas, bytes, panel.shape);
  let offset = height * width * channels;
  while (made.memory.children.length > panel.levels.length) made.memory.lastChild.remove();
  panel.levels.forEach((shape, layer) => {
    const canvas = made.memory.children[layer] || made.memory.appendChild(element("canvas"));
    canvas.title = `Layer ${layer + 1}: how much each of its blocks remembers`;
    drawLevels(canvas, bytes.subarray(offset), shape);
    offset += shape[0] * shape[1];
  });
  return offset;
}

// As large as fits beside the others, in whole multiples of the frame's pixels.
function sizePanels(panels, place) {
  const count = panels.length, room = place.clientWidth, narrow = room < 620;
  const columns = Math.max(1, narrow ? Math.min(count, 2) : count > 4 ? 3 : count), gap = narrow ? 10 : 16;
  const wide = (room - gap * (columns - 1)) / columns - 26, high = Math.max(200, window.innerHeight * (count > columns ? 0.22 : 0.45));
  let used = 0;
  for (const { canvas } of panels) {
    const factor = Math.max(1, Math.floor(Math.min(wide / canvas.width, high / canvas.height)));
    canvas.style.width = `${factor * canvas.width}px`;
    canvas.style.height = `${factor * canvas.height}px`;
    used = Math.max(used, factor * canvas.width);
  }
  const card = Math.floor(narrow ? wide + 26 : Math.min(wide, Math.max(used, 236)) + 26);
  place.style.gridTemplateColumns = `repeat(${columns}, ${card}px)`;
}
