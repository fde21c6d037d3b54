import { QuantError } from '../errors.ts';
import { seededBits } from './seeded.ts';

/** How tensors of several adapters become one; `density` is the share of each that is kept. */
export interface CombineOptions {
  readonly method: 'linear' | 'ties' | 'dare_linear' | 'dare_ties' | 'magnitude_prune';
  /** 0 to 1; for all but `linear`. */
  readonly density: number;
  /** Which sign wins, for `ties` and `dare_ties`: that of the sum, or of the larger number. */
  readonly majoritySign: 'total' | 'frequency';
  /** For `dare_linear` and `dare_ties`: which elements are dropped. */
  readonly seed: number;
}

/**
 * Weighs and combines tensors of one shape. `ties` keeps the largest of each tensor and, at each place, averages those
 * that have the winning sign; `dare` drops at random and scales up what is left.
 * @param weights one factor a tensor
 * @throws {QuantError} `quant/shape` where lengths or counts differ; `quant/range` for a density outside (0, 1]
 * @see Yadav et al. 2023, TIES-Merging; Yu et al. 2023, DARE; PEFT `merge_utils.py`, whose order of steps this is
 */
export function combineTensors(
  tensors: readonly Float32Array[],
  weights: readonly number[],
  { method, density, majoritySign, seed }: CombineOptions,
): Float32Array {
  const [first] = tensors;
  if (!first || tensors.some(({ length }) => length !== first.length) || weights.length !== tensors.length) {
    const lengths = tensors.map(({ length }) => length).join(', ');
    throw new QuantError('quant/shape', `tensors of ${lengths} elements, ${weights.length} weights`);
  }
  if (!(density > 0 && density <= 1))
    throw new QuantError('quant/range', `density ${density} is not above 0 and up to 1`);
  const random = seededBits(seed);
  const pruned =
    method === 'linear' || density === 1
      ? tensors
      : tensors.map((tensor) =>
          method === 'ties' || method === 'magnitude_prune'
            ? keepLargest(tensor, density)
            : dropOut(tensor, density, random),
        );
  const elects = method === 'ties' || method === 'dare_ties';
  return elects ? mergeElected(pruned, weights, majoritySign) : weightedSum(pruned, weights);
}

/** All but the largest `density` share become 0; of equals the earlier stay. */
function keepLargest(tensor: Float32Array, density: number): Float32Array {
  const kept = new Float32Array(tensor.length);
  const order = Uint32Array.from(tensor.keys());
  order.sort((a, b) => Math.abs(tensor[b]) - Math.abs(tensor[a]) || a - b);
  for (const i of order.subarray(0, Math.floor(density * tensor.length))) kept[i] = tensor[i];
  return kept;
}

function dropOut(tensor: Float32Array, density: number, random: () => number): Float32Array {
  return tensor.map((value) => (random() < density ? value / density : 0));
}

function weightedSum(tensors: readonly Float32Array[], weights: readonly number[]): Float32Array {
  const sum = new Float32Array(tensors[0].length);
  for (let i = 0; i < sum.length; i++) {
    let total = 0;
    for (let t = 0; t < tensors.length; t++) total += tensors[t][i] * weights[t];
    sum[i] = total;
  }
  return sum;
}

function mergeElected(
  tensors: readonly Float32Array[],
  weights: readonly number[],
  majoritySign: CombineOptions['majoritySign'],
): Float32Array {
  const merged = new Float32Array(tensors[0].length);
  for (let i = 0; i < merged.length; i++) {
    let votes = 0;
    for (const tensor of tensors) votes += majoritySign === 'total' ? tensor[i] : Math.sign(tensor[i]);
    const elected = votes >= 0 ? 1 : -1;
    let total = 0;
    let count = 0;
    for (let t = 0; t < tensors.length; t++) {
      if (Math.sign(tensors[t][i]) !== elected) continue;
      total += tensors[t][i] * weights[t];
      count++;
    }
    merged[i] = total / Math.max(count, 1);
  }
  return merged;
}
