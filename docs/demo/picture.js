// The command line's processing around the network, on planes of numbers: noise, sizes, gamut.
// Planes of a large photo fill memory, so the steps at the photo's own size work in place.

const WORKING_SIDE = 512; // as pipelines/options.py
const LEAST_WORKING_SIDE = 256;

/** Python's round(): halves are rounded to even. */
function round(x) {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 ? below + 1 : below;
}

/** The size at which the network sees a photo. */
export function workingSize(width, height, stroke) {
  const longest = Math.max(width, height);
  const side = Math.min(Math.max(longest, LEAST_WORKING_SIDE), WORKING_SIDE);
  const scale = side / stroke / longest;
  return [width, height].map((side) => Math.max(1, round(side * scale)));
}

/** MT19937, as torch's generator on the CPU (Matsumoto and Nishimura, 1998). */
class Twister {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const last = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, last) + i;
    }
    this.at = 624;
  }

  next() {
    const s = this.state;
    if (this.at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
        s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.at = 0;
    }
    let y = s[this.at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  uniform() {
    return (this.next() & 0xffffff) / 0x1000000;
  }
}

/** torch.randn(count) of a seed: Box and Muller over blocks of 16; count of at least 16. */
export function normals(count, seed = 0) {
  const random = new Twister(seed);
  const x = new Float32Array(count);
  for (let i = 0; i < count; i++) x[i] = random.uniform();
  const turn = (start) => {
    for (let i = start; i < start + 8; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - x[i]));
      const angle = 2 * Math.PI * x[i + 8];
      x[i] = radius * Math.cos(angle);
      x[i + 8] = radius * Math.sin(angle);
    }
  };
  for (let start = 0; start + 16 <= count; start += 16) turn(start);
  if (count % 16) {
    for (let i = count - 16; i < count; i++) x[i] = random.uniform();
    turn(count - 16);
  }
  return x;
}

/** Weights of each new place: torch's bicubic interpolation with antialiasing. */
function weights(from, to) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const cubic = (x) => {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  };
  return Array.from({ length: to }, (_, place) => {
    const center = scale * (place + 0.5);
    const first = Math.max(Math.trunc(center - 2 * stretch + 0.5), 0);
    const end = Math.min(Math.trunc(center + 2 * stretch + 0.5), from);
    const values = [];
    for (let i = first; i < end; i++) values.push(cubic((i - center + 0.5) / stretch));
    const sum = values.reduce((a, b) => a + b, 0);
    return { first, values: values.map((value) => value / sum) };
  });
}

/** Planes in another size. */
export function resize(planes, width, height, newWidth, newHeight) {
  if (width === newWidth && height === newHeight) return planes;
  const count = planes.length / (width * height);
  const columns = weights(width, newWidth);
  const rows = weights(height, newHeight);
  const narrow = new Float32Array(count * height * newWidth);
  for (let row = 0; row < count * height; row++) {
    for (let x = 0; x < newWidth; x++) {
      const { first, values } = columns[x];
      let sum = 0;
      for (let i = 0; i < values.length; i++) sum += values[i] * planes[row * width + first + i];
      narrow[row * newWidth + x] = sum;
    }
  }
  const out = new Float32Array(count * newHeight * newWidth);
  for (let plane = 0; plane < count; plane++) {
    for (let y = 0; y < newHeight; y++) {
      const { first, values } = rows[y];
      const line = (plane * newHeight + y) * newWidth;
      for (let i = 0; i < values.length; i++) {
        const source = (plane * height + first + i) * newWidth;
        for (let x = 0; x < newWidth; x++) out[line + x] += values[i] * narrow[source + x];
      }
    }
  }
  return out;
}

/** Rec. 709 luma of one pixel of three planes. */
function lumaAt(planes, i) {
  const size = planes.length / 3;
  return 0.2126 * planes[i] + 0.7152 * planes[i + size] + 0.0722 * planes[i + 2 * size];
}

/** Rec. 709 luma of three planes. */
function luma(planes) {
  return planes.subarray(0, planes.length / 3).map((_, i) => lumaAt(planes, i));
}

const RADIUS = 3; // as pipelines/enlarge.py, where the numbers are explained
const EPSILON = 1e-3;
const STEEPEST = 1.5;

/** Means over windows of a plane. */
function means(plane, width, height) {
  const out = new Float32Array(plane.length);
  for (let y = 0; y < height; y++) {
    const [top, bottom] = [Math.max(y - RADIUS, 0), Math.min(y + RADIUS, height - 1)];
    for (let x = 0; x < width; x++) {
      const [left, right] = [Math.max(x - RADIUS, 0), Math.min(x + RADIUS, width - 1)];
      let sum = 0;
      for (let v = top; v <= bottom; v++) {
        for (let u = left; u <= right; u++) sum += plane[v * width + u];
      }
      out[y * width + x] = sum / ((bottom - top + 1) * (right - left + 1));
    }
  }
  return out;
}

