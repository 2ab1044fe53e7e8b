// The page: photo, options, before/after view, PNG download. worker.js does the work.

const MAX_PIXELS = 40e6;
const $ = (id) => document.getElementById(id);
let photo = null; // {name, width, height}
let newest = null; // the file dropped last
let busy = false;
let wanted = false; // something changed while the network ran
let address = null; // of the PNG

// Threads need two headers. Where the host does not send them, a service worker adds them.
if (!crossOriginIsolated && navigator.serviceWorker && !navigator.serviceWorker.controller) {
  await navigator.serviceWorker.register("headers.js").catch(() => null);
  navigator.serviceWorker.addEventListener("controllerchange", () => {
    if (!photo) location.reload();
  });
}

const worker = new Worker("worker.js", { type: "module" });
const listening = new Promise((resolve) => {
  worker.addEventListener("message", ({ data }) => data.listening && resolve());
});
let isReady = false;

function fail(words) {
  $("error").textContent = words;
  $("error").hidden = !words;
  if (words) $("status").textContent = "";
}

worker.onerror = (event) => fail(`The network can't be loaded: ${event.message ?? "no worker"}`);
worker.onmessage = ({ data }) => {
  if (data.ready) {
    const families = Map.groupBy
      ? Map.groupBy(data.ready.keys(), (i) => data.ready[i].family)
      : data.ready.reduce(
          (map, { family }, i) => map.set(family, [...(map.get(family) ?? []), i]), new Map());
    for (const [family, members] of families) {
      const group = document.createElement("optgroup");
      group.label = family;
      group.append(...members.map((i) => new Option(data.ready[i].name, i)));
      $("style").append(group);
    }
    isReady = true;
    $("status").textContent = `Ready (${data.engine}).`;
    update();
  } else if (data.id) {
    busy = false;
    document.body.removeAttribute("aria-busy");
    if (wanted || data.id !== photo.id) update();
    else if (data.failed) fail(data.failed);
    else show(data.picture);
  } else if (data.failed) {
    fail(data.failed);
  }
};

function update() {
  if (!photo || !isReady) return;
  wanted = busy;
  if (busy) return;
  busy = true;
  fail("");
  offer(null);
  document.body.setAttribute("aria-busy", "true");
  $("status").textContent = "Restyling…";
  const paint = {
    style: Number($("style").value),
    stroke: Number($("stroke").value),
    strength: Number($("strength").value),
  };
  worker.postMessage({ id: photo.id, paint });
}

function draw(canvas, bytes, width, height) {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(bytes, width, height), 0, 0);
}

function show({ bytes, width, height, seconds, engine }) {
  draw($("after"), bytes, width, height);
  compare();
  $("compare-row").hidden = false;
  $("status").textContent = `Done in ${seconds.toFixed(2)} s (${engine}).`;
  const shown = photo;
  $("after").toBlob((blob) => {
    if (blob && shown === photo && !busy) offer(blob);
  }, "image/png");
}

function offer(blob) {
  if (address) URL.revokeObjectURL(address);
  address = blob && URL.createObjectURL(blob);
  const link = $("download");
  link.setAttribute("aria-disabled", String(!blob));
  if (!blob) return link.removeAttribute("href");
  link.href = address;
  const style = $("style").selectedOptions[0].text.replaceAll(" ", "-");
  link.download = `${photo.name}-${style}.png`;
}

function compare() {
  const part = Number($("compare").value);
  $("after").style.clipPath = `inset(0 0 0 ${part}%)`;
  $("compare").ariaValueText = part ? `${part} % of the width shows the photo` : "all after";
}

async function take(file) {
  if (!file) return;
  fail("");
  newest = file;
  let image;
  try {
    image = await createImageBitmap(file, { premultiplyAlpha: "none" });
  } catch {
    return fail(`This browser can't read ${file.name} as a picture. JPEG, PNG and WebP work.`);
  }
  if (file !== newest) return; // another one was dropped while this one was read
  const { width, height } = image;
  if (width * height > MAX_PIXELS) {
    return fail(`${file.name} has ${Math.ceil((width * height) / 1e6)} million pixels, more than `
      + `the ${MAX_PIXELS / 1e6} million that this page takes.`);
  }
  const canvas = $("before").cloneNode(); // the photo before stays if this one fails
  canvas.width = width;
  canvas.height = height;
  let data;
  try {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    ({ data } = context.getImageData(0, 0, width, height));
  } catch {
    return fail(`${file.name} needs more memory than this browser has. Try a smaller picture.`);
  }
  image.close();
  $("before").replaceWith(canvas);
  photo = { id: (photo?.id ?? 0) + 1, name: file.name.replace(/\.[^.]*$/, ""), width, height };
  $("after").width = $("after").height = 0;
  $("compare-row").hidden = $("stage").hidden = true;
  $("stage").hidden = false;
  if ($("drop").contains(document.activeElement)) $("style").focus(); // the focus would be lost
  $("drop").hidden = true;
  $("again").disabled = false;
  offer(null);
  await listening;
  worker.postMessage({ photo: { bytes: data, width, height } }, [data.buffer]);
  update();
}

$("file").addEventListener("change", () => {
  take($("file").files[0]);
  $("file").value = "";
});
$("again").addEventListener("click", () => $("file").click());
for (const name of ["strength", "stroke"]) {
  $(name).addEventListener("input", () => ($(`${name}-value`).textContent = $(name).value));
  $(name).addEventListener("change", update);
}
$("style").addEventListener("change", update);
$("compare").addEventListener("input", compare);
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
});
