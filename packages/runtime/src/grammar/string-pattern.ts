import { literal, oneOf, repeat, Rule, rule, type Sequence } from './byte-grammar.ts';
import { type CodeRange, utf8Sequences } from './utf8-ranges.ts';

/** Nested groups, and times that a part is repeated. */
const MOST_DEPTH = 32;
const MOST_COUNT = 1_000;
const MOST_CHARACTERS = 10_000;

const LAST = 0x10ffff;
const DIGIT: readonly CodeRange[] = [[0x30, 0x39]];
const WORD: readonly CodeRange[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
/** ECMA-262: white space and line ends. */
const SPACE: readonly CodeRange[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const LINE_ENDS: readonly CodeRange[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const CLASSES: ReadonlyMap<string, readonly CodeRange[]> = new Map([
  ['d', DIGIT],
  ['D', complement(DIGIT)],
  ['w', WORD],
  ['W', complement(WORD)],
  ['s', SPACE],
  ['S', complement(SPACE)],
]);
const CONTROLS: ReadonlyMap<string, number> = new Map([
  ['n', 0x0a],
  ['r', 0x0d],
  ['t', 0x09],
  ['f', 0x0c],
  ['v', 0x0b],
  ['0', 0],
]);

/**
 * A JSON string whose text an expression matches (ECMA-262, as JSON Schema's `pattern`; `^` and `$` at the ends of the
 * whole or of its alternatives, else anything may stand before and behind). Characters are written as themselves where
 * JSON allows it.
 * @throws {Error} naming what is not understood: assertions, back references, `\b`, `\p`
 */
export function jsonStringLike(pattern: string): Rule {
  if (pattern.length > MOST_CHARACTERS)
    throw new Error(`${pattern.length} characters; ${MOST_CHARACTERS} are the most`);
  return rule([oneOf('"'), new PatternReader(pattern).read(), oneOf('"')]);
}

class PatternReader {
  private readonly characters: readonly string[];
  private at = 0;

  constructor(pattern: string) {
    this.characters = Array.from(pattern); // code points
  }

  read(): Rule {
    const alternatives: Sequence[] = [];
    const any = repeat(charactersOf([[0, LAST]]), 0, Number.POSITIVE_INFINITY);
    do {
      const isStart = this.take('^');
      const terms = this.sequence(0);
      const isEnd = this.take('$');
      alternatives.push([...(isStart ? [] : [any]), ...terms, ...(isEnd ? [] : [any])]);
    } while (this.take('|'));
    if (this.at < this.characters.length) throw new Error(`${JSON.stringify(this.here)} at ${this.at}`);
    return rule(...alternatives);
  }

  private get here(): string {
    return this.characters[this.at] ?? '';
  }

  private take(character: string): boolean {
    if (this.here !== character) return false;
    this.at++;
    return true;
  }

  private next(): string {
    if (this.at >= this.characters.length) throw new Error('it is not complete');
    return this.characters[this.at++] as string;
  }

  private sequence(depth: number): Sequence {
    const terms: Rule[] = [];
    while (this.here !== '' && !'|)$'.includes(this.here)) terms.push(this.counted(this.atom(depth)));
    return terms;
  }

  private atom(depth: number): Rule {
    const character = this.next();
    switch (character) {
      case '(':
        return this.group(depth + 1);
      case '[':
        return charactersOf(this.set());
      case '.':
        return charactersOf(complement(LINE_ENDS));
      case '\\':
        return charactersOf(this.escape());
      case '^':
        throw new Error('^ inside it');
      case '*':
      case '+':
      case '?':
      case '{':
        throw new Error(`${character} has nothing to repeat`);
      default:
        return charactersOf([rangeOf(character)]);
    }
  }

  private group(depth: number): Rule {
    if (depth > MOST_DEPTH) throw new Error(`groups nested deeper than ${MOST_DEPTH}`);
    if (this.take('?')) {
      const named = this.here === '<' && !'=!'.includes(this.characters[this.at + 1] ?? '=');
      if (named) while (this.next() !== '>');
      else if (!this.take(':')) throw new Error('an assertion (?…)');
    }
    const alternatives: Sequence[] = [];
    do alternatives.push(this.sequence(depth));
    while (this.take('|'));
    if (this.here === '$') throw new Error('$ inside a group');
    if (!this.take(')')) throw new Error('a ( without its )');
    return rule(...alternatives);
  }

  private counted(atom: Rule): Rule {
    const [least, most] = this.count();
    if (least === 1 && most === 1) return atom;
    this.take('?'); // lazy or not, the same texts match
    return repeat(atom, least, most);
  }

  private count(): readonly [number, number] {
    if (this.take('*')) return [0, Number.POSITIVE_INFINITY];
    if (this.take('+')) return [1, Number.POSITIVE_INFINITY];
    if (this.take('?')) return [0, 1];
    if (this.here !== '{') return [1, 1];
    const end = this.characters.indexOf('}', this.at);
    const found = /^\{(\d{1,6})(,(\d{0,6}))?$/.exec(this.characters.slice(this.at, Math.max(end, 0)).join(''));
    if (!found) throw new Error('a { without a count');
    this.at = end + 1;
    const least = Number(found[1]);
    const most = found[2] === undefined ? least : found[3] === '' ? Number.POSITIVE_INFINITY : Number(found[3]);
    if (Math.max(least, Number.isFinite(most) ? most : 0) > MOST_COUNT)
      throw new Error(`more than ${MOST_COUNT} repetitions`);
    return [least, most];
  }

  private escape(): readonly CodeRange[] {
    const character = this.next();
    const known = CLASSES.get(character);
    if (known) return known;
    const control = CONTROLS.get(character);
    if (control !== undefined) return [[control, control]];
    if (character === 'x') return this.hex(2);
    if (character === 'u') return this.hex(4);
    if (/[A-Za-z1-9]/.test(character)) throw new Error(`\\${character}`);
    return [rangeOf(character)];
  }

  private hex(length: number): readonly CodeRange[] {
    const digits = this.characters.slice(this.at, this.at + length).join('');
    if (!new RegExp(`^[0-9a-fA-F]{${length}}$`).test(digits)) throw new Error('an escape without its digits');
    this.at += length;
    const point = Number.parseInt(digits, 16);
    return [[point, point]];
  }

  private set(): readonly CodeRange[] {
    const isOthers = this.take('^');
    const ranges: CodeRange[] = [];
    while (!this.take(']')) {
      const from = this.member();
      const [only] = from;
      const isRange = this.here === '-' && this.characters[this.at + 1] !== ']' && from.length === 1;
      if (!isRange || !only || only[0] !== only[1]) {
        ranges.push(...from);
        continue;
      }
      this.at++;
      const [to, ...more] = this.member();
      if (!to || more.length > 0 || to[0] !== to[1] || to[0] < only[0]) throw new Error('a range in [] out of order');
      ranges.push([only[0], to[0]]);
    }
    return isOthers ? complement(ranges) : ranges;
  }

  private member(): readonly CodeRange[] {
    const character = this.next();
    if (character !== '\\') return [rangeOf(character)];
    return this.take('b') ? [[8, 8]] : this.escape();
  }
}

function rangeOf(character: string): CodeRange {
  const point = character.codePointAt(0) ?? 0;
  return [point, point];
}

/** In the order of the code points, those that overlap joined; then the gaps. */
function complement(ranges: readonly CodeRange[]): readonly CodeRange[] {
  const gaps: CodeRange[] = [];
  let next = 0;
  for (const [from, to] of ranges.toSorted((a, b) => a[0] - b[0])) {
    if (from > next) gaps.push([next, from - 1]);
    next = Math.max(next, to + 1);
  }
  return next <= LAST ? [...gaps, [next, LAST]] : gaps;
}

/** What JSON does not let stand in a string as itself, and how it is written (RFC 8259 §7). */
const ESCAPED: readonly (readonly [CodeRange, (point: number) => string])[] = [
  [[0, 0x1f], (point) => JSON.stringify(String.fromCodePoint(point)).slice(1, -1)],
  [[0x22, 0x22], () => '\\"'],
  [[0x5c, 0x5c], () => '\\\\'],
];
const PLAIN = complement(ESCAPED.map(([range]) => range));

/** One character of a JSON string. */
function charactersOf(ranges: readonly CodeRange[]): Rule {
  return new Rule(() => {
    const merged = complement(complement(ranges));
    const both = (range: CodeRange) =>
      merged.flatMap(([from, to]): CodeRange[] => {
        const [low, high] = [Math.max(from, range[0]), Math.min(to, range[1])];
        return low <= high ? [[low, high]] : [];
      });
    const plain = PLAIN.flatMap(both).flatMap((range) => utf8Sequences(range));
    const escaped = ESCAPED.flatMap(([range, spell]) =>
      both(range).flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => literal(spell(from + i)))),
    );
    return [...plain, ...escaped];
  });
}
