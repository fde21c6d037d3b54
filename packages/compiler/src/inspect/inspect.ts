import { elementCount, type Model, type Tensor, type ValueInfo } from '@flotilla/onnx';
import { type ActivationReport, observeActivations } from '../analyze/activations.ts';
import { type Distribution, DistributionWatch } from '../analyze/distribution.ts';
import { type WeightLosses, weightLosses } from '../analyze/losses.ts';
import { TensorReader, type Values } from '../analyze/read-tensors.ts';
import { calibrationData } from '../compile/samples.ts';
import { constantsOf } from '../compile/source.ts';
import { openData } from '../data/open-data.ts';
import { isHead } from '../int4/is-head.ts';
import { isPositionTable } from '../int4/position-table.ts';
import { sizesAt, type WeightSite, weightSite } from '../int4/weight-site.ts';
import { sessionInputs } from './model-inputs.ts';
import { openGraph } from './open-graph.ts';

export interface TensorReport extends Distribution {
  readonly name: string;
  /** The node that reads it, by which a person finds it; '' where several or none do. */
  readonly node: string;
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly bytes: number;
  readonly sqnrDb: WeightLosses;
}

export interface PlanEntry {
  readonly node: string;
  readonly op: string;
  /** What `--weights int4` would make of it; null: it stays float. */
  readonly format: 'int4' | 'int8' | null;
  readonly reason: string;
  readonly bytes: number;
  /** Bytes that the plan saves. */
  readonly saves: number;
}

/** What `flotilla inspect --json` prints. */
export interface InspectReport {
  readonly path: string;
  readonly ops: { readonly [op: string]: number };
  readonly opset: number;
  readonly parameters: number;
  /** Of the file and its external data. */
  readonly bytes: number;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** Float constants of at least 64 elements, largest first. */
  readonly tensors: readonly TensorReport[];
  /** Bytes of weights by layer: the node's path without its last part, or the node where it has no path. */
  readonly layers: readonly { readonly layer: string; readonly bytes: number }[];
  readonly plan: readonly PlanEntry[];
  /** Float values over the data, in the graph's order; null where no data was given. */
  readonly activations: { readonly samples: number; readonly values: readonly ActivationReport[] } | null;
}

export interface InspectOptions {
  /** As `openData` reads it: activations are observed on it. */
  readonly data?: string | undefined;
  /** Rules for a folder of pictures or sound. */
  readonly preprocess?: string | undefined;
  /** Samples that are run at most. Default 16. */
  readonly samples?: number | undefined;
  /** Each channel's own range, mean and standard deviation too. Default false. */
  readonly channels?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { step: string; done: number; total: number | undefined }) => void) | undefined;
}

export interface Port {
  readonly name: string;
  readonly dtype: string;
  readonly dims: readonly (number | string)[];
}

/**
 * What is in a model that a person has never seen: tensors are read one at a time, and with data its activations watched
 * go by.
 * @param path an `.onnx` file, a folder in Hugging Face layout, or a pack
 * @throws {CompilerError} `compiler/data`, `compiler/calibration`; what checkpoint, onnx and pack throw
 */
export async function inspect(path: string, options: InspectOptions = {}): Promise<InspectReport> {
  const { data, preprocess, samples, channels, signal, onProgress } = options;
  const opened = await openGraph(path, signal);
  const { model, fileBytes, tokenizer } = opened;
  try {
    const inputs = sessionInputs(model);
    // Looked for first: a mistyped name must not cost the reading of all weights.
    const set = data === undefined ? undefined : await openData(data, { inputs, preprocess });
    const facts = await describe(model, path, fileBytes, options);
    if (!set) return { ...facts, activations: null };
    const { activations, samples: count } = await observeActivations(model, calibrationData(set, inputs, tokenizer), {
      most: samples,
      bins: BINS,
      detail: channels,
      signal,
      progress: (done, total) => onProgress?.({ step: 'activations', done, total }),
    });
    return { ...facts, activations: { samples: count, values: activations } };
  } finally {
    await opened.close();
  }
}

async function describe(
  model: Model,
  path: string,
  fileBytes: number,
  { channels, signal, onProgress }: InspectOptions,
): Promise<Omit<InspectReport, 'activations'>> {
  const sites = weightSites(model);
  const constants = [...constantsOf(model)];
  const tensors = await weightReports(model, {
    channels,
    signal,
    progress: (done, total) => onProgress?.({ step: 'weights', done, total }),
  });
  const held = constants.reduce((sum, tensor) => sum + tensor.byteLength, 0);
  return {
    path,
    ops: countOps(model),
    opset: model.opset.get('') ?? 0,
    parameters: constants.filter(isFloat).reduce((sum, tensor) => sum + elementCount(tensor), 0),
    bytes: held > fileBytes ? fileBytes + held : fileBytes,
    inputs: model.graph.inputs.filter(({ name }) => !model.graph.initializers.has(name)).map(port),
    outputs: model.graph.outputs.map(port),
    tensors: tensors.toSorted((a, b) => b.bytes - a.bytes),
    layers: layersOf(sites),
    plan: sites.map(({ op, node, found }) => planFor(op, node, found)),
  };
}

