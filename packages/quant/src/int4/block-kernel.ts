import { QuantError } from '../errors.ts';
import { assembleBlocks, type BlockProgram, PARAMETERS } from './block-program.ts';

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
}

/** Shares of the full range that are tried: outliers are cut off where that costs less than the finer step gains. */
const SHARES = [1, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76, 0.73, 0.7, 0.65, 0.6];

/** Weights that lie in the kernel's memory at a time, unless one row of blocks has more. */
const PIECE = 1 << 20;

/**
 * Grids, and levels where asked for, of a weight `[rows, cols, inner]` blocked along `cols`. See `assembleBlocks`.
 * @throws {QuantError} `quant/not-finite` naming the first index that is NaN or infinite
 */
export function runBlocks(w: Float32Array, sizes: BlockSizes, options: BlockKernelOptions): BlockResult {
  const { rows, cols, inner, block } = sizes;
  const blocks = Math.ceil(cols / block);
  const scale = new Float32Array(rows * blocks * inner);
  const zeroPoint = new Uint8Array(scale.length);
  const levels = new Uint8Array(options.levels ? w.length : 0);
  for (const piece of piecesOf(sizes)) {
    const first = (piece.row * cols + piece.block * block) * inner;
    const firstBlock = (piece.row * blocks + piece.block) * inner;
    const some = { rows: piece.rows, cols: Math.min(cols - piece.block * block, piece.blocks * block), inner, block };
    const costs = options.importance?.subarray(piece.block * block);
    const made = runPiece(w.subarray(first, first + some.rows * some.cols * inner), some, {
      ...options,
      importance: costs,
    });
    if (!made) throw notFinite(w, first);
    scale.set(made.scale, firstBlock);
    zeroPoint.set(made.zeroPoint, firstBlock);
    if (options.levels) levels.set(made.levels, first);
  }
  return { scale, zeroPoint, levels };
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

/** Undefined if a weight is not finite. What it gives are views that the next run writes over. */
function runPiece(w: Float32Array, sizes: BlockSizes, options: BlockKernelOptions): BlockResult | undefined {
  const { rows, cols, inner, block } = sizes;
  const scales = rows * Math.ceil(cols / block) * inner;
  const costs = options.importance ? cols : 0;
  const at = layOut({
    ...{ shares: SHARES.length * 8, costs: costs * 8, values: Math.min(block, cols) * 16 },
    ...{ w: w.length * 4, scales: scales * 4, zeros: scales, levels: options.levels ? w.length : 0 },
  });
  const bytes = roomFor(at.end);
  new Float64Array(bytes, at.shares, SHARES.length).set(SHARES);
  if (options.importance) new Float64Array(bytes, at.costs, costs).set(options.importance.subarray(0, costs));
  new Float32Array(bytes, at.w, w.length).set(w);
  const places = { ...at, ...sizes, shareCount: SHARES.length, levels: options.levels ? at.levels : 0 };
  const run = programFor({ ...options, weighted: options.importance !== undefined });
  if (run(...PARAMETERS.map((name) => places[name])) !== 0) return undefined;
  return {
    scale: new Float32Array(bytes, at.scales, scales),
    zeroPoint: new Uint8Array(bytes, at.zeros, scales),
    levels: new Uint8Array(bytes, at.levels, options.levels ? w.length : 0),
  };
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

function notFinite(w: Float32Array, first: number): QuantError {
  const index = w.findIndex((value, i) => i >= first && !Number.isFinite(value));
  return new QuantError('quant/not-finite', `weight ${index} is ${w[index]}`);
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
