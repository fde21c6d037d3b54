import { byteRanges, literal, oneOf, repeat, Rule, rule, type Sequence } from './byte-grammar.ts';

const DIGITS = byteRanges([0x30, 0x39]);
const NON_ZERO = byteRanges([0x31, 0x39]);
const HEX = oneOf('0123456789abcdefABCDEF');
const CONTINUATION = byteRanges([0x80, 0xbf]);

/** Nothing, a space, or a new line and up to 32 spaces or tabs: never enough to run on for ever. */
export const space: Rule = rule([], [oneOf(' ')], [oneOf('\n'), repeat(oneOf(' \t'), 0, 32)]);

/** One character of a JSON string: UTF-8 without its illegal forms (RFC 3629 §4), or an escape that is no half of a pair. */
const character: Rule = rule(
  [byteRanges([0x20, 0x21], [0x23, 0x5b], [0x5d, 0x7f])],
  [byteRanges([0xc2, 0xdf]), CONTINUATION],
  [byteRanges([0xe0, 0xe0]), byteRanges([0xa0, 0xbf]), CONTINUATION],
  [byteRanges([0xe1, 0xec], [0xee, 0xef]), CONTINUATION, CONTINUATION],
  [byteRanges([0xed, 0xed]), byteRanges([0x80, 0x9f]), CONTINUATION],
  [byteRanges([0xf0, 0xf0]), byteRanges([0x90, 0xbf]), CONTINUATION, CONTINUATION],
  [byteRanges([0xf1, 0xf3]), CONTINUATION, CONTINUATION, CONTINUATION],
  [byteRanges([0xf4, 0xf4]), byteRanges([0x80, 0x8f]), CONTINUATION, CONTINUATION],
  [oneOf('\\'), oneOf('"\\/bfnrt')],
  [...literal('\\u'), oneOf('0123456789abcefABCEF'), HEX, HEX, HEX],
  [...literal('\\u'), oneOf('dD'), oneOf('01234567'), HEX, HEX],
  [
    ...literal('\\u'),
    oneOf('dD'),
    oneOf('89abAB'),
    HEX,
    HEX,
    ...literal('\\u'),
    oneOf('dD'),
    oneOf('cdefCDEF'),
    HEX,
    HEX,
  ],
);

/** @param least, most characters (code points) */
export function jsonString(least = 0, most = Number.POSITIVE_INFINITY): Rule {
  return rule([oneOf('"'), repeat(character, least, most), oneOf('"')]);
}

const wholeDigits: Rule = rule([oneOf('0')], [NON_ZERO, repeat(DIGITS, 0, 14)]);
const sign: Rule = rule([], [oneOf('-')]);

/** Up to 15 digits: every one a double that says the same. */
export const jsonInteger: Rule = rule([sign, wholeDigits]);

/** Up to 15 digits before and 15 behind the point, and an exponent of at most two. */
export const jsonNumber: Rule = rule([
  sign,
  wholeDigits,
  rule([], [oneOf('.'), repeat(DIGITS, 1, 15)]),
  rule([], [oneOf('eE'), rule([], [oneOf('+-')]), repeat(DIGITS, 1, 2)]),
]);

/** Whole numbers from `low` to `high`; a bound beyond 15 digits is as good as none. */
export function jsonIntegerBetween(low: number, high: number): Rule {
  const most = 10 ** 15 - 1;
  const [from, to] = [Math.max(Math.ceil(low), -most), Math.min(Math.floor(high), most)];
  const alternatives: Sequence[] = [];
  if (from < 0 && to >= from) alternatives.push([oneOf('-'), naturalBetween(Math.max(1, -to), -from)]);
  if (to >= 0 && to >= from) alternatives.push([naturalBetween(Math.max(0, from), to)]);
  return rule(...alternatives);
}

/** From `low` to `high`, 0 or more and of up to 15 digits. Numbers of each count of digits apart. */
export function naturalBetween(low: number, high: number): Rule {
  const alternatives: Sequence[] = [];
  for (let digits = String(low).length; digits <= String(high).length; digits++) {
    const from = Math.max(low, digits === 1 ? 0 : 10 ** (digits - 1));
    const to = Math.min(high, 10 ** digits - 1);
    if (from <= to) alternatives.push([digitsBetween(String(from), String(to))]);
  }
  return rule(...alternatives);
}

/** Texts of digits between two of the same length; `free…` says that a bound binds no more. */
function digitsBetween(low: string, high: string, freeBelow = false, freeAbove = false): Rule {
  if (low === '') return rule([]);
  if (freeBelow && freeAbove) return repeat(DIGITS, low.length, low.length);
  const first = freeBelow ? 0 : Number(low[0]);
  const last = freeAbove ? 9 : Number(high[0]);
  const alternatives: Sequence[] = [];
  for (let digit = first; digit <= last; digit++) {
    const below = freeBelow || digit > first;
    const above = freeAbove || digit < last;
    alternatives.push([oneOf(String(digit)), digitsBetween(low.slice(1), high.slice(1), below, above)]);
  }
  return rule(...alternatives);
}

/** Any JSON value. Keys of one object may repeat. */
export const jsonValue: Rule = new Rule(
  () => [
    [jsonObjectOf(jsonString(), jsonValue)],
    [jsonArrayOf([], jsonValue, 0, Number.POSITIVE_INFINITY)],
    [jsonString()],
    [jsonNumber],
    ...['true', 'false', 'null'].map((word) => literal(word)),
  ],
  () => 1,
);

/** An object with any number of members. */
export function jsonObjectOf(key: Rule, value: Rule): Rule {
  const member: Sequence = [key, space, oneOf(':'), space, value, space];
  const more: Rule = new Rule(
    () => [literal('}'), [oneOf(','), space, ...member, more]],
    () => 1,
  );
  return rule([oneOf('{'), space, rule(literal('}'), [...member, more])]);
}

/**
 * @param first what stands in the first places
 * @param others what stands in all behind them; undefined: nothing does
 */
export function jsonArrayOf(first: readonly Rule[], others: Rule | undefined, least: number, most: number): Rule {
  const top = others ? most : Math.min(most, first.length);
  // Behind the last place where anything changes, all places are alike.
  const same = Number.isFinite(top) ? top : Math.max(first.length, least, 1);
  const rules = new Map<number, Rule>();
  const itemAt = (i: number) => first[i] ?? (others as Rule);
  const from = (done: number): Rule => {
    const known = rules.get(done);
    if (known) return known;
    const made = new Rule(
      () => {
        const alternatives: Sequence[] = [];
        if (done >= least) alternatives.push([oneOf(']')]);
        const comma = done === 0 ? [] : [oneOf(','), space];
        if (done < top) alternatives.push([...comma, itemAt(done), space, from(Math.min(done + 1, same))]);
        return alternatives;
      },
      () => {
        if (least > top) return Number.POSITIVE_INFINITY;
        let sum = 1;
        for (let i = done; i < least; i++) {
          if (i >= first.length) return sum + (least - i) * ((others as Rule).minBytes + 1) - Number(i === 0);
          sum += itemAt(i).minBytes + Number(i > 0);
        }
        return sum;
      },
    );
    rules.set(done, made);
    return made;
  };
  return rule([oneOf('['), space, from(0)]);
}
