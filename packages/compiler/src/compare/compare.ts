import { readFile } from 'node:fs/promises';
import { ratioDb } from '../analyze/losses.ts';
import { suitableInputs } from '../calibrate/made-up-inputs.ts';
import { compareLatency, type LatencyReport } from '../compile/latency.ts';
import type { CompileReport, Verdict } from '../compile/options.ts';
import { latencyFeeds } from '../compile/samples.ts';
import { openJudged } from '../evaluate/open-judged.ts';
import { CompilerError } from '../errors.ts';
import { openGraph } from '../inspect/open-graph.ts';
import { type HeldWeight, weightFormats } from './weight-formats.ts';

/** One of the two. */
export interface ComparedSide {
  readonly path: string;
  readonly kind: 'model' | 'pack' | 'report';
  /** The ONNX file with its external data. */
  readonly modelBytes: number;
  readonly recipe: string | null;
  /** As the compiler wrote it; null where it did not. */
  readonly verdict: Verdict | null;
  readonly nodes: CompileReport['nodes'] | null;
  /** Weights by the format that holds them. */
  readonly formats: { readonly [format: string]: { readonly nodes: number; readonly bytes: number } };
  /** Median run; of a report as it says, else measured here in turns. */
  readonly p50Us: number | null;
}

/** A node whose weight is held otherwise, or holds other numbers. */
export interface WeightChange {
  readonly node: string;
  readonly op: string;
  readonly a: { readonly format: string; readonly bytes: number } | null;
  readonly b: { readonly format: string; readonly bytes: number } | null;
  /** 10·log₁₀(Σa² / Σ(a − b)²); null where they are equal, or cannot be compared. */
  readonly sqnrDb: number | null;
}

/** What `flotilla compare --json` prints. */
export interface CompareReport {
  readonly a: ComparedSide;
  readonly b: ComparedSide;
  /** b.modelBytes / a.modelBytes. */
  readonly ratio: number;
  /** a.p50Us / b.p50Us; the interval only where both were measured here. Null where one is not known. */
  readonly latency: { readonly speedup: number; readonly interval: LatencyReport['interval'] | null } | null;
  readonly tensors: readonly WeightChange[];
}

export interface CompareOptions {
  /** To measure each in each of five rounds; 0: latency is not measured. Default 0.2. */
  readonly seconds?: number | undefined;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { step: string; done: number; total: number | undefined }) => void) | undefined;
}

/**
 * Two packs, models or reports of `compile --json` side by side.
 * @throws {CompilerError} `compiler/data` for a file that is none of these; what checkpoint, onnx, pack and runtime throw
 */
export async function compare(a: string, b: string, options: CompareOptions = {}): Promise<CompareReport> {
  const { seconds = 0.2, signal, onProgress } = options;
  onProgress?.({ step: 'read', done: 0, total: 2 });
  const left = await openSide(a, signal);
  onProgress?.({ step: 'read', done: 1, total: 2 });
  const right = await openSide(b, signal);
  const measured = left.weights && right.weights && seconds > 0 ? await measure(a, b, seconds, options) : null;
  const [before, after] = [
    { ...left.side, p50Us: measured?.fp32.p50Us ?? left.side.p50Us },
    { ...right.side, p50Us: measured?.quantized.p50Us ?? right.side.p50Us },
  ];
  const known = before.p50Us !== null && after.p50Us !== null ? before.p50Us / after.p50Us : null;
  return {
    a: before,
    b: after,
    ratio: after.modelBytes / before.modelBytes,
    latency: known === null ? null : { speedup: measured?.speedup ?? known, interval: measured?.interval ?? null },
    tensors: left.weights && right.weights ? changes(left.weights, right.weights, onProgress) : [],
  };
}

interface OpenSide {
  readonly side: ComparedSide;
  /** Undefined for a report. */
  readonly weights: readonly HeldWeight[] | undefined;
}

async function openSide(path: string, signal: AbortSignal | undefined): Promise<OpenSide> {
  if (path.endsWith('.json')) return { side: await readReport(path), weights: undefined };
  const opened = await openGraph(path, signal);
  try {
    // Read now: a pack's files go when it is closed.
    const weights = weightFormats(opened.model).map((held) => ({ ...held, values: once(held.values()) }));
    const report = (opened.report ?? {}) as Partial<CompileReport>;
    const side: ComparedSide = {
      path,
      kind: opened.folder ? 'model' : 'pack',
      modelBytes: opened.fileBytes,
      recipe: nameOf(report.recipe),
      verdict: report.verdict ?? null,
      nodes: report.nodes ?? null,
      formats: byFormat(weights),
      p50Us: null,
    };
    return { side, weights };
  } finally {
    await opened.close();
  }
}

