"use strict";

const [canvas, drop, file, button, video, list, state, failure] = [
  "canvas", "drop", "file", "camera", "video", "predictions", "status", "error",
].map((id) => document.getElementById(id));
const context = canvas.getContext("2d");
const whole = document.createElement("canvas"); // the picture in its own size, for the server to crop and resize
const limit = Number(canvas.dataset.limit); // of its pixels
let stream = null;
let last = 0; // if several pictures are on their way, only the answer to the last one is shown

async function classify(source, width, height) {
  const scale = Math.min(1, Math.sqrt(limit / (width * height)));
  [whole.width, whole.height] = [Math.max(1, Math.floor(scale * width)), Math.max(1, Math.floor(scale * height))];
  const drawing = whole.getContext("2d", { willReadFrequently: true });
  drawing.imageSmoothingQuality = "high";
  drawing.fillStyle = "white"; // under transparent pixels
  drawing.fillRect(0, 0, whole.width, whole.height);
  drawing.drawImage(source, 0, 0, whole.width, whole.height);
  const turn = ++last;
  const pixels = drawing.getImageData(0, 0, whole.width, whole.height).data;
  // As a blob, which developer tools do not write into their log with each request, as they do an array.
  const query = `classify?width=${whole.width}&height=${whole.height}`;
  const response = await fetch(query, { method: "POST", body: new Blob([pixels]) }).catch(() => {
    throw new Error("kresnet demo does not answer. Is it still running?");
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  if (turn === last) show(answer);
}

function show({ predictions, milliseconds, seen }) {
  const pixels = Uint8ClampedArray.from(atob(seen), (character) => character.charCodeAt(0));
  context.putImageData(new ImageData(pixels, canvas.width, canvas.height), 0, 0);
  drop.classList.add("filled");
  list.replaceChildren(...predictions.map(({ label, probability }) => {
    const percent = `${(100 * probability).toFixed(1)} %`;
    const item = document.createElement("li");
    for (const [kind, text] of [["label", label], ["number", percent], ["bar", ""]]) {
      const part = document.createElement("span");
      part.className = kind;
      part.textContent = text;
      item.append(part);
    }
    const bar = document.createElement("i");
    bar.style.width = percent.replace(" ", "");
    item.lastChild.append(bar);
    return item;
  }));
  state.textContent = `Computed in ${milliseconds.toFixed(1)} ms.`;
  failure.textContent = "";
}

function fail(error) {
  stop();
  last++;
  list.replaceChildren();
  state.textContent = "";
  failure.textContent = error.message;
}

async function picture(blob) {
  stop();
  const image = await createImageBitmap(blob).catch(() => {
    throw new Error(`${blob.name} cannot be read as a picture.`);
  });
  await classify(image, image.width, image.height);
  image.close();
}

async function watch() {
  if (!navigator.mediaDevices) throw new Error("This browser does not give pages access to a camera.");
  const own = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).catch((error) => {
    throw new Error(`No camera: ${error.message}.`);
  });
  stream = own;
  button.setAttribute("aria-pressed", "true");
  button.textContent = "Stop the camera";
  list.setAttribute("aria-live", "off");
  video.srcObject = own;
  await video.play();
  while (stream === own) {
    await classify(video, video.videoWidth, video.videoHeight);
    await new Promise(requestAnimationFrame);
  }
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  button.setAttribute("aria-pressed", "false");
  button.textContent = "Use the camera";
  list.setAttribute("aria-live", "polite");
}

file.addEventListener("change", () => {
  if (file.files.length) picture(file.files[0]).catch(fail);
  file.value = ""; // so that the same file can be chosen again
});
button.addEventListener("click", () => (stream ? stop() : watch().catch(fail)));
for (const kind of ["dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) picture(event.dataTransfer.files[0]).catch(fail);
  });
}
