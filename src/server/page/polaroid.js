// A picture on instant film: it develops while it is made, and has its recipe on the back.

import { draw } from "./qr.js";
import { t } from "./text.js";

/** Side of the canvas that a picture is drawn on, in pixels. */
const SIDE = 640;
/** How long each preview is seen at least, so that a fast device still shows how a picture comes about. */
const FRAME_MS = 240;

export const stillness = matchMedia("(prefers-reduced-motion: reduce)");

export class Polaroid {
  /** Fills `element`, an empty figure. */
  constructor(element) {
    this.element = element;
    element.classList.add("polaroid");
    element.innerHTML = `<div class="film"><div class="front"><div class="photo"><canvas></canvas><canvas></canvas>
      <div class="emulsion"></div><svg class="mark" aria-hidden="true"><use href="#icon-flame"></use></svg></div>
      <figcaption><span class="caption"></span></figcaption></div>
      <div class="back" aria-hidden="true"><canvas class="code"></canvas><p class="note"></p><dl></dl></div></div>`;
    this.layers = [...element.querySelectorAll(".photo canvas")];
    for (const layer of this.layers) {
      layer.width = layer.height = SIDE;
      layer.getContext("2d", { willReadFrequently: true });
    }
    this.top = 0;
    this.frames = [];
    this.turn = 0;
    this.clear();
  }

  clear() {
    this.turn += 1;
    this.frames = [];
    this.busy = false;
    this.bitmap = null;
    this.still();
    for (const layer of this.layers) {
      layer.getContext("2d").clearRect(0, 0, SIDE, SIDE);
      layer.classList.remove("shown");
    }
    this.turnOver(false);
    this.element.classList.remove("done", "sticker", "developing");
    this.element.classList.add("blank");
    this.caption("");
    this.develop(0);
  }

  caption(words) {
    this.element.querySelector(".caption").textContent = words;
  }

  describe(words) {
    this.layers[0].parentElement.setAttribute("role", "img");
    this.layers[0].parentElement.setAttribute("aria-label", words);
  }

  /** From 0, nothing to be seen, to 1. */
  develop(share) {
    this.element.style.setProperty("--developed", String(share));
  }

  begin(words) {
    this.clear();
    this.caption(words);
    this.describe(t("developing", { prompt: words }));
    this.element.classList.remove("blank");
    this.element.classList.add("developing");
  }

  /** Shows a preview, after those before it; `share` is how much of the picture is made. */
  preview(blob, share) {
    this.frames.push({ blob, share });
    this.play();
  }

  /** Shows the finished picture, once the previews were seen. Resolves when it is to be seen. */
  finish(blob, words) {
    return new Promise((resolve) => {
      this.frames = this.frames.slice(-4);
      this.frames.push({ blob, share: 1, last: true, resolve });
      this.describe(words);
      this.play();
    });
  }

  /** Shows a picture that was made before, at once. */
  async show(blob, words) {
    this.clear();
    this.caption(words);
    this.describe(words);
    this.element.classList.remove("blank");
    this.paint(await createImageBitmap(blob));
    this.element.classList.add("done");
    this.develop(1);
    await this.move(blob);
  }

  /** Lets a clip play over its first frame, unless the visitor asked for stillness. */
  async move(blob) {
    const turn = this.turn;
    if (stillness.matches || !(await isClip(blob)) || turn !== this.turn) return;
    this.still();
    this.clip = Object.assign(new Image(), { src: URL.createObjectURL(blob), alt: "" });
    await this.clip.decode().catch(() => this.still());
    if (!this.clip || turn !== this.turn) return;
    this.layers[0].after(this.clip);
    for (const layer of this.layers) layer.classList.remove("shown");
  }

  /** Takes the clip away. */
  still() {
    if (!this.clip) return;
    URL.revokeObjectURL(this.clip.src);
    this.clip.remove();
    this.clip = null;
  }

