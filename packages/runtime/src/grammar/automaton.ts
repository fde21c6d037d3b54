import { RuntimeError } from '../errors.ts';
import { firstByte, hasByte, minBytes, Rule, type Sequence, type Term } from './byte-grammar.ts';

/** Where one reading of the text stands: a place in a sequence, and the places to go on at behind it. */
interface Frame {
  readonly id: number;
  readonly sequence: Sequence;
  readonly at: number;
  readonly rest: Frame | undefined;
  /** To the end of the text. */
  readonly minBytes: number;
}

/** All readings of the text so far. Texts that may go on alike share one state. */
export interface State {
  readonly frames: readonly Frame[];
  /** The text may end here. */
  readonly complete: boolean;
  /** The fewest bytes to the end. */
  readonly minBytes: number;
  /** By the next byte, as far as known; null: no text goes on so. */
  readonly next: (State | null | undefined)[];
}

/** Readings of one text at a time: beyond, the grammar leads to itself without reading anything. */
const MOST_FRAMES = 20_000;
/** States remembered; more are forgotten together, and found again where they are needed. */
const MOST_STATES = 4_000;

/** Reads texts of a grammar byte by byte (a pushdown automaton with all its readings side by side, made as it is visited). */
export class Automaton {
  readonly start: State;
  private frames = new Map<string, Frame>();
  private states = new Map<string, State>();
  private readonly sequences = new Map<Sequence, number>();
  private lastId = 0;

  /** @throws {RuntimeError} `runtime/schema` for a grammar that no text meets */
  constructor(root: Term) {
    this.start = this.stateOf([{ sequence: [root], at: 0, rest: undefined }]);
    if (!Number.isFinite(this.start.minBytes))
      throw new RuntimeError('runtime/schema', 'no text meets the schema', {
        hint: 'look for an empty enum, a bound above its opposite, or a property that requires itself',
      });
  }

  next(state: State, byte: number): State | null {
    const known = state.next[byte];
    if (known !== undefined) return known;
    const moved = state.frames
      .filter((frame) => hasByte(frame.sequence[frame.at] as Uint32Array, byte))
      .map(({ sequence, at, rest }) => ({ sequence, at: at + 1, rest }));
    const found = moved.length === 0 ? null : this.stateOf(moved);
    state.next[byte] = found;
    return found;
  }

  /** A shortest way to the end. */
  shortestEnd(state: State): Uint8Array {
    const bytes: number[] = [];
    if (state.complete) return Uint8Array.from(bytes);
    let frame = state.frames.reduce((a, b) => (b.minBytes < a.minBytes ? b : a));
    for (let place: Frame | undefined = frame; place; place = frame.rest) {
      frame = place;
      for (let i = frame.at; i < frame.sequence.length; i++) spellShortest(frame.sequence[i] as Term, bytes);
    }
    return Uint8Array.from(bytes);
  }

  private stateOf(places: readonly Omit<Frame, 'id' | 'minBytes'>[]): State {
    const found = new Set<Frame>();
    const seen = new Set<Frame>();
    let complete = false;
    const visit = (frame: Frame | undefined): void => {
      if (!frame) {
        complete = true;
        return;
      }
      // What comes to no end is not begun.
      if (seen.has(frame) || !Number.isFinite(frame.minBytes)) return;
      seen.add(frame);
      if (seen.size > MOST_FRAMES)
        throw new RuntimeError('runtime/schema', 'the schema leads to itself, or is too wide');
      const term = frame.sequence[frame.at] as Term;
      if (!(term instanceof Rule)) {
        found.add(frame);
        return;
      }
      const rest = this.frame(frame.sequence, frame.at + 1, frame.rest);
      for (const alternative of term.alternatives) visit(this.frame(alternative, 0, rest));
    };
    for (const { sequence, at, rest } of places) visit(this.frame(sequence, at, rest));
    return this.intern(
      [...found].toSorted((a, b) => a.id - b.id),
      complete,
    );
  }

  private intern(frames: readonly Frame[], complete: boolean): State {
    const key = `${complete}${frames.map(({ id }) => id).join()}`;
    const known = this.states.get(key);
    if (known) return known;
    if (this.states.size >= MOST_STATES) {
      this.states = new Map();
      this.frames = new Map();
      if (this.start) this.start.next.length = 0;
    }
    const least = Math.min(...frames.map((frame) => frame.minBytes));
    const state = { frames, complete, minBytes: complete ? 0 : least, next: [] };
    this.states.set(key, state);
    return state;
  }

  /** A place behind the end of its sequence is the place to go on at. */
  private frame(sequence: Sequence, at: number, rest: Frame | undefined): Frame | undefined {
    if (at >= sequence.length) return rest;
    const key = `${this.idOf(sequence)} ${at} ${rest?.id ?? ''}`;
    const known = this.frames.get(key);
    if (known) return known;
    const made = { id: ++this.lastId, sequence, at, rest, minBytes: minBytes(sequence, at) + (rest?.minBytes ?? 0) };
    this.frames.set(key, made);
    return made;
  }

  private idOf(sequence: Sequence): number {
    const known = this.sequences.get(sequence) ?? this.sequences.size;
    this.sequences.set(sequence, known);
    return known;
  }
}

function spellShortest(first: Term, bytes: number[]): void {
  const ahead = [first];
  for (let term = ahead.pop(); term !== undefined; term = ahead.pop()) {
    if (!(term instanceof Rule)) {
      bytes.push(firstByte(term));
      continue;
    }
    const shortest = term.alternatives.reduce((a, b) => (minBytes(b) < minBytes(a) ? b : a));
    for (let i = shortest.length - 1; i >= 0; i--) ahead.push(shortest[i] as Term);
  }
}
