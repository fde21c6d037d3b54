import { type DecoderIo, decoderIo } from './decoder-io.ts';
import { RuntimeError } from './errors.ts';
import { KvCache } from './kv-cache.ts';
import type { InPlaceRun, LocalSession } from './local-session.ts';
import { chooseToken, type Sampling } from './sampling.ts';
import { makeTensor } from './tensors.ts';
import type { TensorValue } from './types.ts';

type Floats = Extract<TensorValue, { dtype: 'float32' }>;

interface InPlace {
  readonly run: InPlaceRun;
  /** What it writes anew each time. */
  readonly logits: Floats;
}

/** Tokens to read behind what the cache holds, and how the next is to be chosen. */
export interface DecodeStep {
  /** `[batch, length]`, row-major. */
  readonly ids: readonly number[];
  readonly batch: number;
  /** Tokens of the cache that stay; what lies behind them is dropped. 0: an empty cache. */
  readonly past: number;
  /** As in `RunOptions`; what the cache holds must have been read with the same. */
  readonly adapter?: string | null | undefined;
  /** Undefined: no token is wanted, the ids are only read. */
  readonly choice?: TokenChoice | undefined;
}

export interface TokenChoice {
  readonly sampling: Sampling;
  /** Per row, in [0, 1); ignored at temperature 0. */
  readonly draws: readonly number[];
  /** Per row, a bit per token; undefined: all are allowed. */
  readonly allowed: readonly (Uint32Array | undefined)[];
  /** Tokens behind which nobody reads on; undefined: nobody will read on behind any. See `Decoder.readAhead`. */
  readonly endsAt?: readonly number[] | undefined;
}

export interface DecodeAnswer {
  /** Per row the next token, −1 where none is allowed; empty where none was wanted. */
  readonly ids: readonly number[];
  /** Time in ONNX Runtime. */
  readonly modelMs: number;
}

interface Read {
  /** `[batch, positions, vocabulary]`, where they are wanted. */
  readonly logits: Floats | undefined;
  /** Time in ONNX Runtime. */
  readonly modelMs: number;
}

/**
 * Reads tokens and chooses the next, where the model lives: neither its cache nor its logits travel between processes.
 * @throws {RuntimeError} `runtime/not-text`
 */
export class Decoder {
  private readonly session: LocalSession;
  private readonly io: DecoderIo;
  private readonly cache: KvCache;
  /** What the cache holds, per row. */
  private rows: number[][] = [];
  private prepared: InPlace | undefined;
  /** What the next step most likely is. */
  private likely: DecodeStep | undefined;
  private ahead: { readonly step: DecodeStep; readonly read: Read } | undefined;

  constructor(session: LocalSession) {
    this.session = session;
    this.io = decoderIo(session);
    this.cache = new KvCache(this.io);
  }

  /** @throws {RuntimeError} as `Session.run`; the cache is then empty */
  async step(step: DecodeStep): Promise<DecodeAnswer> {
    const { ahead } = this;
    this.ahead = undefined;
    this.likely = undefined;
    try {
      const { logits, modelMs } = ahead && isSame(ahead.step, step) ? ahead.read : await this.read(step);
      const ids = step.choice && logits ? this.choose(logits, step.choice) : [];
      this.likely = likelyAfter(step, ids);
      return { ids, modelMs };
    } catch (error) {
      this.rows = [];
      this.cache.cut(0, 0);
      throw error;
    }
  }

  /**
   * Reads the tokens that were chosen last before anybody asks for it, so that a text need not wait for messages between
   * processes at every token. No answer becomes another for it: what nobody asks for is dropped like any end of the cache.
   */
  async readAhead(): Promise<void> {
    const { likely: step } = this;
    this.likely = undefined;
    if (!step) return;
    try {
      this.ahead = { step, read: await this.read(step) };
    } catch {
      this.cut(step.batch, step.past); // whoever asks for it is told why
    }
  }

