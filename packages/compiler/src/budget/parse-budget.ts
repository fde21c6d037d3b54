import { nearest } from '../nearest.ts';
import { CompilerError } from '../errors.ts';

/** What the result may cost, or must keep. */
export interface Limit {
  readonly key: 'size' | 'accuracy' | 'latency';
  /** Bytes of the portable model; share of fp32's score; microseconds of the median run on this machine. */
  readonly value: number;
}

const KEYS = ['size', 'accuracy', 'latency'] as const;

const UNITS: { readonly [key in Limit['key']]: { readonly [unit: string]: number } } = {
  size: { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 },
  accuracy: { '': 1, '%': 0.01 },
  latency: { us: 1, ms: 1e3, s: 1e6 },
};

/** `size=4MB`, `accuracy=0.98` or `98%`, `latency=12ms`. @throws {CompilerError} `compiler/budget` */
export function parseBudget(text: string): Limit {
  const [, name = '', digits = '', unit = ''] = /^([^=]*)=([\d.]+) ?(\S*)$/.exec(text) ?? [];
  const key = KEYS.find((known) => known === name);
  const fail = (what: string): never => {
    throw new CompilerError('compiler/budget', `--budget ${text} ${what}`, {
      hint: 'for example size=4MB, accuracy=0.98 or latency=12ms',
    });
  };
  if (!key) return fail(name === '' ? 'is not KEY=VALUE' : `names no budget${nearest(name, KEYS)}`);
  const scale = UNITS[key][unit];
  if (scale === undefined) return fail(`has no unit of ${key}: ${Object.keys(UNITS[key]).filter(Boolean).join(', ')}`);
  const value = Number(digits) * scale;
  if (!(value > 0) || (key === 'accuracy' && value > 1)) return fail(`asks for what cannot be`);
  return { key, value };
}

/** The share that must be kept, where one is asked for. */
export function accuracyOf(limits: readonly Limit[]): number | undefined {
  return limits.find(({ key }) => key === 'accuracy')?.value;
}

/** What the result is over the budget by, as an objection; the verdict speaks of accuracy. */
export function overrun(
  { key, value }: Limit,
  bytes: number,
  latency: { readonly quantized: { readonly p50Us: number } } | null,
): readonly string[] {
  if (key === 'size' && bytes > value) return [`${bytes} bytes, the budget is ${value}`];
  const p50Us = latency?.quantized.p50Us ?? 0;
  return key === 'latency' && p50Us > value ? [`${p50Us} µs on this machine, the budget is ${value}`] : [];
}
