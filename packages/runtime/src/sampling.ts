import { RuntimeError } from './errors.ts';

/** How a token is chosen from logits. The parts apply in this order. */
export interface Sampling {
  /** Logits of tokens in the prompt or the text: above 0 divided by this, below multiplied (CTRL, 2019). Default 1. */
  readonly repetitionPenalty?: number | undefined;
  /** Logits are divided by this; 0, the default, takes the best token. */
  readonly temperature?: number | undefined;
  /** Only the k best; 0, the default: all. */
  readonly topK?: number | undefined;
  /** Only the best whose probabilities add up to this (nucleus sampling, Holtzman 2019). Default 1: all. */
  readonly topP?: number | undefined;
  /** Only those at least this share as probable as the best. Default 0: all. */
  readonly minP?: number | undefined;
}

/** What a choice takes beside the logits. */
export interface Chance {
  /** In [0, 1): where in the distribution the token is taken. */
  readonly draw: number;
  /** A bit per token, least significant first; undefined: all are allowed. */
  readonly allowed: Uint32Array | undefined;
  /** Tokens so far: what the repetition penalty counts. */
  readonly seen: readonly number[];
}

/** @throws {RuntimeError} `runtime/options`, naming the one that makes no sense */
export function checkSampling(options: Sampling): void {
  const { temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = options;
  const demand = (ok: boolean, name: string, wanted: string) => {
    if (!ok) throw new RuntimeError('runtime/options', `${name} must be ${wanted}`, { where: name });
  };
  demand(temperature >= 0 && temperature <= 100, 'temperature', 'from 0 to 100');
  demand(Number.isSafeInteger(topK) && topK >= 0, 'topK', 'a whole number, 0 or more');
  demand(topP > 0 && topP <= 1, 'topP', 'above 0 and at most 1');
  demand(minP >= 0 && minP <= 1, 'minP', 'from 0 to 1');
  demand(repetitionPenalty > 0 && repetitionPenalty <= 100, 'repetitionPenalty', 'above 0 and at most 100');
  if (temperature > 0) return;
  for (const [name, off] of [
    ['topK', topK === 0],
    ['topP', topP === 1],
    ['minP', minP === 0],
  ] as const)
    demand(off, name, 'left out at temperature 0, which takes the best token whatever the others are');
}

/**
 * @param logits of one position; changed
 * @returns the token; −1 where none is allowed or all logits are NaN
 */
export function chooseToken(logits: Float32Array, sampling: Sampling, { draw, allowed, seen }: Chance): number {
  const { temperature = 0, repetitionPenalty = 1 } = sampling;
  if (repetitionPenalty !== 1)
    for (const id of new Set(seen)) {
      const value = logits[id];
      if (value !== undefined) logits[id] = value > 0 ? value / repetitionPenalty : value * repetitionPenalty;
    }
  if (allowed)
    for (let id = 0; id < logits.length; id++)
      if (((allowed[id >> 5] ?? 0) & (1 << (id & 31))) === 0) logits[id] = Number.NEGATIVE_INFINITY;
  const best = argMax(logits);
  if (temperature === 0 || best < 0) return best;
  return drawToken(logits, best, sampling, draw);
}

/** The first of the greatest; −1 where none is above −∞. */
function argMax(values: Float32Array): number {
  let best = -1;
  let most = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? 0;
    if (value > most) {
      most = value;
      best = i;
    }
  }
  return best;
}

function drawToken(logits: Float32Array, best: number, sampling: Sampling, draw: number): number {
  const { temperature = 0, topK = 0, topP = 1, minP = 0 } = sampling;
  const weights = new Float64Array(logits.length); // against the best one's, which is 1
  const most = logits[best] ?? 0;
  let sum = 0;
  for (let i = 0; i < weights.length; i++) {
    const weight = Math.exp(((logits[i] ?? 0) - most) / temperature);
    weights[i] = weight;
    sum += weight;
  }
  if (topK === 0 && topP === 1 && minP === 0) return pick(weights, undefined, sum, draw);
  const enough = (count: number, mass: number) => (topK > 0 ? count >= topK : mass >= topP * sum);
  let candidates = heaviest(weights, minP, enough);
  if (topK > 0) {
    candidates = candidates.slice(0, topK);
    sum = candidates.reduce((total, id) => total + (weights[id] ?? 0), 0); // top-p's shares are of what top-k leaves
  }
  let mass = 0;
  let count = 0;
  while (count < candidates.length && (count === 0 || mass < topP * sum))
    mass += weights[candidates[count++] ?? 0] ?? 0;
  return pick(weights, candidates.slice(0, count), mass, draw);
}

/**
 * The greatest weights, in falling order, at least until there are enough: taken in by falling bounds, for to sort a
 * whole vocabulary takes longer than many a model does.
 */
function heaviest(
  weights: Float64Array,
  floor: number,
  enough: (count: number, mass: number) => boolean,
): readonly number[] {
  for (let bound = 1 / 8; ; bound /= 8) {
    const least = Math.max(bound, floor, Number.MIN_VALUE);
    const found: number[] = [];
    let mass = 0;
    for (let i = 0; i < weights.length; i++) {
      const weight = weights[i] ?? 0;
      if (weight < least) continue;
      found.push(i);
      mass += weight;
    }
    if (least > bound || least === Number.MIN_VALUE || enough(found.length, mass))
      return found.sort((a, b) => (weights[b] ?? 0) - (weights[a] ?? 0) || a - b);
  }
}

/** The token in whose share of `sum` the draw falls. */
function pick(weights: Float64Array, ids: readonly number[] | undefined, sum: number, draw: number): number {
  const count = ids?.length ?? weights.length;
  let rest = draw * sum;
  let last = -1; // where rounding leaves a rest, the last one that has a share
  for (let i = 0; i < count; i++) {
    const id = ids ? (ids[i] ?? 0) : i;
    const weight = weights[id] ?? 0;
    if (weight === 0) continue;
    last = id;
    rest -= weight;
    if (rest < 0) return id;
  }
  return last;
}
