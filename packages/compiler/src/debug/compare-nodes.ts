import { cloneModel, type Graph, type Model, type Node } from '@flotilla/onnx';
import type { Session, Tensors, TensorValue } from '@flotilla/runtime';
import { type Exposed, exposeValues } from '../analyze/expose.ts';
import { openModelSession } from '../calibrate/model-session.ts';
import { CompilerError } from '../errors.ts';
import type { CalibrationData } from '../runner.ts';
import { alignValues } from './align-values.ts';
import { asNumber, Deviation } from './deviation.ts';
import { cutAt } from './given-values.ts';
import { addressOf, stretchTo } from './stretches.ts';

/** How far a node's value is from the right one. */
export interface NodeError {
  /** By which a person finds it in the model: the node with weights, where the stretch up to the value has just one. */
  readonly node: string;
  readonly op: string;
  /** The value that was compared; in a branch of an If, behind the path to it. */
  readonly tensor: string;
  /** As the model runs, everything before included; null: equal; −300: not finite on one side. */
  readonly sqnrDb: number | null;
  /** The node's own: from the right model's values. */
  readonly ownDb: number | null;
  /** The factor by which the node's own value is the right one's: a wrong scale shows here. */
  readonly ownGain: number | null;
  /** Nodes between this value and the matched ones before it, the last one first; without those that only quantize. */
  readonly nodes: readonly string[];
}

interface CompareOptions {
  readonly most: number;
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((step: string, done: number, total: number | undefined) => void) | undefined;
}

export interface Compared {
  readonly samples: number;
  readonly nodes: readonly NodeError[];
  /** Values of the model that none of the right ones has. */
  readonly unmatched: readonly string[];
}

/**
 * The error at every value that a model shares with a right one. A rewrite may have given an old name to another value:
 * of several right models (as it came, and cleaned up) the one that fits better counts, value by value; and where the
 * models' structure says that a value is called otherwise, that one too.
 * Memory: one sample's values, once a model.
 * @throws {CompilerError} `compiler/graph` where no value matches; `compiler/calibration`
 */
export async function compareNodes(
  suspect: Model,
  right: readonly Model[],
  data: CalibrationData,
  options: CompareOptions,
): Promise<Compared> {
  const opened: Probe[] = [];
  try {
    for (const model of [suspect, ...right]) opened.push(await openProbe(model));
    const [own, ...named] = opened as [Probe, ...Probe[]];
    const references = [...named, ...right.flatMap((model, index) => byStructure(suspect, model, named[index]))];
    const { samples, deviations } = await runThrough(own, references, data, options);
    const best = new Map<string, number>();
    for (const [key, all] of deviations) {
      const order = all.map((d, index) => ({ index, d })).filter(({ d }) => d.count > 0);
      const [first] = order.toSorted((a, b) => asNumber(b.d.sqnrDb) - asNumber(a.d.sqnrDb));
      if (first) best.set(key, first.index);
    }
    if (best.size === 0)
      throw new CompilerError('compiler/graph', 'no value of the one model is found in the other', {
        hint: 'give the model that it was made from',
      });
    const alone = await ownErrors(suspect, references, best, data, options);
    const isMatched = matcher(own.exposed, best);
    const nodes = own.exposed.flatMap((one): NodeError[] => {
      const index = best.get(one.key);
      if (index === undefined) return [];
      const stretch = stretchTo(one.node, isMatched);
      const address = addressOf(stretch) ?? one.node;
      const self = alone.get(one.key);
      return [
        {
          node: nameOf(address),
          op: address.opType,
          tensor: one.key,
          sqnrDb: deviations.get(one.key)?.[index]?.sqnrDb ?? null,
          ownDb: self?.sqnrDb ?? null,
          ownGain: self?.gain ?? null,
          nodes: stretch.filter(({ opType }) => !/^(Dequantize|Quantize)Linear$/.test(opType)).map(nameOf),
        },
      ];
    });
    const unmatched = own.exposed.filter(
      ({ key, node }) =>
        own.outputs.has(key) && !deviations.has(key) && node.opType !== 'DequantizeLinear' && !isWeight(node),
    );
    return { samples, nodes, unmatched: unmatched.map(({ key }) => key) };
  } finally {
    for (const { session } of opened) await session.close();
  }
}

/**
 * A right model's values under the names that the same values have in the suspect, where those are others. A name that
 * both have, for a value that the same operator gives, is believed.
 */
function byStructure(suspect: Model, model: Model, probe: Probe | undefined): readonly Probe[] {
  const outputs = new Map<string, string>();
  for (const [value, counterpart] of alignValues(suspect.graph, model.graph)) {
    const output = probe?.outputs.get(counterpart);
    const namesake = model.graph.producer(value)?.opType;
    const isNamed = namesake !== undefined && namesake === suspect.graph.producer(value)?.opType;
    if (value !== counterpart && !isNamed && output !== undefined) outputs.set(value, output);
  }
  return probe === undefined || outputs.size === 0 ? [] : [{ ...probe, outputs }];
}

interface Probe {
  readonly session: Session;
  readonly exposed: readonly Exposed[];
  /** Output by key, of what is float32. */
  readonly outputs: ReadonlyMap<string, string>;
}