  /** @throws {RuntimeError} as `Session.run` */
  private async read({ ids, batch, past, adapter, choice }: DecodeStep): Promise<Read> {
    const length = ids.length / batch;
    if (!Number.isSafeInteger(length) || length === 0 || past > (batch === this.rows.length ? this.cache.length : 0))
      throw new RuntimeError('runtime/input', `${ids.length} tokens in ${batch} rows behind ${past}`);
    this.cut(batch, past);
    for (const [r, row] of this.rows.entries())
      for (let i = r * length; i < (r + 1) * length; i++) row.push(ids[i] ?? 0);
    const start = performance.now();
    const logits = await this.run(ids, past, { adapter, wanted: choice !== undefined });
    return { logits, modelMs: performance.now() - start };
  }

  private cut(batch: number, past: number): void {
    this.cache.cut(batch, past);
    if (this.rows.length !== batch) this.rows = Array.from({ length: batch }, () => []);
    for (const row of this.rows) row.length = past; // cut and grown in place: a long text is not copied at every token
  }

  /** @returns `[batch, positions, vocabulary]`, where they are wanted */
  private async run(
    ids: readonly number[],
    past: number,
    { adapter, wanted }: { readonly adapter: string | null | undefined; readonly wanted: boolean },
  ): Promise<Floats | undefined> {
    const { io, cache, session } = this;
    const batch = this.rows.length;
    const length = ids.length / batch;
    const place = { batch, past, lastOnly: true };
    if (io.inPlace) {
      const { run, logits } = this.inPlace(batch, length);
      await run(io.stepFeeds(ids, { ...place, width: cache.capacity }), adapter);
      cache.take(length, {});
      return logits;
    }
    const fetches = io.caches.map(({ output }) => output);
    const how = { fetches: wanted ? ['logits', ...fetches] : fetches, adapter };
    const outputs = await session.run({ ...cache.feeds(), ...io.stepFeeds(ids, place) }, how);
    cache.take(length, outputs);
    const { logits } = outputs;
    if (wanted && logits?.dtype !== 'float32')
      throw new RuntimeError('runtime/not-text', `logits are ${logits?.dtype}, not float32`);
    return logits as Floats | undefined;
  }

  /** Made ready for one token after another: until the cache moves, or logits come in another number. */
  private inPlace(batch: number, length: number): InPlace {
    const { io, cache, session } = this;
    const moved = cache.reserve(length);
    const positions = io.keepsLast ? 1 : length;
    const known = this.prepared;
    if (known && !moved && known.logits.dims[0] === batch && known.logits.dims[1] === positions) return known;
    const logits = makeTensor('float32', [batch, positions, io.vocabulary ?? 0]) as Floats;
    const run = session.prepareInPlace(cache.feeds(), { ...cache.into(), logits });
    this.prepared = { run, logits };
    return this.prepared;
  }

  private choose({ data, dims }: Floats, { sampling, draws, allowed }: TokenChoice): number[] {
    const [, positions = 0, size = 0] = dims;
    return this.rows.map((seen, r) => {
      const end = (r + 1) * positions * size;
      const chance = { draw: draws[r] ?? 0, allowed: allowed[r], seen };
      return chooseToken(data.subarray(end - size, end), sampling, chance);
    });
  }
}

function isSame(a: DecodeStep, b: DecodeStep): boolean {
  return (
    b.choice !== undefined &&
    a.batch === b.batch &&
    a.past === b.past &&
    a.adapter === b.adapter &&
    a.ids.length === b.ids.length &&
    a.ids.every((id, i) => id === b.ids[i])
  );
}

/** The step that reads what was chosen; undefined where it is not to be expected. */
function likelyAfter(step: DecodeStep, ids: readonly number[]): DecodeStep | undefined {
  const endsAt = step.choice?.endsAt;
  if (!endsAt || ids.some((id) => id < 0) || ids.every((id) => endsAt.includes(id))) return undefined;
  return { ...step, ids, past: step.past + step.ids.length / step.batch };
}
