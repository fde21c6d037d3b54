import { QuantError } from '../errors.ts';
import { assembleBlocks, AT_ONCE, type BlockProgram, PARAMETERS } from './block-program.ts';
import { packNibbles } from './nibbles.ts';

export interface BlockSizes {
  readonly rows: number;
  readonly cols: number;
  readonly inner: number;
  readonly block: number;
}

/** Of all blocks of a weight, `[rows, blocks, inner]`. */
export interface BlockResult {
  readonly scale: Float32Array;
  /** A byte each. */
  readonly zeroPoint: Uint8Array;
  /** `[rows, cols, inner]`, a byte each, int8 where symmetric; empty if they were not asked for. */
  readonly levels: Uint8Array;
}

export interface BlockKernelOptions extends Omit<BlockProgram, 'weighted'> {
  /** `[cols]`: what a squared error costs in each; undefined: all the same. */
  readonly importance: Float64Array | undefined;
  readonly levels: boolean;
  /** Levels and zero points come packed by `packNibbles`. Default false. */
  readonly packed?: boolean | undefined;
}

/**
 * The search for a block's grid, in rounds: shares of the full range's step (outliers are cut off where that costs less than
 * the finer step gains), then what is near the best, then the zero points beside it (they shift the grid by half a step, or
 * cut one end by more), then what is nearer. On Gaussian weights, blocks of 32: 1.5 % less squared error (symmetric: as
 * much) than 13 shares of 0.6 to 1 with three zero points each, in 10 tries instead of 39.
 */
const ROUNDS: readonly (readonly (readonly [share: number, zero: number])[])[] = [
  [
    [0.98, 0],
    [0.88, 0],
    [0.78, 0],
    [0.68, 0],
  ],
  [
    [-0.05, 0],
    [0.05, 0],
  ],
  [
    [0, -1],
    [0, 1],
  ],
  [
    [-0.025, 0],
    [0.025, 0],
  ],
];

/** Weights that lie in the kernel's memory at a time, unless one row of blocks has more. */
const PIECE = 1 << 20;

/**
 * Grids, and levels where asked for, of a weight `[rows, cols, inner]` blocked along `cols`. See `assembleBlocks`.
 * @throws {QuantError} `quant/not-finite` naming the first index that is NaN or infinite
 */
export function runBlocks(w: Float32Array, sizes: BlockSizes, options: BlockKernelOptions): BlockResult {
  const { rows, cols, inner, block } = sizes;
  const { packed = false } = options;
  const pieces = [...piecesOf(sizes)];
  if (pieces.length === 1) {
    const { scale, zeroPoint, levels } = runPiece(w, 0, sizes, { ...options, packed });
    return { scale: scale.slice(), zeroPoint: zeroPoint.slice(), levels: levels.slice() };
  }
  const blocks = Math.ceil(cols / block);
  const scale = new Float32Array(rows * blocks * inner);
  const zeroPoint = new Uint8Array(scale.length);
  const levels = new Uint8Array(options.levels ? w.length : 0);
  for (const piece of pieces) {
    const first = (piece.row * cols + piece.block * block) * inner;
    const firstBlock = (piece.row * blocks + piece.block) * inner;
    const some = { rows: piece.rows, cols: Math.min(cols - piece.block * block, piece.blocks * block), inner, block };
    const importance = options.importance?.subarray(piece.block * block);
    const made = runPiece(w, first, some, { ...options, importance, packed: false });
    scale.set(made.scale, firstBlock);
    zeroPoint.set(made.zeroPoint, firstBlock);
    if (options.levels) levels.set(made.levels, first);
  }
  return packed
    ? { scale, zeroPoint: packNibbles(zeroPoint), levels: packNibbles(levels) }
    : { scale, zeroPoint, levels };
}

/** What lies in one piece: whole rows, or some blocks of one row. */
function* piecesOf({ rows, cols, inner, block }: BlockSizes) {
  const blocks = Math.ceil(cols / block);
  const atOnce = Math.floor(PIECE / (cols * inner));
  if (atOnce >= 1) {
    for (let row = 0; row < rows; row += atOnce) yield { row, rows: Math.min(atOnce, rows - row), block: 0, blocks };
    return;
  }
  const some = Math.max(1, Math.floor(PIECE / (block * inner)));
  for (let row = 0; row < rows; row++)
    for (let first = 0; first < blocks; first += some)
      yield { row, rows: 1, block: first, blocks: Math.min(some, blocks - first) };
}

/** Of `w` from `first` on. What it gives are views that the next run writes over. */
function runPiece(w: Float32Array, first: number, sizes: BlockSizes, options: BlockKernelOptions): BlockResult {
  const prepared = prepareBlocks(sizes, options);
  prepared.w.set(w.subarray(first, first + prepared.w.length));
  return finite(prepared.run(), w, first);
}

/** What was made of `w`, from `first` on. @throws {QuantError} `quant/not-finite` naming the index, where nothing was made */
export function finite(made: BlockResult | undefined, w: Float32Array, first: number): BlockResult {
  if (made) return made;
  const index = w.findIndex((value, i) => i >= first && !Number.isFinite(value));
  throw new QuantError('quant/not-finite', `weight ${index} is ${w[index]}`);
}

/** Room for weights in the kernel's memory, and what becomes of them once they are there. */
export interface PreparedBlocks {
  readonly w: Float32Array;
  /** Views that the next run writes over; undefined if a weight is not finite. */
  readonly run: () => BlockResult | undefined;
}