  async play() {
    if (this.busy) return;
    this.busy = true;
    const turn = this.turn;
    while (this.frames.length && turn === this.turn) {
      const frame = this.frames.shift();
      try {
        const bitmap = await createImageBitmap(frame.blob);
        if (turn !== this.turn) return;
        this.paint(bitmap);
        this.develop(frame.last ? 1 : 0.3 + 0.5 * frame.share);
        if (frame.last) {
          this.element.classList.remove("developing");
          this.element.classList.add("done");
          await this.move(frame.blob);
        }
      } catch (error) {
        // A preview that cannot be read is left out; the picture itself is told of.
        if (frame.last) console.warn(error);
      }
      frame.resolve?.();
      if (!frame.last && !stillness.matches) await new Promise((resolve) => setTimeout(resolve, FRAME_MS));
    }
    if (turn === this.turn) this.busy = false;
  }

  /** Lays `bitmap` over what is shown. */
  paint(bitmap) {
    this.bitmap = bitmap;
    const below = this.layers[this.top];
    this.top = 1 - this.top;
    const layer = this.layers[this.top];
    const { sticker, colour } = enlarge(layer, bitmap);
    this.element.classList.toggle("sticker", sticker);
    if (colour) {
      for (const element of [this.element, this.element.closest(".stage")]) {
        element?.style.setProperty("--hue", String(colour.hue));
        element?.style.setProperty("--vivid", String(colour.vivid));
      }
    }
    layer.classList.add("shown");
    below.classList.remove("shown");
  }

  /** Writes the back: facts as pairs of words, and what the square code says. */
  recipe(facts, code, note) {
    const terms = facts.flatMap(([name, value]) => {
      const dt = Object.assign(document.createElement("dt"), { textContent: name });
      return [dt, Object.assign(document.createElement("dd"), { textContent: value })];
    });
    this.element.querySelector("dl").replaceChildren(...terms);
    const canvas = this.element.querySelector(".code");
    canvas.hidden = !code || !draw(canvas, code);
    canvas.dataset.content = code ?? "";
    this.element.querySelector(".note").textContent = canvas.hidden ? "" : note;
  }

  turnOver(turned = !this.element.classList.contains("turned")) {
    this.element.classList.toggle("turned", turned);
    this.element.querySelector(".front").setAttribute("aria-hidden", String(turned));
    this.element.querySelector(".back").setAttribute("aria-hidden", String(!turned));
    return turned;
  }
}

/** Whether a PNG file has frames: it says so before its first pixels. */
export async function isClip(blob) {
  const head = new TextDecoder("latin1").decode(await blob.slice(0, 4096).arrayBuffer());
  return head.includes("acTL");
}

/**
 * Draws `bitmap` over the whole of `canvas`. A small one with transparency is a sticker: its edge, soft from being enlarged,
 * is drawn sharp. The colour is the mean of what is not transparent.
 */
export function enlarge(canvas, bitmap) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  context.drawImage(bitmap, (width - bitmap.width * scale) / 2, (height - bitmap.height * scale) / 2, bitmap.width * scale, bitmap.height * scale);
  const image = context.getImageData(0, 0, width, height);
  const pixels = image.data;
  let clear = 0;
  const sum = [0, 0, 0, 0];
  for (let i = 0; i < pixels.length; i += 4) {
    const alpha = pixels[i + 3];
    if (alpha < 128) clear += 1;
    // White and black say little of a picture's colour.
    const spread = Math.max(pixels[i], pixels[i + 1], pixels[i + 2]) - Math.min(pixels[i], pixels[i + 1], pixels[i + 2]);
    const weight = (alpha / 255) * (spread / 255);
    for (let c = 0; c < 3; c += 1) sum[c] += pixels[i + c] * weight;
    sum[3] += weight;
  }
  const sticker = clear > pixels.length / 4 / 50;
  if (sticker && bitmap.width <= 128) {
    for (let i = 3; i < pixels.length; i += 4) {
      const x = Math.min(1, Math.max(0, (pixels[i] / 255 - 0.34) / 0.32));
      pixels[i] = 255 * x * x * (3 - 2 * x);
    }
    context.putImageData(image, 0, 0);
  }
  const count = pixels.length / 4;
  return { sticker, colour: sum[3] > 0 ? { hue: hue(sum), vivid: Math.min(1, (sum[3] / count) * 12) } : null };
}

function hue([red, green, blue]) {
  const [most, least] = [Math.max(red, green, blue), Math.min(red, green, blue)];
  if (most === least) return 30;
  const span = most - least;
  const sixth = most === red ? (green - blue) / span : most === green ? 2 + (blue - red) / span : 4 + (red - green) / span;
  return Math.round((sixth * 60 + 360) % 360);
}
