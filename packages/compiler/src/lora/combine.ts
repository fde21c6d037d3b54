import type { LoraModule } from '@flotilla/checkpoint';
import { combineTensors, type CombineOptions, compressDelta, compressSum, loraDelta } from '@flotilla/quant';
import { CompilerError } from '../errors.ts';

export const COMBINATIONS = [
  'cat',
  'linear',
  'svd',
  'ties',
  'dare_linear',
  'dare_ties',
  'magnitude_prune',
  'ties_svd',
  'dare_linear_svd',
  'dare_ties_svd',
  'magnitude_prune_svd',
] as const;

/** How several adapters become one, as PEFT's `add_weighted_adapter` names it. */
export interface Combination {
  /** `cat`: one after the other, which for plain LoRA is their sum. */
  readonly method: (typeof COMBINATIONS)[number];
  /** Share that is kept of each adapter. Default 0.5. */
  readonly density?: number | undefined;
  /** Rank of the result of `svd` and its like. Default: the largest that an adapter's configuration has. */
  readonly rank?: number | undefined;
  /** Default 'total'. */
  readonly sign?: CombineOptions['majoritySign'] | undefined;
  /** What `dare` drops. Default 0. */
  readonly seed?: number | undefined;
}

/** One adapter's factors of a module, and how much of them is wanted. */
export interface Weighted {
  readonly factors: LoraModule;
  readonly weight: number;
  /** The adapter's folder, for messages. */
  readonly where: string;
}

/**
 * The one pair of factors that several adapters make of a module.
 * @throws {CompilerError} `compiler/lora-combine` where PEFT has no such combination either
 * @see PEFT `LoraModel.add_weighted_adapter`
 */
export function combineModule(
  module: string,
  parts: readonly [Weighted, ...Weighted[]],
  combination: Combination,
): LoraModule {
  const [{ factors: first }] = parts;
  checkParts(module, parts, combination);
  const { method, sign = 'total', density = 0.5, seed = 0 } = combination;
  const options = { density, majoritySign: sign, seed: seedOf(seed, module) };
  if (method === 'svd' || method.endsWith('_svd'))
    return { ...first, scale: 1, ...compressed(parts, combination, options) };
  const name = method as CombineOptions['method'];
  // The scale is shared out between A and B; a minus goes to one of them.
  const roots = parts.map(({ factors, weight }) => Math.sqrt(Math.abs(weight * factors.scale)));
  const signed = roots.map((root, i) => root * (parts[i] && parts[i].weight < 0 ? -1 : 1));
  return {
    ...first,
    scale: 1,
    a: combineTensors(
      parts.map(({ factors }) => factors.a),
      signed,
      { ...options, method: name },
    ),
    b: combineTensors(
      parts.map(({ factors }) => factors.b),
      roots,
      { ...options, method: name, seed: options.seed + 1 },
    ),
  };
}

function compressed(
  parts: readonly [Weighted, ...Weighted[]],
  { method, rank: kept = Math.max(...parts.map(({ factors }) => factors.rank)) }: Combination,
  options: Omit<CombineOptions, 'method'>,
): Pick<LoraModule, 'a' | 'b' | 'rank'> {
  const [{ factors: first }] = parts;
  const inFeatures = first.a.length / first.rank;
  const flat = parts.map(({ factors }) => ({ ...factors, inFeatures }));
  if (method === 'svd')
    return compressSum(
      flat.map((factors, i) => ({ ...factors, scale: factors.scale * (parts[i]?.weight ?? 0) })),
      kept,
    );
  const name = method.slice(0, -'_svd'.length) as CombineOptions['method'];
  const weights = parts.map(({ weight }) => weight);
  const delta = combineTensors(flat.map(loraDelta), weights, { ...options, method: name });
  return compressDelta(delta, first.outFeatures, inFeatures, kept);
}

function checkParts(module: string, parts: readonly Weighted[], { method, density = 0.5 }: Combination): void {
  const [first] = parts;
  const fail = (where: string | undefined, what: string): never => {
    throw new CompilerError('compiler/lora-combine', `${module}: ${what}`, { where });
  };
  if (!(density > 0 && density <= 1)) fail(undefined, `density ${density} is not above 0 and up to 1`);
  for (const { factors, where } of parts) {
    if (factors.magnitude) fail(where, `DoRA cannot be combined by ${method}, only one after the other (cat)`);
    if (factors.bias) fail(where, `lora_bias cannot be combined by ${method}, only one after the other (cat)`);
    if (factors.a.length / factors.rank !== (first?.factors.a.length ?? 0) / (first?.factors.rank ?? 1))
      fail(where, 'the adapters were trained for layers of different shapes');
    if (!method.endsWith('svd') && factors.rank !== first?.factors.rank)
      fail(
        where,
        `${method} needs one rank, and there are ${first?.factors.rank} and ${factors.rank}: take svd or cat`,
      );
  }
}

/** Another pattern for every module, the same on every machine. */
function seedOf(seed: number, module: string): number {
  let hash = seed >>> 0;
  for (const letter of module) hash = (Math.imul(hash, 31) + (letter.codePointAt(0) ?? 0)) >>> 0;
  return hash;
}
