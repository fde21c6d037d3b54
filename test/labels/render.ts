import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createCanvas, GlobalFonts, type SKRSContext2D } from '@napi-rs/canvas';
import { packageFolder } from './package-folder.ts';
import { between, pick, type Random } from './random.ts';

/** Every line is this many pixels high: what PP-OCRv4's recogniser reads. */
export const lineHeight = 48;

/** A picture in PP-OCRv4's layout: planes blue, green, red, each `[48, width]`, value / 127.5 − 1. */
export interface Picture {
  readonly width: number;
  readonly data: Float32Array;
}

/** How badly a line was printed and photographed. */
interface Wear {
  readonly font: string;
  readonly fontPx: number;
  readonly slant: number;
  readonly turn: number;
  readonly paper: readonly [number, number, number];
  readonly ink: readonly [number, number, number];
  /** Size at which the camera saw it, as a share of the final size. */
  readonly detail: number;
  readonly blurPx: number;
  readonly noise: number;
  readonly shade: number;
}

/** Draws one text, then wears it: low resolution, blur, slant, uneven light, noise. */
export function renderLine(text: string, random: Random): Picture {
  const wear = drawWear(random);
  const { rgba, width } = drawText(text, wear, random);
  const planes = light(rgba, width, wear, random);
  for (let plane = 0; plane < 3; plane++) {
    blur(planes.subarray(plane * width * lineHeight, (plane + 1) * width * lineHeight), width, wear.blurPx);
  }
  addNoise(planes, wear.noise, random);
  return { width, data: planes };
}

const faces = [
  'DejaVuSans',
  'DejaVuSans-Bold',
  'DejaVuSansCondensed',
  'DejaVuSansCondensed-Bold',
  'DejaVuSansMono',
  'DejaVuSansMono-Bold',
  'DejaVuSerif',
  'DejaVuSerif-Bold',
  'DejaVuSerifCondensed',
] as const;

let registered = false;
function registerFonts(): void {
  if (registered) return;
  const folder = join(packageFolder('dejavu-fonts-ttf'), 'ttf');
  for (const face of faces) {
    const file = join(folder, `${face}.ttf`);
    if (!existsSync(file)) throw new Error(`no font at ${file}`);
    GlobalFonts.registerFromPath(file, `label-${face}`);
  }
  registered = true;
}

function drawWear(random: Random): Wear {
  const dark = between(random, 0, 90);
  const bright = dark + between(random, 60, 165);
  const [paperLevel, inkLevel] = random() < 0.85 ? [bright, dark] : [dark, bright];
  const tint = (level: number) => [0, 0, 0].map(() => level + between(random, -14, 14)) as [number, number, number];
  return {
    font: `label-${pick(random, faces)}`,
    fontPx: between(random, 24, 34),
    slant: between(random, -0.28, 0.28),
    turn: between(random, -0.018, 0.018),
    paper: tint(paperLevel),
    ink: tint(inkLevel),
    detail: between(random, 0.3, 1),
    blurPx: between(random, 0, 1.25),
    noise: between(random, 0.02, 0.18),
    shade: between(random, 0, 0.5),
  };
}

function drawText(text: string, wear: Wear, random: Random): { rgba: Uint8ClampedArray; width: number } {
  registerFonts();
  const { fontPx, detail, turn, slant } = wear;
  const marginPx = between(random, 1, 6);
  const font = `${fontPx}px ${wear.font}`;
  const textPx = measure(text, font);
  // Widths in steps of 16: the network halves the width three times.
  const width = Math.ceil((textPx + 2 * marginPx + Math.abs(slant) * fontPx) / 16) * 16;
  const small = createCanvas(Math.max(8, Math.round(width * detail)), Math.max(8, Math.round(lineHeight * detail)));
  const context = small.getContext('2d');
  fill(context, wear.paper, small.width, small.height);
  context.setTransform(small.width / width, 0, 0, small.height / lineHeight, 0, 0);
  context.translate(width / 2, lineHeight / 2 + between(random, -3, 3));
  context.transform(Math.cos(turn), Math.sin(turn), -Math.sin(turn) - slant, Math.cos(turn), 0, 0);
  context.font = font;
  context.textBaseline = 'middle';
  context.fillStyle = colour(wear.ink);
  context.fillText(text, -textPx / 2, 0);

  const full = createCanvas(width, lineHeight).getContext('2d');
  full.drawImage(small, 0, 0, width, lineHeight);
  return { rgba: full.getImageData(0, 0, width, lineHeight).data, width };
}

