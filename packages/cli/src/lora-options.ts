import { type Combination, COMBINATIONS } from '@flotilla/compiler';
import { CliError } from './errors.ts';

/** `DIR` or `DIR:WEIGHT`. */
export function parseLora(text: string): { readonly dir: string; readonly weight: number | undefined } {
  const match = /^(.+):([+-]?(?:\d+\.?\d*|\.\d+))$/.exec(text);
  return match?.[1] === undefined ? { dir: text, weight: undefined } : { dir: match[1], weight: Number(match[2]) };
}

/** `METHOD` or `METHOD:KEY=VALUE,…`: `ties:density=0.3,sign=frequency`. @throws {CliError} `cli/usage` */
export function parseCombine(text: string): Combination {
  const [name = '', settings = ''] = text.split(':', 2);
  const method = COMBINATIONS.find((known) => known === name);
  if (method === undefined) throw wrong(text, `takes ${COMBINATIONS.join(', ')}`);
  const read = new Map(
    settings
      .split(',')
      .filter(Boolean)
      .map((pair) => pairOf(pair, text)),
  );
  const number = (key: string, holds: (value: number) => boolean): number | undefined => {
    const value = read.get(key);
    read.delete(key);
    if (value === undefined || (value !== '' && holds(Number(value))))
      return value === undefined ? value : Number(value);
    throw wrong(text, `has the ${key} ${value}`);
  };
  const sign = (['total', 'frequency'] as const).find((known) => known === read.get('sign'));
  if (sign === undefined && read.has('sign')) throw wrong(text, 'has a sign that is neither total nor frequency');
  read.delete('sign');
  const combination = {
    method,
    sign,
    density: number('density', (value) => value > 0 && value <= 1),
    rank: number('rank', (value) => Number.isSafeInteger(value) && value > 0),
    seed: number('seed', (value) => Number.isSafeInteger(value) && value >= 0),
  };
  const [unknown] = read.keys();
  if (unknown !== undefined) throw wrong(text, `has ${unknown}, which is none of density, rank, seed, sign`);
  return combination;
}

function pairOf(pair: string, text: string): readonly [string, string] {
  const match = /^(\w+)=(.+)$/.exec(pair);
  if (match?.[1] === undefined || match[2] === undefined) throw wrong(text, `has ${pair}, which is not KEY=VALUE`);
  return [match[1], match[2]];
}

function wrong(text: string, what: string): CliError {
  return new CliError('cli/usage', `--lora-combine ${text} ${what}`, {
    hint: 'for example ties:density=0.3,sign=frequency or svd:rank=16',
  });
}