/** Distributions of the float constants of at least 64 elements, and what each format would keep of the weights among them. */
export async function weightReports(
  model: Model,
  options: {
    readonly channels?: boolean | undefined;
    /** Default: one that reads everything whole. */
    readonly reader?: TensorReader | undefined;
    readonly signal?: AbortSignal | undefined;
    readonly progress?: ((done: number, total: number) => void) | undefined;
  } = {},
): Promise<TensorReport[]> {
  const byTensor = new Map<string, WeightSite>();
  for (const { found } of weightSites(model)) if (typeof found !== 'string') byTensor.set(found.tensor.name, found);
  const floating = [...constantsOf(model)].filter((tensor) => isFloat(tensor) && elementCount(tensor) >= SMALLEST);
  const { channels = false, reader = new TensorReader(Infinity) } = options;
  const reports: TensorReport[] = [];
  for (const [done, tensor] of floating.entries()) {
    options.progress?.(done, floating.length);
    // Lets the signal and the progress bar in: one tensor can take a second.
    await new Promise(setImmediate);
    options.signal?.throwIfAborted();
    reports.push(report(tensor, reader.read(tensor), byTensor.get(tensor.name), channels));
  }
  return reports;
}

const BINS = 24;
const SMALLEST = 64;
const WEIGHT_OPS: ReadonlySet<string> = new Set(['Conv', 'Gemm', 'MatMul', 'Gather', 'ConvTranspose', 'LSTM', 'GRU']);

interface Site {
  readonly op: string;
  readonly node: string;
  readonly found: WeightSite | string;
}

function weightSites(model: Model): readonly Site[] {
  const sites: Site[] = [];
  for (const node of model.graph.walk()) {
    if (!WEIGHT_OPS.has(node.opType) || node.domain !== '') continue;
    const found = weightSite(node.graph, node);
    // Most Gathers pick a dimension out of a shape.
    if (node.opType === 'Gather' && typeof found === 'string') continue;
    sites.push({ op: node.opType, node: node.name || (node.outputs[0] ?? ''), found });
  }
  return sites;
}

function planFor(op: string, node: string, found: WeightSite | string): PlanEntry {
  const stays = (reason: string, bytes = 0): PlanEntry => ({ node, op, format: null, reason, bytes, saves: 0 });
  if (typeof found === 'string') return stays(found);
  const { tensor, axis, node: reader } = found;
  const { cols } = sizesAt(tensor.dims, axis);
  const count = elementCount(tensor);
  const bytes = tensor.byteLength;
  if (tensor.dtype !== 'float32') return stays(`its weight is ${tensor.dtype}`, bytes);
  if (count < 1024) return stays(`only ${count} weights`, bytes);
  const last = isHead(reader.graph, reader);
  if (cols < 16 || last) {
    const reason = `${last ? 'the last layer' : `only ${cols} weights to sum over`}: one scale per channel`;
    return { node, op, format: 'int8', reason, bytes, saves: bytes - count };
  }
  if (op === 'Gather' && isPositionTable(tensor, cols)) return stays('a table of positions', bytes);
  // 4 bits, and for each block of 32 a float32 scale and a 4-bit zero point.
  const kept = Math.ceil(count / 2) + Math.ceil(count / 32) * 4.5;
  return { node, op, format: 'int4', reason: 'blocks of 32', bytes, saves: Math.max(0, Math.round(bytes - kept)) };
}

function report(tensor: Tensor, read: Values, site: WeightSite | undefined, channels: boolean): TensorReport {
  const { values, dims } = read;
  const sizes = site && tensor.dtype === 'float32' ? sizesAt(dims, site.axis) : undefined;
  const { name, dims: shape, dtype, byteLength } = tensor;
  const node = site ? site.node.name || (site.node.outputs[0] ?? '') : '';
  const watch = new DistributionWatch();
  watch.observe(values, dims, site?.channelAxis ?? 0);
  const sqnrDb = weightLosses(values, sizes, watch.moments.energy);
  return { name, node, shape, dtype, bytes: byteLength, ...watch.report(BINS, channels), sqnrDb };
}

function layersOf(sites: readonly Site[]): InspectReport['layers'] {
  const layers = new Map<string, number>();
  const seen = new Set<string>();
  for (const { node, found } of sites) {
    if (typeof found === 'string' || seen.has(found.tensor.name)) continue;
    seen.add(found.tensor.name);
    const parts = node.split('/').filter(Boolean);
    const layer = parts.length > 1 ? parts.slice(0, -1).join('/') : node;
    layers.set(layer, (layers.get(layer) ?? 0) + found.tensor.byteLength);
  }
  return [...layers].map(([layer, bytes]) => ({ layer, bytes })).toSorted((a, b) => b.bytes - a.bytes);
}

function countOps(model: Model): { readonly [op: string]: number } {
  const counts = new Map<string, number>();
  for (const { opType, domain } of model.graph.walk()) {
    const op = domain === '' ? opType : `${domain}.${opType}`;
    counts.set(op, (counts.get(op) ?? 0) + 1);
  }
  return Object.fromEntries([...counts].toSorted((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)));
}

function port({ name, type }: ValueInfo): Port {
  return { name, dtype: type?.dtype ?? 'unknown', dims: (type?.dims ?? []).map((dim) => dim ?? '?') };
}

function isFloat({ dtype }: Tensor): boolean {
  return dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16' || dtype === 'float64';
}