/** Lays a weight out in the kernel's memory. What was prepared before is gone. */
export function prepareBlocks(sizes: BlockSizes, options: BlockKernelOptions): PreparedBlocks {
  const { rows, cols, inner, block } = sizes;
  const { importance, packed = false } = options;
  const count = rows * cols * inner;
  const blocks = Math.ceil(cols / block);
  const scales = rows * blocks * inner;
  const longest = Math.min(block, cols);
  const width = roundedUp(block);
  const tries = triesOf(options.symmetric);
  const place = layOut({
    ...{ tries: tries.byteLength, values: (roundedUp(longest) + AT_ONCE) * 16, pairs: roundedUp(longest) * 16 },
    ...(importance ? { costs: cols * 4, parts: blocks * width * 2 } : { costs: 0, parts: 0 }),
    ...{ w: count * 4, scales: scales * 4, zeros: scales + 32, levels: options.levels ? count + 32 : 0 },
  });
  const bytes = roomFor(place.end);
  new Uint8Array(bytes, place.tries, tries.byteLength).set(tries);
  if (importance) {
    const costs = costsOf(importance, { cols, block });
    new Float32Array(bytes, place.costs, cols).set(costs.shares);
    new Int16Array(bytes, place.parts, costs.parts.length).set(costs.parts);
  }
  const places = {
    ...{ ...place, ...sizes, tryCount: tries.byteLength / 16 },
    ...{ levels: options.levels ? place.levels : 0, packs: packed ? 1 : 0 },
  };
  const run = programFor({ ...options, weighted: importance !== undefined });
  const bytesOf = (elements: number): number => (packed ? (elements + 1) >> 1 : elements);
  return {
    w: new Float32Array(bytes, place.w, count),
    run: () =>
      run(...PARAMETERS.map((name) => places[name])) === 0
        ? {
            scale: new Float32Array(bytes, place.scales, scales),
            zeroPoint: new Uint8Array(bytes, place.zeros, bytesOf(scales)),
            levels: new Uint8Array(bytes, place.levels, options.levels ? bytesOf(count) : 0),
          }
        : undefined,
  };
}

function roundedUp(length: number): number {
  return Math.ceil(length / AT_ONCE) * AT_ONCE;
}

/** As the program reads them; the first of every round but the first makes the best so far the centre. */
function triesOf(symmetric: boolean): Uint8Array {
  const tries = ROUNDS.flatMap((round, index) =>
    (symmetric ? round.filter(([, zero]) => zero === 0) : round).map(([share, zero], nth) => {
      const bytes = new DataView(new ArrayBuffer(16));
      bytes.setFloat32(0, share, true);
      bytes.setFloat32(4, zero, true);
      bytes.setInt32(8, index > 0 && nth === 0 ? 1 : 0, true);
      return new Uint8Array(bytes.buffer);
    }),
  );
  return Uint8Array.from(tries.flatMap((bytes) => [...bytes]));
}

/** Costs as shares of their block's greatest; also in whole parts, 32767 for that one, or less where so many would overflow. */
function costsOf(importance: Float64Array, { cols, block }: Pick<BlockSizes, 'cols' | 'block'>) {
  const width = roundedUp(block);
  const shares = new Float32Array(cols);
  const parts = new Int16Array(Math.ceil(cols / block) * width);
  const most = 32_767 * Math.min(1, 256 / block);
  for (let first = 0, to = 0; first < cols; first += block, to += width) {
    const costs = importance.subarray(first, Math.min(cols, first + block));
    const greatest = costs.reduce((greater, cost) => Math.max(greater, cost), 0);
    for (const [k, cost] of costs.entries()) {
      const share = greatest > 0 ? cost / greatest : 0;
      shares[first + k] = share;
      parts[to + k] = Math.round(share * most);
    }
  }
  return { shares, parts };
}

interface Lengths {
  readonly [name: string]: number;
}

/** One behind the other, each on a multiple of 16. */
function layOut<L extends Lengths>(lengths: L): { readonly [name in keyof L]: number } & { readonly end: number } {
  let end = 0;
  const places = Object.fromEntries(
    Object.entries(lengths).map(([name, bytes]) => {
      const place = end;
      end += Math.ceil(bytes / 16) * 16;
      return [name, place];
    }),
  );
  return { ...places, end } as { readonly [name in keyof L]: number } & { readonly end: number };
}

/** What this room needs of the global of this name. */
declare const WebAssembly: {
  readonly Memory: new (pages: {
    readonly initial: number;
  }) => { readonly buffer: ArrayBuffer; grow(pages: number): void };
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: { readonly run: Run } };
};
type Run = (...values: number[]) => number;

const PAGE = 65_536;
let memory: InstanceType<typeof WebAssembly.Memory> | undefined;
const programs = new Map<string, Run>();

function roomFor(bytes: number): ArrayBuffer {
  memory ??= new WebAssembly.Memory({ initial: 1 });
  const missing = bytes - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
  return memory.buffer;
}

/** Made once for each kind, after `roomFor`. */
function programFor({ symmetric, search, weighted, bf16 }: BlockProgram): Run {
  const key = `${symmetric} ${search} ${weighted} ${bf16}`;
  const known = programs.get(key);
  if (known) return known;
  const module = new WebAssembly.Module(assembleBlocks({ symmetric, search, weighted, bf16 }));
  const { run } = new WebAssembly.Instance(module, { env: { memory } }).exports;
  programs.set(key, run);
  return run;
}
