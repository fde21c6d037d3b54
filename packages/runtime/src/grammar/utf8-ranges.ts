import { byteRanges, type Sequence } from './byte-grammar.ts';

/** Code points from `[0]` to `[1]`. */
export type CodeRange = readonly [number, number];

/** Of 1, 2, 3 and 4 bytes; halves of surrogate pairs are none (RFC 3629 §3). */
const LENGTHS: readonly CodeRange[] = [
  [0, 0x7f],
  [0x80, 0x7ff],
  [0x800, 0xd7ff],
  [0xe000, 0xffff],
  [0x10000, 0x10ffff],
];

/** The UTF-8 of each code point in a range, as sequences of sets of bytes. */
export function utf8Sequences([from, to]: CodeRange): readonly Sequence[] {
  return LENGTHS.flatMap(([least, most]) => {
    const [low, high] = [Math.max(from, least), Math.min(to, most)];
    return low <= high ? sequences([...encode(low)], [...encode(high)]) : [];
  });
}

function encode(point: number): Uint8Array {
  return new TextEncoder().encode(String.fromCodePoint(point));
}

/** Both of one length: where the first bytes differ, what follows is bound at the two ends and free between them. */
function sequences(low: readonly number[], high: readonly number[]): readonly Sequence[] {
  const [first = 0, ...lows] = low;
  const [last = 0, ...highs] = high;
  if (lows.length === 0) return [[byteRanges([first, last])]];
  const least = lows.map(() => 0x80);
  const most = lows.map(() => 0xbf);
  const head = (from: number, to: number, rest: readonly Sequence[]): readonly Sequence[] =>
    from > to ? [] : rest.map((sequence) => [byteRanges([from, to]), ...sequence]);
  if (first === last) return head(first, last, sequences(lows, highs));
  const cutsLow = lows.some((byte) => byte !== 0x80);
  const cutsHigh = highs.some((byte) => byte !== 0xbf);
  return [
    ...(cutsLow ? head(first, first, sequences(lows, most)) : []),
    ...head(first + Number(cutsLow), last - Number(cutsHigh), sequences(least, most)),
    ...(cutsHigh ? head(last, last, sequences(least, highs)) : []),
  ];
}
