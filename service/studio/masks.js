// Masks: one byte per pixel of the picture, never changed once made. Pictures of them are made when first asked for.

export class Mask {
  #canvases = new Map();
  #base64 = null;

  constructor(width, height, bits) {
    Object.assign(this, { width, height, bits });
    this.box = boxOf(bits, width, height); // [x0, y0, x1, y1), null where it is empty
    this.anchor = this.box && middleOf(this);
    Object.freeze(this);
  }

  has([x, y]) {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    const inside = column >= 0 && row >= 0 && column < this.width && row < this.height;
    return inside && this.bits[row * this.width + column] === 1;
  }

  /** The mask in one colour, transparent elsewhere. */
  tinted(color) {
    if (!this.#canvases.has(color)) this.#canvases.set(color, this.#paint(color));
    return this.#canvases.get(color);
  }

  /** Its border pixels in one colour. */
  outlined(color) {
    const key = `border ${color}`;
    if (!this.#canvases.has(key)) this.#canvases.set(key, this.#paint(color, borderOf(this)));
    return this.#canvases.get(key);
  }

  /** What the mask shows of a picture, cut to its box. */
  cut(bitmap) {
    if (!this.#canvases.has(bitmap)) {
      const [x0, y0, x1, y1] = this.box;
      const canvas = new OffscreenCanvas(x1 - x0, y1 - y0);
      const context = canvas.getContext("2d");
      context.drawImage(this.tinted("#fff"), -x0, -y0);
      context.globalCompositeOperation = "source-in";
      context.drawImage(bitmap, -x0, -y0, this.width, this.height);
      this.#canvases.set(bitmap, canvas);
    }
    return this.#canvases.get(bitmap);
  }

  /** Base64 of a black and white PNG, as requests carry it. */
  async base64() {
    if (this.#base64 === null) {
      const canvas = new OffscreenCanvas(this.width, this.height);
      const context = canvas.getContext("2d");
      context.fillRect(0, 0, this.width, this.height);
      context.drawImage(this.tinted("#fff"), 0, 0);
      this.#base64 = await toBase64(await canvas.convertToBlob({ type: "image/png" }));
    }
    return this.#base64;
  }

  /** A new mask with a stroke painted or erased. */
  brushed(points, radius, value) {
    const bits = this.bits.slice();
    points.forEach((to, i) => {
      const from = points[Math.max(i - 1, 0)];
      const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / Math.max(radius / 2, 0.5)));
      for (let step = 1; step <= steps; step++) {
        const t = step / steps;
        dab(bits, this.width, this.height, from[0] + (to[0] - from[0]) * t, from[1] + (to[1] - from[1]) * t, radius, value);
      }
    });
    return new Mask(this.width, this.height, bits);
  }

  #paint(color, bits = this.bits) {
    const canvas = new OffscreenCanvas(this.width, this.height);
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(this.width, this.height);
    const [r, g, b] = rgb(color);
    const packed = new Uint32Array(pixels.data.buffer);
    const value = (255 << 24) | (b << 16) | (g << 8) | r;
    for (let i = 0; i < bits.length; i++) if (bits[i]) packed[i] = value;
    context.putImageData(pixels, 0, 0);
    return canvas;
  }
}

export const blank = (width, height) => new Mask(width, height, new Uint8Array(width * height));

/** The mask that a PNG file of the picture's size shows: a pixel of 128 or more counts. */
export async function fromBlob(blob, width, height) {
  const bitmap = await createImageBitmap(blob);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return new Mask(width, height, Uint8Array.from({ length: width * height }, (_, i) => (data[4 * i] >= 128 ? 1 : 0)));
}

export async function fromBase64(text, width, height) {
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  return fromBlob(new Blob([bytes], { type: "image/png" }), width, height);
}

export async function toBase64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

function dab(bits, width, height, x, y, radius, value) {
  const [top, bottom] = [Math.max(0, Math.ceil(y - radius)), Math.min(height - 1, Math.floor(y + radius))];
  for (let row = top; row <= bottom; row++) {
    const half = Math.sqrt(Math.max(radius * radius - (row - y) ** 2, 0));
    const [left, right] = [Math.max(0, Math.ceil(x - half)), Math.min(width - 1, Math.floor(x + half))];
    if (left <= right) bits.fill(value, row * width + left, row * width + right + 1);
  }
}

function boxOf(bits, width, height) {
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!bits[i]) continue;
      if (x < x0) x0 = x;
      if (x >= x1) x1 = x + 1;
      if (y < y0) y0 = y;
      y1 = y + 1;
    }
  }
  return x1 ? [x0, y0, x1, y1] : null;
}

function borderOf({ bits, width, height }) {
  const border = new Uint8Array(bits.length);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const inner = x && y && x < width - 1 && y < height - 1 && bits[i - 1] && bits[i + 1] && bits[i - width] && bits[i + width];
      border[i] = bits[i] && !inner ? 1 : 0;
    }
  }
  return border;
}

/** The middle of mass, or the pixel of the mask that is nearest to it. */
function middleOf({ bits, width, box: [x0, y0, x1, y1] }) {
  let [sx, sy, n] = [0, 0, 0];
  const each = (visit) => {
    for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) if (bits[y * width + x]) visit(x, y);
  };
  each((x, y) => ((sx += x), (sy += y), n++));
  const middle = [sx / n, sy / n];
  let best = [Infinity, middle];
  each((x, y) => {
    const off = (x - middle[0]) ** 2 + (y - middle[1]) ** 2;
    if (off < best[0]) best = [off, [x, y]];
  });
  return best[1];
}

function rgb(color) {
  const hex = color.length === 4 ? [...color.slice(1)].map((c) => c + c) : color.slice(1).match(/../g);
  return hex.map((pair) => parseInt(pair, 16));
}