/** A picture at the photo's size, with the photo's details: pipelines/enlarge.py's enlarge. */
export function enlarge(picture, small, w, h, photo, width, height) {
  const [seen, painted] = [luma(small), luma(picture)];
  const mean = (values) => means(values, w, h);
  const [level, paint, together, square] = [
    mean(seen),
    mean(painted),
    mean(seen.map((value, i) => value * painted[i])),
    mean(seen.map((value) => value * value)),
  ];
  const slopes = level.map((value, i) => {
    const spread = Math.max(square[i] - value * value, 0);
    const slope = (together[i] - value * paint[i]) / (spread + EPSILON);
    return Math.min(Math.max(slope, -STEEPEST), STEEPEST);
  });
  const gain = resize(slopes, w, h, width, height);
  const blurred = resize(seen, w, h, width, height);
  const out = resize(picture, w, h, width, height);
  const size = width * height;
  for (let i = 0; i < size; i++) {
    const detail = (lumaAt(photo, i) - blurred[i]) * gain[i];
    for (let plane = 0; plane < 3; plane++) out[i + plane * size] += detail;
  }
  return out;
}

const TOE = 0.03; // as models/gamut.py, where the numbers are explained
const KNEE = 0.9;
const WHITE = 253.4 / 255;

/** Draws colors from outside into sRGB, in place: models/gamut.py's into_gamut. */
export function intoGamut(planes) {
  const size = planes.length / 3;
  for (let i = 0; i < size; i++) {
    const pixel = [planes[i], planes[i + size], planes[i + 2 * size]];
    const bright = (pixel[0] + pixel[1] + pixel[2]) / 3;
    const toe = TOE ** 2 / (2 * TOE - Math.min(bright, TOE));
    const light = Math.min(toe + Math.max(bright - TOE, 0), 1);
    let part = 0;
    for (const value of pixel) {
      const color = value - bright;
      const room = Math.max(color > 0 ? Math.max(WHITE - light, 0) : light, 1e-4);
      part = Math.max(part, Math.abs(color) / room);
    }
    const beyond = Math.max(part - KNEE, 0);
    const compressed = Math.min(part, KNEE) + ((1 - KNEE) * beyond) / (beyond + 1 - KNEE);
    const factor = compressed / Math.max(part, 1e-6);
    for (let plane = 0; plane < 3; plane++) {
      const value = light + (pixel[plane] - bright) * factor;
      planes[i + plane * size] = Math.min(Math.max(value, 0), 1);
    }
  }
  return planes;
}

const CELLS = 64; // as pipelines/compose.py, where the numbers are explained
const SATURATION = [0.8, 2.5];
const FAINT = 0.03;

/** Planes in a smaller size, by means over areas: torch's adaptive_avg_pool2d. */
function pool(planes, width, height, w, h) {
  const span = (place, to, from) => [Math.floor((place * from) / to), Math.ceil(((place + 1) * from) / to)];
  const size = width * height;
  return Float32Array.from({ length: (planes.length / size) * w * h }, (_, i) => {
    const [left, right] = span(i % w, w, width);
    const [top, bottom] = span(Math.floor(i / w) % h, h, height);
    const start = Math.floor(i / (w * h)) * size;
    let sum = 0;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) sum += planes[start + y * width + x];
    }
    return sum / ((bottom - top) * (right - left));
  });
}

/** A plane in a larger size, bilinearly. */
function stretch(plane, w, h, width, height) {
  const between = (place, from, to) => {
    const at = Math.max(((place + 0.5) * from) / to - 0.5, 0);
    const first = Math.min(Math.floor(at), from - 1);
    return [first, Math.min(first + 1, from - 1), at - first];
  };
  const out = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    const [top, bottom, down] = between(y, h, height);
    for (let x = 0; x < width; x++) {
      const [left, right, aside] = between(x, w, width);
      const [upper, lower] = [top, bottom].map(
        (row) => plane[row * w + left] * (1 - aside) + plane[row * w + right] * aside,
      );
      out[y * width + x] = upper * (1 - down) + lower * down;
    }
  }
  return out;
}

/** Color differences of three planes from their luma. */
function differences(planes) {
  const light = luma(planes);
  return planes.map((value, i) => value - light[i % light.length]);
}

const GRID = 24;
const DIM = 1.3;
const MOST_CONTRAST = 2;

