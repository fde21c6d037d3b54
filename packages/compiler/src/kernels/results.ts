import { createHash } from 'node:crypto';
import { closeSync, openSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ClosedFile, FileSlice, type NewTensor, TensorInFile } from '@flotilla/onnx';
import { plainBytes, writeAt } from './write-at.ts';

/** The parts of one converted weight, in their order, with what each is. */
export type Shapes = readonly {
  readonly dtype: NewTensor['dtype'];
  readonly dims: readonly number[];
  readonly byteLength: number;
}[];

/** Where a conversion writes; `finish` gives its parts as tensors, `drop` gives up. */
export interface Writing {
  /** The open file that they go to, and where each part begins in it; undefined: they go to memory, by `write`. */
  readonly file: { readonly fd: number; readonly offsets: readonly number[] } | undefined;
  write(part: number, bytes: ArrayBufferView, offset: number): void;
  finish(): readonly NewTensor[];
  drop(): void;
}

/** Converted weights that are not small go to a file each, finished ones under their final name. */
export class Results {
  readonly #folder: string | undefined;
  readonly #made = new Set<string>();

  foundBytes = 0;

  /** @param folder undefined: everything stays in memory */
  constructor(folder: string | undefined) {
    this.#folder = folder;
  }

  /** What an earlier run finished under this key. */
  found(key: string, shapes: Shapes): readonly NewTensor[] | undefined {
    const path = this.#pathOf(key, shapes);
    if (path === undefined || statSync(path, { throwIfNoEntry: false })?.size !== sizeOf(shapes)) return undefined;
    // What this run made itself was not found.
    if (!this.#made.has(path)) this.foundBytes += sizeOf(shapes);
    return tensorsIn(path, shapes);
  }

  begin(key: string, shapes: Shapes): Writing {
    const path = this.#pathOf(key, shapes);
    if (path !== undefined) this.#made.add(path);
    return path === undefined ? inMemory(shapes) : inFile(path, shapes);
  }

  #pathOf(key: string, shapes: Shapes): string | undefined {
    if (this.#folder === undefined || sizeOf(shapes) < LEAST_BYTES) return undefined;
    const digest = createHash('sha256').update(key).digest('hex').slice(0, 32);
    return join(this.#folder, `weight-${digest}`);
  }
}

/** Smaller results are made anew sooner than they are found. */
const LEAST_BYTES = 256 * 1024;

function inMemory(shapes: Shapes): Writing {
  const parts = shapes.map(({ byteLength }) => new Uint8Array(byteLength));
  return {
    file: undefined,
    write(part, bytes, offset) {
      parts[part]?.set(plainBytes(bytes), offset);
    },
    drop: () => undefined,
    finish: () => shapes.map(({ dtype, dims }, i) => ({ dtype, dims, bytes: parts[i] ?? new Uint8Array() })),
  };
}

function inFile(path: string, shapes: Shapes): Writing {
  const fd = openSync(`${path}.part`, 'w', 0o600);
  const offsets = offsetsOf(shapes);
  return {
    file: { fd, offsets },
    write: (part, bytes, offset) => writeAt(fd, bytes, (offsets[part] ?? 0) + offset),
    finish() {
      closeSync(fd);
      // A kill leaves the name with whole content or not at all; after a power cut nothing is trusted (see the work folder).
      renameSync(`${path}.part`, path);
      return tensorsIn(path, shapes);
    },
    drop: () => closeSync(fd),
  };
}

function tensorsIn(path: string, shapes: Shapes): readonly NewTensor[] {
  const file = new ClosedFile(path);
  const offsets = offsetsOf(shapes);
  return shapes.map((shape, i) => new TensorInFile(shape, new FileSlice(file, offsets[i] ?? 0, shape.byteLength)));
}

function offsetsOf(shapes: Shapes): readonly number[] {
  let at = 0;
  return shapes.map(({ byteLength }) => (at += byteLength) - byteLength);
}

function sizeOf(shapes: Shapes): number {
  return shapes.reduce((sum, { byteLength }) => sum + byteLength, 0);
}
