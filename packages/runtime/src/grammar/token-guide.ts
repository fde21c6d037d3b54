import type { Automaton, State } from './automaton.ts';
import type { TokenTrie } from './token-trie.ts';

interface Allowed {
  /** A bit per token. */
  readonly bits: Uint32Array;
  /** Of the states that these tokens lead to, the greatest least count of bytes to the end. */
  readonly farthest: number;
}

/** Which tokens go on with a text of a grammar. What is found for a state is kept, so most tokens cost nothing. */
export class TokenGuide {
  readonly automaton: Automaton;
  private readonly trie: TokenTrie;
  private readonly words: number;
  private readonly known = new WeakMap<State, Allowed>();
  private readonly endings = new WeakMap<State, number>();

  /** @param count tokens of the model */
  constructor(automaton: Automaton, trie: TokenTrie, count: number) {
    this.automaton = automaton;
    this.trie = trie;
    this.words = Math.ceil(count / 32);
  }

  /**
   * @param left tokens that may still be written; those are left out after which they would not do
   * @returns a bit per token; the caller's to change
   */
  allowed(state: State, left: number): Uint32Array {
    let found = this.known.get(state);
    if (!found) {
      found = this.walk(state, () => true);
      this.known.set(state, found);
    }
    // A token has at least one byte: where all ways are that short, none can be too long.
    if (found.farthest <= left - 1) return found.bits.slice();
    return this.walk(state, (next) => next.minBytes <= left - 1 || this.tokensToEnd(next) <= left - 1).bits;
  }

  /** Tokens of a way to the end, a short one though not always the shortest. */
  tokensToEnd(state: State): number {
    const known = this.endings.get(state);
    if (known !== undefined) return known;
    const bytes = this.automaton.shortestEnd(state);
    let count = 0;
    for (let at = 0; at < bytes.length; count++) at += Math.max(1, this.longestToken(bytes, at));
    this.endings.set(state, count);
    return count;
  }

  private longestToken(bytes: Uint8Array, from: number): number {
    const { byte, end, tokens } = this.trie;
    let best = 0;
    let place = 0;
    let stop = byte.length;
    for (let at = from; at < bytes.length; at++) {
      while (place < stop && byte[place] !== bytes[at]) place = end[place] ?? stop;
      if (place >= stop) break;
      if (tokens[place]) best = at - from + 1;
      stop = end[place] ?? stop;
      place++;
    }
    return best;
  }

  private walk(start: State, mayEndIn: (state: State) => boolean): Allowed {
    const { byte, depth, end, tokens, longest } = this.trie;
    const bits = new Uint32Array(this.words);
    const states: State[] = Array.from({ length: longest + 1 }, () => start);
    let farthest = 0;
    for (let place = 0; place < byte.length; ) {
      const at = depth[place] ?? 0;
      const next = this.automaton.next(states[at] as State, byte[place] ?? 0);
      if (!next) {
        place = end[place] ?? byte.length;
        continue;
      }
      states[at + 1] = next;
      const ending = tokens[place++];
      if (!ending || !mayEndIn(next)) continue;
      farthest = Math.max(farthest, next.minBytes);
      for (const id of ending) if (id >> 5 < this.words) bits[id >> 5]! |= 1 << (id & 31);
    }
    return { bits, farthest };
  }
}