/** Raises the contrast of a dim picture, in place: pipelines/compose.py's lift_contrast. */
export function liftContrast(picture, photo, width, height, share) {
  const [light, wanted] = [picture, photo].map((planes) =>
    luma(pool(planes, width, height, GRID, GRID)),
  );
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const spread = (values) => {
    const middle = mean(values);
    const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
    return Math.sqrt(squares / (values.length - 1) + 1e-6);
  };
  const ratio = spread(wanted) / spread(light) / DIM;
  const gain = Math.min(Math.max(ratio, 1), MOST_CONTRAST) ** share;
  if (gain === 1) return picture;
  const before = mean(light);
  const part = share * Math.min(2 * (gain - 1), 1);
  const after = before + part * Math.max(mean(wanted) - before, 0);
  for (let i = 0; i < picture.length; i++) {
    picture[i] = Math.min(Math.max(after + gain * (picture[i] - before), 0), 1);
  }
  return picture;
}

/** Mixes a share of the photo's colors into the picture, in place: pipelines/compose.py's mix_color. */
export function mixColor(picture, photo, width, height, share) {
  const scale = Math.min(1, CELLS / Math.max(width, height));
  const [w, h] = [width, height].map((side) => Math.max(1, round(side * scale)));
  const [own, other] = [picture, photo].map((planes) =>
    differences(pool(planes, width, height, w, h)),
  );
  const strength = (planes) => planes.reduce((sum, v) => sum + Math.abs(v), 0) / planes.length;
  const ratio = (strength(own) + 1e-3) / (strength(other) + 1e-3);
  const gain = Math.min(Math.max(ratio, SATURATION[0]), SATURATION[1]);
  const dot = (a, b, i) => [0, 1, 2].reduce((sum, p) => sum + a[p * w * h + i] * b[p * w * h + i], 0);
  const length = (planes, i) => Math.max(Math.sqrt(dot(planes, planes, i)), FAINT);
  const parts = Float32Array.from({ length: w * h }, (_, i) => {
    const agreement = dot(own, other, i) / (length(own, i) * length(other, i));
    return Math.min(share * (1 - agreement / 2), 1);
  });
  const part = stretch(parts, w, h, width, height);
  const size = width * height;
  for (let i = 0; i < size; i++) {
    const [before, after] = [lumaAt(picture, i), lumaAt(photo, i)];
    for (let at = i; at < picture.length; at += size) {
      const change = gain * (photo[at] - after) - (picture[at] - before);
      picture[at] = Math.min(Math.max(picture[at] + part[i] * change, 0), 1);
    }
  }
  return picture;
}

const BLOCKS = 96; // as pipelines/pixelate.py, where the numbers are explained
const LIGHT = 1 / 8;
const COLOR = 1 / 16;
const STEEP = 6;

/** Rounds to multiples of a step, but continuously. */
function inSteps(value, step) {
  const nearest = round(value / step) * step;
  const rest = value - nearest;
  const beyond = Math.max(Math.abs(rest) - (step / 2) * (1 - 1 / STEEP), 0);
  return nearest + STEEP * Math.sign(rest) * beyond;
}

/** Square blocks of one color each: pipelines/pixelate.py's pixelate. */
export function pixelate(picture, width, height, stroke) {
  const scale = Math.min(1, BLOCKS / stroke / Math.max(width, height));
  const [w, h] = [width, height].map((side) => Math.max(1, round(side * scale)));
  const blocks = pool(picture, width, height, w, h);
  const light = luma(blocks);
  for (let i = 0; i < blocks.length; i++) {
    const own = light[i % light.length];
    const value = inSteps(own, LIGHT) + inSteps(blocks[i] - own, COLOR);
    blocks[i] = Math.min(Math.max(value, 0), 1);
  }
  const out = new Float32Array(picture.length);
  for (let i = 0, plane = 0; plane < 3; plane++) {
    for (let y = 0; y < height; y++) {
      const row = (plane * h + Math.floor(((y + 0.5) * h) / height)) * w;
      for (let x = 0; x < width; x++) out[i++] = blocks[row + Math.floor(((x + 0.5) * w) / width)];
    }
  }
  return out;
}

/** RGBA bytes to three planes in [0, 1]. */
export function toPlanes(bytes) {
  const size = bytes.length / 4;
  const planes = new Float32Array(3 * size);
  for (let i = 0; i < size; i++) {
    for (let plane = 0; plane < 3; plane++) planes[plane * size + i] = bytes[4 * i + plane] / 255;
  }
  return planes;
}

/** RGBA bytes of photo + strength (picture - photo), with the photo's transparency. */
export function blend(bytes, picture, strength) {
  const size = bytes.length / 4;
  const out = new Uint8ClampedArray(bytes);
  for (let i = 0; i < size; i++) {
    for (let plane = 0; plane < 3; plane++) {
      const before = bytes[4 * i + plane];
      out[4 * i + plane] = before + strength * (255 * picture[plane * size + i] - before);
    }
  }
  return out;
}
