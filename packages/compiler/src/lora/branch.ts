import type { LoraAdapter } from '@flotilla/checkpoint';
import { floats, type Graph, type Model } from '@flotilla/onnx';
import type { AdapterPart } from '@flotilla/pack';
import { float32ToFloat16, loraDelta } from '@flotilla/quant';
import { CompilerError } from '../errors.ts';
import type { Weighted } from './combine.ts';
import { findHomes, type Home } from './homes.ts';
import { LayerEdits, readWeights } from './layer-edits.ts';
import type { LoraMap } from './lora-map.ts';
import { placeModules, type WeightedAdapter } from './merge.ts';
import { placeParameter } from './parameters.ts';
import { list } from './sites.ts';

/** One module of an adapter and a layer that it belongs to, in the graph as it came. */
export interface BranchPlan {
  readonly module: string;
  readonly home: Home;
  readonly begin: number;
  readonly end: number;
  readonly factors: Weighted;
}

/** What a recipe made of the graph that the plan was made on. */
export interface Rewritten {
  readonly cleaned: Model;
  readonly model: Model;
}

/**
 * Finds the layers that an adapter is to stand beside.
 * @throws {CompilerError} `compiler/lora-home`, `compiler/lora-shape`; `compiler/lora-branch` for what no branch can carry
 */
export function planBranches(graph: Graph, weighted: WeightedAdapter, map: LoraMap): readonly BranchPlan[] {
  const { adapter } = weighted;
  const homes = findHomes(graph);
  const whole = [...adapter.tokens.keys(), ...changedParameters(graph, adapter, homes, map)];
  if (whole[0] !== undefined) throw refusal(adapter.dir, `${whole[0]} is trained whole, which is no low-rank branch`);
  const placed = placeModules([weighted], homes, map);
  return [...placed].flatMap(([module, { site, parts }]) =>
    site.readers.map((home): BranchPlan => {
      if (home.node.opType === 'Conv') throw refusal(adapter.dir, `${module} is a convolution: ${list([home])}`);
      if (home.node.graph !== graph)
        throw refusal(adapter.dir, `${module} lies in a body of the graph: ${list([home])}`);
      return { module, home, begin: site.begin, end: site.end, factors: parts[0] };
    }),
  );
}

/** Parameters that are another's than the base's: PEFT saves embeddings along with the factors beside them, untouched. */
function changedParameters(
  graph: Graph,
  adapter: LoraAdapter,
  homes: readonly Home[],
  map: LoraMap,
): readonly string[] {
  const { parameters, modules, config, dir } = adapter;
  const siblings = new Map([...modules].map(([module, { outFeatures }]) => [module, outFeatures]));
  const search = { graph, homes, map, siblings, where: dir, fanInFanOut: config.fanInFanOut };
  const edits = new LayerEdits(graph); // never written: only to compare
  return [...parameters].flatMap(([name, { shape, values }]) => {
    const place = placeParameter(name, shape, search);
    if (!place?.site) return [name];
    const before = edits.weightsOf(place.site).slice();
    place.put(edits, values);
    const after = edits.weightsOf(place.site);
    return before.every((value, i) => value === after[i]) ? [] : [name];
  });
}

/**
 * An adapter's factors as the rewritten graph needs them: the scale and DoRA's norm in B, gain and shift.
 * @param use 'beside': for branches, whose gain multiplies all that a layer puts out; 'merged': for weights, which have no
 *   shift
 * @throws {CompilerError} `compiler/lora-branch` where the recipe changed a layer that the adapter was trained beside
 */
export function branchParts(
  plans: readonly BranchPlan[],
  { cleaned, model }: Rewritten,
  use: 'beside' | 'merged' = 'beside',
): readonly AdapterPart[] {
  const homes = findHomes(cleaned.graph);
  const parts = plans.map((plan) => {
    const home = homes.find((other) => isSame(other.node, plan.home.node));
    const node = model.graph.nodes.find((other) => isSame(other, plan.home.node));
    const { where } = plan.factors;
    if (!home || !node) throw refusal(where, `the recipe took the layer of ${plan.module} away: ${list([plan.home])}`);
    const weights = readWeights(plan.home);
    const scales = columnScales(weights, readWeights(home), home.inFeatures);
    if (!scales)
      throw refusal(
        where,
        `the recipe changes the weights of ${list([home])}, beside which ${plan.module} was trained`,
        use === 'merged'
          ? 'compile the base pack with --lora-mode rebuild'
          : 'leave rotate-residual, scale-channels, smooth-quant and equalize out of the recipe, or merge the adapter',
      );
    if (use === 'merged' && plan.factors.factors.bias)
      throw refusal(where, `${plan.module} trains a bias, which is no change of weights`);
    return partOf(plan, home, { weights, scales, output: node.outputs[0] ?? '', use });
  });
  return parts.sort((a, b) => (a.output === b.output ? a.begin - b.begin : a.output < b.output ? -1 : 1));
}

