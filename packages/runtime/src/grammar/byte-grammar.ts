/** 256 bits: which bytes may stand here. */
export type ByteSet = Uint32Array;
/** What stands in a place: one byte of a set, or whatever a rule gives. */
export type Term = ByteSet | Rule;
/** Terms one after the other; none: the empty text. */
export type Sequence = readonly Term[];

/** Alternatives, made when they are first asked for: a rule may lead to itself, and to more rules than anyone visits. */
export class Rule {
  private readonly build: () => readonly Sequence[];
  private readonly least: (() => number) | undefined;
  private made: readonly Sequence[] | undefined;
  private measured: number | undefined;
  private measuring = false;

  /** @param least the fewest bytes, where they can be told without going through the alternatives */
  constructor(build: () => readonly Sequence[], least?: () => number) {
    this.build = build;
    this.least = least;
  }

  get alternatives(): readonly Sequence[] {
    this.made ??= this.build();
    return this.made;
  }

  /** The fewest bytes that this gives; infinite where it never comes to an end. */
  get minBytes(): number {
    if (this.measured !== undefined) return this.measured;
    if (this.measuring) return Number.POSITIVE_INFINITY; // through itself is never the shortest way
    this.measuring = true;
    const found = this.least ? this.least() : Math.min(...this.alternatives.map((sequence) => minBytes(sequence)));
    this.measuring = false;
    // Infinite may only mean that a rule further out is being measured.
    if (Number.isFinite(found)) this.measured = found;
    return found;
  }
}

/** Of a sequence, from one of its terms on. */
export function minBytes(sequence: Sequence, from = 0): number {
  let sum = 0;
  for (let i = from; i < sequence.length; i++) {
    const term = sequence[i] as Term;
    sum += term instanceof Rule ? term.minBytes : 1;
  }
  return sum;
}

export function rule(...alternatives: readonly Sequence[]): Rule {
  return new Rule(() => alternatives);
}

/** Each byte of a text, one after the other. */
export function literal(text: string): Sequence {
  return [...new TextEncoder().encode(text)].map((byte) => byteRanges([byte, byte]));
}

/** One ASCII character of these. */
export function oneOf(characters: string): ByteSet {
  return byteRanges(...[...new TextEncoder().encode(characters)].map((byte) => [byte, byte] as const));
}

export function byteRanges(...ranges: readonly (readonly [number, number])[]): ByteSet {
  const set = new Uint32Array(8);
  for (const [from, to] of ranges) for (let byte = from; byte <= to; byte++) set[byte >> 5]! |= 1 << (byte & 31);
  return set;
}

export function hasByte(set: ByteSet, byte: number): boolean {
  return ((set[byte >> 5] ?? 0) & (1 << (byte & 31))) !== 0;
}

/** The first byte of a set. */
export function firstByte(set: ByteSet): number {
  for (let byte = 0; byte < 256; byte++) if (hasByte(set, byte)) return byte;
  return 0;
}

/**
 * Between `least` and `most` times a term, by rules that count; beyond `least` and without a bound they are one rule.
 * @param most may be infinite
 */
export function repeat(term: Term, least: number, most: number): Rule {
  const rules = new Map<string, Rule>();
  const counted = (min: number, max: number): Rule => {
    const key = `${min} ${max}`;
    const known = rules.get(key);
    if (known) return known;
    const made = new Rule(
      () => {
        if (max <= 0) return min > 0 ? [] : [[]];
        const more: Sequence = [term, counted(Math.max(0, min - 1), max - 1)];
        return min > 0 ? [more] : [more, []];
      },
      () => (min > max ? Number.POSITIVE_INFINITY : min === 0 ? 0 : min * minBytes([term])),
    );
    rules.set(key, made);
    return made;
  };
  return counted(least, most);
}