function once<T>(value: T): () => T {
  return () => value;
}

async function readReport(path: string): Promise<ComparedSide> {
  const refuse = (what: string, cause?: unknown): never => {
    throw new CompilerError('compiler/data', `${path} ${what}`, {
      where: path,
      hint: 'give what compile --json prints',
      cause,
    });
  };
  let report: Partial<CompileReport> = {};
  try {
    report = (JSON.parse(await readFile(path, 'utf8')) ?? {}) as Partial<CompileReport>;
  } catch (cause) {
    return refuse(cause instanceof SyntaxError ? 'is not JSON' : 'cannot be read', cause);
  }
  if (typeof report.pack?.modelBytes !== 'number') return refuse('is no report of compile');
  return {
    path,
    kind: 'report',
    modelBytes: report.pack.modelBytes,
    recipe: nameOf(report.recipe),
    verdict: report.verdict ?? null,
    nodes: report.nodes ?? null,
    formats: {},
    p50Us: report.latency?.quantized.p50Us ?? null,
  };
}

function nameOf(recipe: string | undefined): string | null {
  return recipe === undefined ? null : (/^name: (.*)$/m.exec(recipe)?.[1] ?? null);
}

function byFormat(weights: readonly HeldWeight[]): ComparedSide['formats'] {
  const formats = new Map<string, { nodes: number; bytes: number }>();
  for (const { format, bytes } of weights) {
    const all = formats.get(format) ?? { nodes: 0, bytes: 0 };
    formats.set(format, { nodes: all.nodes + 1, bytes: all.bytes + bytes });
  }
  return Object.fromEntries([...formats].toSorted((x, y) => y[1].bytes - x[1].bytes));
}

function changes(
  a: readonly HeldWeight[],
  b: readonly HeldWeight[],
  onProgress: CompareOptions['onProgress'],
): WeightChange[] {
  const [left, right] = [a, b].map((all) => new Map(all.map((held) => [held.node, held])));
  const nodes = new Set([...a, ...b].map(({ node }) => node));
  const found: WeightChange[] = [];
  for (const [index, node] of [...nodes].entries()) {
    onProgress?.({ step: 'weights', done: index, total: nodes.size });
    const [before, after] = [left?.get(node), right?.get(node)];
    const sqnrDb = before && after ? difference(before, after) : null;
    if (before?.format === after?.format && before?.bytes === after?.bytes && sqnrDb === null) continue;
    const side = (held: HeldWeight | undefined) => (held ? { format: held.format, bytes: held.bytes } : null);
    found.push({ node, op: (after ?? before)?.op ?? '', a: side(before), b: side(after), sqnrDb });
  }
  return found;
}

function difference(a: HeldWeight, b: HeldWeight): number | null {
  if (a.dims.join() !== b.dims.join()) return null;
  const [x, y] = [a.values(), b.values()];
  if (!x || !y) return null;
  let [signal, error] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    signal += (x[i] ?? 0) ** 2;
    error += ((x[i] ?? 0) - (y[i] ?? 0)) ** 2;
  }
  const db = ratioDb(signal, error);
  return db !== null && db > EQUAL_DB ? null : db;
}

/** A float32's own rounding; what is farther apart is another number. */
const EQUAL_DB = 140;

/** In turns, on the same made-up inputs, each as this machine would run it. */
async function measure(
  a: string,
  b: string,
  seconds: number,
  { threads, signal, onProgress }: CompareOptions,
): Promise<LatencyReport | null> {
  const left = await openJudged(a, { threads, signal });
  const right = await openJudged(b, { threads, signal }).catch(async (error: unknown) => {
    await left.close();
    throw error;
  });
  const opened = await openGraph(a, signal);
  try {
    const isText = left.text !== undefined;
    const madeUp = isText ? [] : await suitableInputs(left.session, opened.model.graph);
    const feeds = await latencyFeeds({ data: undefined, isText, madeUp });
    if (feeds(left.session.inputs).length === 0) return null;
    return await compareLatency(left.session, right.session, feeds, {
      seconds,
      signal,
      onRound: (done, total) => onProgress?.({ step: 'measure', done, total }),
    });
  } finally {
    await opened.close();
    await left.close();
    await right.close();
  }
}
