import { readFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import type { Tensors, TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import { checkInputs } from './check-inputs.ts';
import { constantInputs, filledInput } from './constant-inputs.ts';
import type { DataInput, DataSet, Sample } from './data-set.ts';
import type { ImageRules, Preprocess } from './preprocess.ts';
import { type Pixels, place, resize } from './resize.ts';

/** Pictures by the rules of a preprocess file, one a sample. */
export async function imageData(
  path: string,
  files: readonly string[],
  inputs: readonly DataInput[],
  preprocess: Preprocess & { readonly image: ImageRules },
): Promise<DataSet> {
  const { image, constants } = preprocess;
  const target = filledInput(inputs, image.input, path);
  const labelOf = await labels(path, files, image.labels);
  const rest = constantInputs(inputs, target, constants, path);
  return {
    kind: 'tensor',
    path,
    length: files.length,
    async *samples() {
      for (const file of files) {
        const tensor = toTensor(fitted(await readPixels(file), image), image);
        const feeds: Tensors = { ...rest, [target.name]: tensor };
        checkInputs(feeds, inputs, file);
        yield { name: basename(file), inputs: feeds, label: labelOf(file) } satisfies Sample;
      }
    },
  };
}

/** Red, green, blue; what is transparent lies on white. */
async function readPixels(file: string): Promise<Pixels> {
  // Loaded when a picture is read: a native library that nothing else here needs.
  const { createCanvas, loadImage } = await import('@napi-rs/canvas');
  const picture = await loadImage(await readFile(file)).catch((cause: unknown) => {
    throw new CompilerError('compiler/data', `${file} is not a picture that can be read`, { where: file, cause });
  });
  const { width, height } = picture;
  const context = createCanvas(width, height).getContext('2d');
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Float32Array(width * height * 3);
  for (let i = 0, j = 0; j < data.length; i += 4) {
    for (let c = 0; c < 3; c++) data[j++] = rgba[i + c] ?? 0;
  }
  return { width, height, channels: 3, data };
}

/** Resized and cut or filled to the size that the rules ask for. */
function fitted(pixels: Pixels, { size: [height, columns], fit, pad, resize: how }: ImageRules): Pixels {
  const ratio = pixels.width / pixels.height;
  if (fit === 'height') return resize(pixels, Math.max(1, Math.round(height * ratio)), height, how);
  const width = columns ?? height;
  if (fit === 'stretch') return resize(pixels, width, height, how);
  const scales = [width / pixels.width, height / pixels.height];
  const scale = fit === 'cover' ? Math.max(...scales) : Math.min(...scales);
  const inner = resize(
    pixels,
    Math.max(1, Math.round(pixels.width * scale)),
    Math.max(1, Math.round(pixels.height * scale)),
    how,
  );
  const [left, top] = [Math.floor((width - inner.width) / 2), Math.floor((height - inner.height) / 2)];
  return place(inner, width, height, left, top, pad);
}

/** `[1, channels, height, width]` or `[1, height, width, channels]`, float32. */
function toTensor(pixels: Pixels, { colour, layout, scale, mean, std }: ImageRules): TensorValue {
  const { width, height } = pixels;
  const channels = colour === 'grey' ? 1 : 3;
  const data = new Float32Array(channels * width * height);
  for (let p = 0; p < width * height; p++) {
    const [r = 0, g = 0, b = 0] = pixels.data.subarray(p * 3, p * 3 + 3);
    // ITU-R BT.601, as OpenCV and Pillow weigh them.
    const values = colour === 'grey' ? [0.299 * r + 0.587 * g + 0.114 * b] : colour === 'rgb' ? [r, g, b] : [b, g, r];
    for (let c = 0; c < channels; c++) {
      const of = (list: readonly number[]): number => list[c] ?? list[0] ?? 0;
      const at = layout === 'nchw' ? c * width * height + p : p * channels + c;
      data[at] = ((values[c] ?? 0) * scale - of(mean)) / of(std);
    }
  }
  const dims = layout === 'nchw' ? [1, channels, height, width] : [1, height, width, channels];
  return { dtype: 'float32', dims, data };
}

/** What the metric compares with: the class by folder, or the text of a `name,label` line. */
async function labels(
  folder: string,
  files: readonly string[],
  rule: string | undefined,
): Promise<(file: string) => unknown> {
  if (rule === undefined) return () => undefined;
  if (rule === 'folder') {
    const classes = [...new Set(files.map((file) => basename(dirname(file))))].toSorted();
    return (file) => {
      const index = classes.indexOf(basename(dirname(file)));
      return { dtype: 'int64', dims: [1], data: BigInt64Array.of(BigInt(index)) } satisfies TensorValue;
    };
  }
  const path = join(folder, rule);
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const message = `the labels ${path} cannot be read: ${cause.code ?? cause.message}`;
    throw new CompilerError('compiler/data', message, { where: path, cause });
  });
  const lines = text.split(/\r?\n/).filter((line) => line !== '');
  const byName = new Map(lines.map((line) => [line.split(',', 1)[0] ?? '', line.slice(line.indexOf(',') + 1)]));
  return (file) => {
    const label = byName.get(relative(folder, file)) ?? byName.get(basename(file));
    if (label === undefined)
      throw new CompilerError('compiler/data', `${path} has no label for ${file}`, { where: path });
    return /^\d+$/.test(label) ? { dtype: 'int64', dims: [1], data: BigInt64Array.of(BigInt(label)) } : label;
  };
}