interface Named {
  readonly name: string;
  readonly outputs: readonly string[];
}

function isSame(node: Named, other: Named): boolean {
  return other.name === '' ? node.outputs[0] === other.outputs[0] : node.name === other.name;
}

/** What folding a gain into weights leaves of float32's precision. */
const FOLDED = 1e-5;

/**
 * How much greater each input's weights have become: clean-up folds a norm's gain into the layers that read it, and what
 * they read is then that much smaller. Undefined where the weights changed otherwise.
 */
function columnScales(before: Float32Array, after: Float32Array, inFeatures: number): Float32Array | undefined {
  if (before.length !== after.length) return undefined;
  const scales = new Float32Array(inFeatures).fill(1);
  for (let i = 0; i < inFeatures; i++) {
    let at = i;
    for (let j = i; j < before.length; j += inFeatures)
      if (Math.abs(before[j] ?? 0) > Math.abs(before[at] ?? 0)) at = j;
    const largest = before[at] ?? 0;
    if (largest !== 0) scales[i] = (after[at] ?? 0) / largest;
    const bound = FOLDED * Math.abs(after[at] ?? 0);
    for (let j = i; j < before.length; j += inFeatures)
      if (!(Math.abs((after[j] ?? 0) - (before[j] ?? 0) * (scales[i] ?? 1)) <= bound)) return undefined;
  }
  return scales;
}

interface Layer {
  /** As they were when the adapter was trained. */
  readonly weights: Float32Array;
  readonly scales: Float32Array;
  readonly output: string;
  readonly use: 'beside' | 'merged';
}

/** @see Liu et al. 2024, DoRA, equation 5: `W' = m (W + ΔW) / ‖W + ΔW‖`, row by row */
function partOf(
  { module, begin, end, factors: { factors, weight, where } }: BranchPlan,
  { node, bias, inFeatures, outFeatures }: Home,
  { weights, scales, output, use }: Layer,
): AdapterPart {
  const { a, b, rank, magnitude, bias: added } = factors;
  const count = end - begin;
  const scale = factors.scale * weight;
  const gain =
    magnitude &&
    gains(magnitude, weights.subarray(begin * inFeatures, end * inFeatures), () =>
      loraDelta({ ...factors, inFeatures, scale }),
    );
  // What the layer adds itself is scaled along by the gain, and must not be.
  const inside = gain && use === 'beside' && bias?.node === node ? floats(bias.tensor) : undefined;
  const shift = new Float32Array(count);
  for (let o = 0; o < count; o++)
    shift[o] = (added?.[o] ?? 0) * scale + (inside?.[begin + o] ?? 0) * (1 - (gain?.[o] ?? 1));
  const half = (values: Float32Array): Uint16Array => {
    const rounded = float32ToFloat16(values);
    if (rounded.some((bits) => (bits & 0x7c00) === 0x7c00))
      throw refusal(where, `${module} has factors too large for float16`);
    return rounded;
  };
  return {
    output,
    inFeatures,
    outFeatures,
    begin,
    end,
    rank,
    a: half(a.map((value, i) => value * (scales[i % inFeatures] ?? 1))),
    b: half(b.map((value, i) => value * scale * (gain?.[Math.floor(i / rank)] ?? 1))),
    gain: gain && half(gain),
    shift: added || inside ? half(shift) : undefined,
  };
}

function gains(magnitude: Float32Array, weights: Float32Array, delta: () => Float32Array): Float32Array {
  const added = delta();
  const size = weights.length / magnitude.length;
  return magnitude.map((length, o) => {
    let squares = 0;
    for (let i = o * size; i < (o + 1) * size; i++) squares += ((weights[i] ?? 0) + (added[i] ?? 0)) ** 2;
    return length / Math.sqrt(squares);
  });
}

function refusal(where: string, problem: string, hint = 'merge it: --lora-mode merge'): CompilerError {
  return new CompilerError('compiler/lora-branch', `${where}: ${problem}`, { where, hint });
}
