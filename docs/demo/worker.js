// The network, on a thread of its own: the page stays responsive. Messages in: {photo}, {paint}.

import {
  blend, enlarge, intoGamut, liftContrast, mixColor, normals, pixelate, resize, toPlanes, workingSize,
} from "./picture.js";

const model = await (await fetch("model.json")).json();
const points = new Float32Array(await (await fetch("styles.bin")).arrayBuffer());
let photo = null; // {bytes, width, height}, and its planes once it is painted
let painted = null; // {key, picture}, so that the strength alone needs no second run
let chain = Promise.resolve();

/** The styled planes that a session draws at the network's own size. */
async function run(ort, session, planes, width, height, style, stroke) {
  const cells = 8 / model.noise_stride;
  const places = [height, width].map((side) => cells * Math.ceil((side + 2 * model.margin) / 8));
  const noise = normals(model.noise * places[0] * places[1]);
  const point = points.slice(style * model.style_dim, (style + 1) * model.style_dim);
  const given = {
    photo: new ort.Tensor("float32", planes, [1, 3, height, width]),
    noise: new ort.Tensor("float32", noise, [1, model.noise, ...places]),
    style: new ort.Tensor("float32", point, [1, model.style_dim]),
    stroke: new ort.Tensor("float32", [stroke], [1]),
  };
  const { picture } = await session.run(given);
  return await picture.getData();
}

/** A session on the GPU where that is faster and draws the same, else one on the processor. */
async function open() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const ort = await import(adapter ? "./ort/ort.webgpu.min.mjs" : "./ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
  const file = new Uint8Array(await (await fetch("stylizer.onnx")).arrayBuffer());
  const create = (name) => ort.InferenceSession.create(file, { executionProviders: [name] });
  const threads = ort.env.wasm.numThreads;
  const wasm = {
    ort,
    session: await create("wasm"),
    engine: `wasm, ${threads} thread${threads > 1 ? "s" : ""}`,
  };
  if (!adapter) return wasm;
  try {
    const gpu = { ort, session: await create("webgpu"), engine: "WebGPU" };
    const gray = Float32Array.from({ length: 3 * 128 * 128 }, (_, i) => (i % 251) / 250);
    const times = [];
    const results = [];
    for (const { session } of [wasm, gpu]) {
      await run(ort, session, gray, 128, 128, 0, 1); // the first run is a warm-up
      const begun = performance.now();
      results.push(await run(ort, session, gray, 128, 128, 0, 1));
      times.push(performance.now() - begun);
    }
    const differs = results[0].some((value, i) => !(Math.abs(value - results[1][i]) < 1 / 255));
    const [kept, dropped] = !differs && times[1] < times[0] ? [gpu, wasm] : [wasm, gpu];
    await dropped.session.release();
    return kept;
  } catch (error) {
    console.warn("WebGPU can't run this network:", error);
    return wasm;
  }
}

async function paint(opened, { style, stroke, strength }) {
  const { bytes, width, height } = photo;
  const key = `${style} ${stroke}`;
  const begun = performance.now();
  if (painted?.key !== key && strength > 0) {
    painted = null; // frees its memory for the next one
    const planes = (photo.planes ??= toPlanes(bytes));
    const [w, h] = workingSize(width, height, stroke);
    const small = resize(planes, width, height, w, h);
    let picture = await run(opened.ort, opened.session, small, w, h, style, stroke);
    if (w !== width || h !== height) {
      picture = enlarge(picture, small, w, h, planes, width, height);
    }
    picture = intoGamut(picture);
    const { photo_color: share, pixelated } = model.styles[style];
    if (share) {
      picture = liftContrast(picture, planes, width, height, share);
      picture = mixColor(picture, planes, width, height, share);
    }
    if (pixelated >= 0.5) picture = pixelate(picture, width, height, stroke);
    painted = { key, picture };
  }
  const out = strength > 0 ? blend(bytes, painted.picture, strength) : bytes.slice();
  const seconds = (performance.now() - begun) / 1000;
  return { bytes: out, width, height, seconds, engine: opened.engine };
}

const opening = open();
opening.then(
  ({ engine }) => postMessage({ ready: model.styles, engine }),
  (error) => postMessage({ failed: `The network can't be loaded: ${error.message}` }),
);

onmessage = ({ data }) => {
  chain = chain.then(async () => {
    if (data.photo) {
      photo = data.photo;
      painted = null;
      return;
    }
    try {
      const picture = await paint(await opening, data.paint);
      postMessage({ id: data.id, picture }, [picture.bytes.buffer]);
    } catch (error) {
      const reason = error instanceof RangeError ? "not enough memory for its size" : error.message;
      postMessage({ id: data.id, failed: `The photo can't be restyled: ${reason}` });
    }
  });
};
postMessage({ listening: true }); // messages before a module's top-level await are lost