let ruler: SKRSContext2D | undefined;
function measure(text: string, font: string): number {
  ruler ??= createCanvas(8, 8).getContext('2d');
  ruler.font = font;
  return ruler.measureText(text).width;
}

function colour([red, green, blue]: readonly [number, number, number]): string {
  return `rgb(${Math.round(red)}, ${Math.round(green)}, ${Math.round(blue)})`;
}

function fill(context: SKRSContext2D, paper: readonly [number, number, number], width: number, height: number): void {
  context.fillStyle = colour(paper);
  context.fillRect(0, 0, width, height);
}

/** A plane of light tilted at random and one round shadow; then colour order and scale as PaddleOCR's `resize_norm_img`. */
function light(rgba: Uint8ClampedArray, width: number, wear: Wear, random: Random): Float32Array {
  const area = width * lineHeight;
  const planes = new Float32Array(3 * area);
  const angle = between(random, 0, 2 * Math.PI);
  const [dx, dy] = [Math.cos(angle) / width, Math.sin(angle) / lineHeight];
  const [shadowX, shadowRadius] = [between(random, 0, width), between(random, 30, 120)];
  for (let y = 0, i = 0; y < lineHeight; y++) {
    for (let x = 0; x < width; x++, i++) {
      const tilt = (x - width / 2) * dx + (y - lineHeight / 2) * dy;
      const distance = (x - shadowX) / shadowRadius;
      const shine = 1 + wear.shade * (tilt - 0.5 * Math.max(0, 1 - distance * distance));
      for (let plane = 0; plane < 3; plane++) {
        planes[plane * area + i] = ((rgba[4 * i + 2 - plane] as number) * shine) / 127.5 - 1;
      }
    }
  }
  return planes;
}

/** Close to a Gaussian of standard deviation `radius`; below 0.2 px the plane stays as it is. Edges repeat. */
function blur(plane: Float32Array, width: number, radius: number): void {
  if (radius < 0.2) return;
  // Twice [side, 1, side] / (1 + 2·side), whose variance is 2·side / (1 + 2·side) = radius² / 2 each.
  const share = Math.min(0.66, (radius * radius) / 2);
  const side = share / (2 - 2 * share);
  for (let round = 0; round < 2; round++) {
    for (let y = 0; y < lineHeight; y++) smooth(plane, y * width, 1, width, side);
    for (let x = 0; x < width; x++) smooth(plane, x, width, lineHeight, side);
  }
}

function smooth(plane: Float32Array, start: number, stride: number, count: number, side: number): void {
  const scale = 1 / (1 + 2 * side);
  let before = plane[start] as number;
  for (let i = 0, at = start; i < count; i++, at += stride) {
    const here = plane[at] as number;
    const after = i + 1 < count ? (plane[at + stride] as number) : here;
    plane[at] = (here + side * (before + after)) * scale;
    before = here;
  }
}

/** Sensor noise, close to normal (a sum of three uniforms), the same in all colours for two thirds of its strength. */
function addNoise(planes: Float32Array, strength: number, random: Random): void {
  const area = planes.length / 3;
  for (let i = 0; i < area; i++) {
    const shared = strength * 2 * (random() + random() + random() - 1.5);
    for (let plane = 0; plane < 3; plane++) {
      const at = plane * area + i;
      const value = (planes[at] as number) + shared + strength * (random() - 0.5);
      planes[at] = Math.max(-1, Math.min(1, value));
    }
  }
}
