import { ControllerError } from './errors.ts';

/** What an expression may ask about. */
export interface Selectable {
  readonly id: string;
  readonly fleet: string;
  readonly board: string;
  readonly name: string;
  readonly tags: readonly string[];
}
export type Selection = (device: Selectable) => boolean;

const MAX_LENGTH = 1000;
const MAX_DEPTH = 32;

const fields: { readonly [field: string]: ((device: Selectable, value: string) => boolean) | undefined } = {
  // A null prototype, so that `constructor = 'x'` is an unknown field.
  __proto__: null as never,
  device: ({ id }, value) => id === value,
  fleet: ({ fleet }, value) => fleet === value,
  board: ({ board }, value) => board === value,
  name: ({ name }, value) => name === value,
  tag: ({ tags }, value) => tags.includes(value),
};

/**
 * Parses a selection of devices: `all`, or comparisons (`board = 'x'`, `name != 'x'`) joined by `and`, `or`, `not` and
 * parentheses; `and` binds tighter than `or`. Fields: device, fleet, board, name, tag (has it).
 * @throws {ControllerError} `controller/selection`, naming the column
 */
export function parseSelection(text: string): Selection {
  if (text.length > MAX_LENGTH) throw refuse(text, MAX_LENGTH, `is over ${MAX_LENGTH} characters`);
  const tokens = tokenize(text);
  const parser = new Parser(text, tokens);
  return parser.whole();
}

interface Token {
  readonly kind: 'word' | 'string' | 'sign' | 'end';
  readonly text: string;
  readonly at: number;
}

function tokenize(text: string): readonly Token[] {
  const tokens: Token[] = [];
  const pattern = /\s*(?:([A-Za-z][A-Za-z0-9_.]*)|'([^']*)'|"([^"]*)"|(!=|=|\(|\)))/y;
  let at = 0;
  while (text.slice(at).trim() !== '') {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match === null) throw refuse(text, at, 'does not go on like that');
    const [whole, word, single, double, sign] = match;
    const start = at + whole.length - whole.trimStart().length;
    if (word !== undefined) tokens.push({ kind: 'word', text: word, at: start });
    else if (sign !== undefined) tokens.push({ kind: 'sign', text: sign, at: start });
    else tokens.push({ kind: 'string', text: single ?? double ?? '', at: start });
    at += whole.length;
  }
  return [...tokens, { kind: 'end', text: 'the end', at: text.length }];
}

class Parser {
  private readonly text: string;
  private readonly tokens: readonly Token[];
  private at = 0;
  private depth = 0;

  constructor(text: string, tokens: readonly Token[]) {
    this.text = text;
    this.tokens = tokens;
  }

  whole(): Selection {
    const selection = this.either();
    if (this.next().kind !== 'end') throw this.unexpected('`and`, `or` or the end');
    return selection;
  }

  private either(): Selection {
    const parts = [this.both()];
    while (this.skip('word', 'or')) parts.push(this.both());
    return parts.length === 1 ? (parts[0] as Selection) : (device) => parts.some((part) => part(device));
  }

  private both(): Selection {
    const parts = [this.one()];
    while (this.skip('word', 'and')) parts.push(this.one());
    return parts.length === 1 ? (parts[0] as Selection) : (device) => parts.every((part) => part(device));
  }

  private one(): Selection {
    if (++this.depth > MAX_DEPTH) throw refuse(this.text, this.next().at, `is nested deeper than ${MAX_DEPTH}`);
    const selection = this.operand();
    this.depth--;
    return selection;
  }

  private operand(): Selection {
    if (this.skip('word', 'all')) return () => true;
    if (this.skip('word', 'not')) {
      const inner = this.one();
      return (device) => !inner(device);
    }
    if (this.skip('sign', '(')) {
      const inner = this.either();
      if (!this.skip('sign', ')')) throw this.unexpected('`)`');
      return inner;
    }
    return this.comparison();
  }

  private comparison(): Selection {
    const token = this.next();
    const field = token.kind === 'word' ? fields[token.text] : undefined;
    if (field === undefined) throw this.unexpected('all, not, device, fleet, board, name, tag or `(`');
    this.at++;
    const negated = this.skip('sign', '!=');
    if (!negated && !this.skip('sign', '=')) throw this.unexpected('`=` or `!=`');
    const value = this.next();
    if (value.kind !== 'string') throw this.unexpected("a text in quotes, as 'x'");
    this.at++;
    return (device) => field(device, value.text) !== negated;
  }

  private next(): Token {
    return this.tokens[this.at] as Token; // the last one is 'end', and nothing steps over it
  }

  private skip(kind: Token['kind'], text: string): boolean {
    const token = this.next();
    if (token.kind !== kind || token.text !== text) return false;
    this.at++;
    return true;
  }

  private unexpected(wanted: string): ControllerError {
    const { at, text } = this.next();
    return refuse(this.text, at, `has ${text}, but ${wanted} must stand`);
  }
}

const refuse = (text: string, at: number, problem: string): ControllerError =>
  new ControllerError(
    'controller/selection',
    `selection, column ${at + 1}: ${JSON.stringify(text.slice(0, 80))} ${problem}`,
    {
      where: `column ${at + 1}`,
      hint: "write all, or for example: board = 'raspberrypi-5' and not tag = 'lab'",
    },
  );
