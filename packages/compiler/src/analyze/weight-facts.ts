import { sizesAt, type WeightSite } from '../int4/weight-site.ts';
import { DistributionWatch } from './distribution.ts';
import { int4Loss, int8Loss, type WeightLosses } from './losses.ts';
import { sampleOf, type Values } from './read-tensors.ts';

/** What is remarkable about a weight, for the compile report. Four digits a figure: the report lies in the pack. */
export interface WeightFacts {
  readonly tensor: string;
  readonly node: string;
  readonly min: number;
  readonly max: number;
  readonly std: number;
  readonly kurtosis: number;
  readonly outliers: number;
  /** The farthest value, by place. */
  readonly farthest: { readonly value: number; readonly at: readonly number[] } | null;
  readonly deadChannels: number;
  /** Largest channel peak over the median one. */
  readonly channelSpread: number;
  /** What rounding alone would leave: one scale per channel, and blocks of 32. */
  readonly sqnrDb: Pick<WeightLosses, 'int8' | 'int4'>;
  /** True where only its first rows were looked at, 131,072 elements. */
  readonly sampled: boolean;
}

/** What the analysis of the weights found. */
export interface Analysis {
  /** Weights of linear nodes that were looked at. */
  readonly weights: number;
  /** What each format would keep of them, rounding alone; empty where no weight has such a form. */
  readonly foretold: readonly Foretold[];
  /** Of constants that were not read whole: see `TensorReader`. */
  readonly sampledBytes: number;
  /** Those with outliers, dead or uneven channels, or heavy tails: the most remarkable first, 32 at most. */
  readonly remarkable: readonly WeightFacts[];
}

/** Signal to error over all weights that the format can hold. */
export interface Foretold {
  readonly format: 'int8' | 'int4';
  readonly medianDb: number;
  readonly worstDb: number;
  /** The node whose weight that is. */
  readonly worst: string;
}

/** Ratios are steady sooner than tails. */
const FORETOLD_ELEMENTS = 1 << 15;
const MOST_REPORTED = 32;
/** A normal distribution has 3, a Laplace distribution 6. */
const HEAVY_KURTOSIS = 10;
/** Three bits of an 8-bit scale that all channels share. */
const UNEVEN = 8;

/** @param whole of the weight, or what was read of it */
export function weightFacts(site: WeightSite, whole: Values): WeightFacts {
  const { node, tensor, channelAxis } = site;
  const { values, dims, sampled } = sampleOf(whole);
  const watch = new DistributionWatch();
  watch.observe(values, dims, channelAxis);
  const { min, max, std, kurtosis, outliers, farthest, channels } = watch.report(1);
  const [first] = farthest;
  return {
    tensor: tensor.name,
    node: node.name || (node.outputs[0] ?? ''),
    min: digits(min),
    max: digits(max),
    std: digits(std),
    kurtosis: digits(kurtosis ?? 0),
    outliers,
    farthest: first ? { value: digits(first.value), at: first.at } : null,
    deadChannels: channels?.dead.length ?? 0,
    channelSpread: digits(channels?.spread ?? 1),
    sqnrDb: foretold(site, sampleOf(whole, FORETOLD_ELEMENTS)),
    sampled,
  };
}

function foretold({ axis }: WeightSite, { values, dims }: Values): WeightFacts['sqnrDb'] {
  if (!values.every(Number.isFinite)) return { int8: null, int4: null };
  const energy = values.reduce((sum, value) => sum + value * value, 0);
  const sizes = sizesAt(dims, axis);
  return { int8: int8Loss(values, sizes, energy), int4: int4Loss(values, sizes, energy, 32) };
}

export function analysisOf(facts: readonly WeightFacts[], sampledBytes: number): Analysis {
  const worth = (f: WeightFacts): number =>
    f.kurtosis / HEAVY_KURTOSIS + f.channelSpread / UNEVEN + f.deadChannels + Math.log2(1 + f.outliers);
  const remarkable = facts
    .filter((f) => f.outliers > 0 || f.deadChannels > 0 || f.kurtosis > HEAVY_KURTOSIS || f.channelSpread > UNEVEN)
    .toSorted((a, b) => worth(b) - worth(a));
  const foretold = (['int8', 'int4'] as const).flatMap((format) => foretell(facts, format) ?? []);
  return { weights: facts.length, foretold, sampledBytes, remarkable: remarkable.slice(0, MOST_REPORTED) };
}

function foretell(facts: readonly WeightFacts[], format: Foretold['format']): Foretold | undefined {
  const held = facts.flatMap(({ node, sqnrDb }) => {
    const db = sqnrDb[format];
    return db === null ? [] : [{ node, db }];
  });
  const sorted = held.toSorted((a, b) => a.db - b.db);
  const [first] = sorted;
  const medianDb = sorted[sorted.length >> 1]?.db ?? 0;
  return first && { format, medianDb, worstDb: first.db, worst: first.node };
}

function digits(value: number): number {
  return Number(value.toPrecision(4));
}
