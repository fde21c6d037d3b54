import type { Node, Tensor } from '@flotilla/onnx';
import { DistributionWatch } from './distribution.ts';

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
  /** True where only the first 131,072 elements were looked at. */
  readonly sampled: boolean;
}

/** What the analysis of the weights found. */
export interface Analysis {
  /** Weights of linear nodes that were looked at. */
  readonly weights: number;
  /** Those with outliers, dead or uneven channels, or heavy tails: the most remarkable first, 32 at most. */
  readonly remarkable: readonly WeightFacts[];
}

/** A few milliseconds a tensor. */
const MOST_ELEMENTS = 1 << 17;
const MOST_REPORTED = 32;
/** A normal distribution has 3, a Laplace distribution 6. */
const HEAVY_KURTOSIS = 10;
/** Three bits of an 8-bit scale that all channels share. */
const UNEVEN = 8;

/** @param channelAxis of the output channels */
export function weightFacts(node: Node, tensor: Tensor, values: Float32Array, channelAxis: number): WeightFacts {
  const sampled = values.length > MOST_ELEMENTS && tensor.dims.length > 0;
  const row = values.length / (tensor.dims[0] ?? 1);
  const rows = sampled ? Math.max(1, Math.floor(MOST_ELEMENTS / row)) : (tensor.dims[0] ?? 1);
  const watch = new DistributionWatch();
  watch.observe(values.subarray(0, rows * row), sampled ? [rows, ...tensor.dims.slice(1)] : tensor.dims, channelAxis);
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
    sampled,
  };
}

export function analysisOf(facts: readonly WeightFacts[]): Analysis {
  const worth = (f: WeightFacts): number =>
    f.kurtosis / HEAVY_KURTOSIS + f.channelSpread / UNEVEN + f.deadChannels + Math.log2(1 + f.outliers);
  const remarkable = facts
    .filter((f) => f.outliers > 0 || f.deadChannels > 0 || f.kurtosis > HEAVY_KURTOSIS || f.channelSpread > UNEVEN)
    .toSorted((a, b) => worth(b) - worth(a));
  return { weights: facts.length, remarkable: remarkable.slice(0, MOST_REPORTED) };
}

function digits(value: number): number {
  return Number(value.toPrecision(4));
}