async function openProbe(model: Model): Promise<Probe> {
  const probe = cloneModel(model);
  const exposed = exposeValues(probe);
  const session = await openModelSession(probe, { optimization: 'basic' });
  const floats = new Set(session.outputs.filter(({ dtype }) => dtype === 'float32').map(({ name }) => name));
  const outputs = new Map(exposed.filter(({ output }) => floats.has(output)).map(({ key, output }) => [key, output]));
  return { session, exposed, outputs };
}

/** By key, the deviation from each reference, everything before included. */
async function runThrough(
  own: Probe,
  references: readonly Probe[],
  data: CalibrationData,
  { most, signal, progress }: CompareOptions,
): Promise<{ readonly samples: number; readonly deviations: ReadonlyMap<string, readonly Deviation[]> }> {
  const deviations = new Map<string, readonly Deviation[]>();
  const keys = [...own.outputs.keys()].filter((key) => references.some(({ outputs }) => outputs.has(key)));
  for (const key of keys)
    deviations.set(
      key,
      references.map(() => new Deviation()),
    );
  let samples = 0;
  for await (const { inputs } of data.samples()) {
    signal?.throwIfAborted();
    const values = await fetchValues(own, inputs, keys, samples);
    for (const [index, reference] of references.entries()) {
      const expected = await fetchValues(reference, inputs, keys, samples);
      for (const [key, all] of deviations) all[index]?.add(expected.get(key), values.get(key));
    }
    samples++;
    progress?.('run', samples, most);
    if (samples === most) break;
  }
  if (samples === 0) throw new CompilerError('compiler/calibration', 'there is no sample to run');
  return { samples, deviations };
}

async function fetchValues(
  { session, outputs }: Probe,
  feeds: Tensors,
  keys: readonly string[],
  sample: number,
): Promise<ReadonlyMap<string, TensorValue | undefined>> {
  const wanted = keys.flatMap((key) => {
    const output = outputs.get(key);
    return output === undefined ? [] : [[key, output] as const];
  });
  const fetches = [...new Set(wanted.map(([, output]) => output))];
  const own = Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputs.some((i) => i.name === name)));
  const fetched = fetches.length === 0 ? {} : await runOne(session, own, fetches, sample);
  return new Map(wanted.map(([key, output]) => [key, fetched[output]]));
}

async function runOne(session: Session, feeds: Tensors, fetches: readonly string[], sample: number): Promise<Tensors> {
  try {
    return await session.run(feeds, { fetches });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const where = `sample ${sample}`;
    throw new CompilerError('compiler/calibration', `${where} does not run: ${reason}`, { where, cause });
  }
}

/** By key, what the stretch up to the value errs when it is given the right values. */
async function ownErrors(
  suspect: Model,
  references: readonly Probe[],
  best: ReadonlyMap<string, number>,
  data: CalibrationData,
  { most, signal, progress }: CompareOptions,
): Promise<ReadonlyMap<string, Deviation>> {
  const keys = new Set(best.keys());
  const given = cutAt(suspect, keys, keys);
  const deviations = new Map([...given.outputs.keys()].map((key) => [key, new Deviation()]));
  const session = await openModelSession(given.model, { optimization: 'basic' });
  const names = new Set(session.inputs.map(({ name }) => name));
  try {
    let samples = 0;
    for await (const { inputs } of data.samples()) {
      signal?.throwIfAborted();
      const expected = new Map<string, TensorValue | undefined>();
      for (const [index, reference] of references.entries()) {
        const mine = [...keys].filter((key) => best.get(key) === index);
        for (const [key, value] of await fetchValues(reference, inputs, mine, samples)) expected.set(key, value);
      }
      const feeds: { [name: string]: TensorValue } = {};
      for (const [name, value] of Object.entries(inputs)) if (names.has(name)) feeds[name] = value;
      for (const [key, name] of given.inputs) {
        const value = expected.get(key);
        if (value && names.has(name)) feeds[name] = value;
      }
      const values = await runOne(session, feeds, [...new Set(given.outputs.values())], samples);
      for (const [key, output] of given.outputs) deviations.get(key)?.add(expected.get(key), values[output]);
      samples++;
      progress?.('node by node', samples, most);
      if (samples === most) break;
    }
  } finally {
    await session.close();
  }
  return deviations;
}

/** Whether a value of the model, in its own graph, is one that was matched. */
function matcher(exposed: readonly Exposed[], best: ReadonlyMap<string, number>) {
  const matched = new Map<Graph, Set<string>>();
  for (const { key, value, node } of exposed) {
    if (!best.has(key)) continue;
    const values = matched.get(node.graph) ?? new Set<string>();
    matched.set(node.graph, values.add(value));
  }
  return (graph: Graph, value: string): boolean => matched.get(graph)?.has(value) ?? false;
}

/** Made of constants alone: no value of the model. */
function isWeight(node: Node): boolean {
  return node.inputs.every((name) => name === '' || node.graph.constant(name) !== undefined);
}

function nameOf(node: Node): string {
  return node.name || (node.outputs[0] ?? node.opType);
}
