import { byteRanges, oneOf, repeat, Rule, rule, type Sequence } from './byte-grammar.ts';
import { jsonIntegerBetween, naturalBetween } from './json-terms.ts';

/** A bound of a number; `open` ones are not reached themselves. */
export interface Bound {
  readonly value: number;
  readonly open: boolean;
}

const DIGITS = byteRanges([0x30, 0x39]);
/** Behind the point: with as many before it, still a double of its own. */
const MOST_FRACTION = 7;
const MOST_WHOLE = 10 ** 8 - 1;

/**
 * Decimal numbers between two bounds, without an exponent: up to 8 digits before the point and 7 behind it, since then
 * none is rounded onto a bound that it does not reach. Beyond 8 digits there are whole numbers only.
 */
export function jsonNumberBetween(low: Bound | undefined, high: Bound | undefined): Rule {
  const from = low ?? { value: Number.NEGATIVE_INFINITY, open: false };
  const to = high ?? { value: Number.POSITIVE_INFINITY, open: false };
  const alternatives: Sequence[] = [];
  if (from.value < 0) alternatives.push([oneOf('-'), magnitude(to.value > 0 ? ZERO : negated(to), negated(from))]);
  if (to.value >= 0) alternatives.push([magnitude(from.value < 0 ? ZERO : from, to)]);
  return rule(...alternatives);
}

const ZERO: Bound = { value: 0, open: false };

function negated({ value, open }: Bound): Bound {
  return { value: -value, open };
}

/** Both bounds are 0 or more. */
function magnitude(low: Bound, high: Bound): Rule {
  if (high.value < low.value) return rule();
  if (low.value > MOST_WHOLE)
    return jsonIntegerBetween(
      low.open ? Math.floor(low.value) + 1 : low.value,
      high.open ? Math.ceil(high.value) - 1 : high.value,
    );
  const from = decimal(low);
  const to = high.value > MOST_WHOLE ? undefined : decimal(high);
  const top = to?.whole ?? MOST_WHOLE + 1;
  if (to && to.whole === from.whole) return rule([naturalBetween(top, top), fraction(from.edge, to.edge)]);
  const between = from.whole + 1 <= top - 1 ? [[naturalBetween(from.whole + 1, top - 1), fraction()]] : [];
  return rule(
    [naturalBetween(from.whole, from.whole), fraction(from.edge)],
    ...between,
    ...(to ? [[naturalBetween(to.whole, to.whole), fraction(undefined, to.edge)]] : []),
  );
}

/** Where a fraction may not go below or above: its digits, zeros behind them left out. */
interface Edge {
  readonly digits: string;
  readonly open: boolean;
}

function decimal({ value, open }: Bound): { readonly whole: number; readonly edge: Edge } {
  const [mantissa = '', exponent = '0'] = String(value).split('e');
  const [whole = '', digits = ''] = mantissa.split('.');
  // Of a value below 10^8 the exponent is negative.
  const shift = -Number(exponent);
  const all = shift > 0 ? `${'0'.repeat(shift - 1)}${whole}${digits}` : digits;
  return { whole: Math.floor(value), edge: { digits: all, open } };
}

/** Nothing, or a point and digits; as a part of 1 it lies between the edges. */
function fraction(low?: Edge, high?: Edge): Rule {
  const none = endsWithin(low, high) ? [[]] : [];
  const some: Sequence[] = [[oneOf('.'), digitsWithin(low, high, MOST_FRACTION, true)]];
  return rule(...none, ...some);
}

/** What follows a digit that has reached neither edge is free. */
function digitsWithin(low: Edge | undefined, high: Edge | undefined, left: number, first = false): Rule {
  if (!low && !high) return repeat(DIGITS, first ? 1 : 0, left);
  return new Rule(() => {
    const alternatives: Sequence[] = !first && endsWithin(low, high) ? [[]] : [];
    const [least, most] = [Number(low?.digits[0] ?? 0), high ? Number(high.digits[0] ?? 0) : 9];
    for (let digit = left > 0 ? least : most + 1; digit <= most; digit++) {
      const below = low && digit === least ? { ...low, digits: low.digits.slice(1) } : undefined;
      const above = high && digit === most ? { ...high, digits: high.digits.slice(1) } : undefined;
      alternatives.push([oneOf(String(digit)), digitsWithin(below, above, left - 1)]);
    }
    return alternatives;
  });
}

/** Whether zeros alone may follow. */
function endsWithin(low: Edge | undefined, high: Edge | undefined): boolean {
  const isAtLow = !low || (/^0*$/.test(low.digits) && !low.open);
  const isAtHigh = !high || !/^0*$/.test(high.digits) || !high.open;
  return isAtLow && isAtHigh;
}
