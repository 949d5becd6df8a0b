"use strict";
// Draws the step and frame that the sliders choose. All pictures are in the page.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const sheets = new Map();
let timer = 0;

function sheet(address) {
  if (!sheets.has(address)) {
    const image = new Image();
    image.onload = draw;
    image.src = address;
    sheets.set(address, image);
  }
  return sheets.get(address);
}

// A sheet holds the frames of a film in rows of data.columns.
function place(canvas, address, frame) {
  const panel = canvas.closest("figure");
  if (panel) panel.hidden = !address && !data.steps.some((step) => step[canvas.id]);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!address) return;
  const image = sheet(address);
  if (!image.complete || !image.naturalWidth) return;
  const rows = Math.ceil(data.frames / data.columns);
  const wide = image.naturalWidth / data.columns, tall = image.naturalHeight / rows;
  canvas.width = wide;
  canvas.height = tall;
  context.drawImage(image, (frame % data.columns) * wide, Math.floor(frame / data.columns) * tall, wide, tall, 0, 0, wide, tall);
}

const stops = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
function colour(value) {
  const at = (value / 255) * (stops.length - 1), first = Math.min(Math.floor(at), stops.length - 2);
  return stops[first].map((low, i) => low + (stops[first + 1][i] - low) * (at - first));
}

const heat = data.heat && Uint8Array.from(atob(data.heat.values), (letter) => letter.charCodeAt(0));
function drawHeat(step, frame) {
  const canvas = $("film");
  place(canvas, data.steps[step].x0, frame);
  const chosen = document.querySelector("input[name=word]:checked");
  if (!heat || !chosen || chosen.value === "") return;
  const { steps, height, width } = data.heat, words = data.words.length, cells = height * width;
  const all = $("mean").checked;
  // The steps that have maps; the mean over all steps is the last one.
  let near = 0;
  steps.forEach((each, i) => { if (Math.abs(each - step) < Math.abs(steps[near] - step)) near = i; });
  const begin = (((all ? steps.length : near) * words + Number(chosen.value)) * data.frames + frame) * cells;
  const map = new OffscreenCanvas(width, height), pixels = new ImageData(width, height);
  for (let i = 0; i < cells; i++) pixels.data.set([...colour(heat[begin + i]), 255], 4 * i);
  map.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.save();
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.globalAlpha = 0.65;
  context.drawImage(map, 0, 0, canvas.width, canvas.height);
  context.restore();
}

function draw() {
  const step = Number($("step").value), frame = Number($("frame").value), now = data.steps[step];
  $("step-now").textContent = `${now.index} of ${data.total}`;
  $("frame-now").textContent = `${data.numbers[frame]} of ${data.num_frames}`;
  $("level").textContent = now.level;
  for (const name of ["x_t", "x0", "x_t_latents", "noise"]) place($(name), now[name], frame);
  if ($("film")) drawHeat(step, frame);
}

function play() {
  const playing = timer !== 0;
  clearInterval(timer);
  timer = 0;
  if (!playing) {
    timer = setInterval(() => {
      $("frame").value = (Number($("frame").value) + 1) % data.frames;
      draw();
    }, 1000 / data.fps);
  }
  $("play").textContent = timer ? "Pause" : "Play";
}

for (const name of ["step", "frame"]) $(name).addEventListener("input", draw);
for (const each of document.querySelectorAll("input[name=word], #mean")) each.addEventListener("input", draw);
$("play").addEventListener("click", play);
for (const step of data.steps) for (const name of ["x_t", "x0", "x_t_latents", "noise"]) if (step[name]) sheet(step[name]);
draw();
