"use strict";

const [canvas, drop, file, button, video, list, state, failure] = [
  "canvas", "drop", "file", "camera", "video", "predictions", "status", "error",
].map((id) => document.getElementById(id));
const context = canvas.getContext("2d", { willReadFrequently: true });
const crop = Number(canvas.dataset.crop);
let stream = null;
let last = 0; // if several pictures are on their way, only the answer to the last one is shown

async function classify(source, width, height) {
  const scale = crop * Math.min(width / canvas.width, height / canvas.height);
  const [w, h] = [Math.round(scale * canvas.width), Math.round(scale * canvas.height)];
  const [left, top] = [Math.floor((width - w) / 2), Math.floor((height - h) / 2)];
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // under transparent pixels
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, left, top, w, h, 0, 0, canvas.width, canvas.height);
  drop.classList.add("filled");
  const turn = ++last;
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const response = await fetch("classify", { method: "POST", body: pixels }).catch(() => {
    throw new Error("kresnet demo does not answer. Is it still running?");
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  if (turn === last) show(answer);
}

function show({ predictions, milliseconds }) {
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
