import { RuntimeError } from '../errors.ts';
import type { State } from './automaton.ts';
import { byteRanges, type ByteSet } from './byte-grammar.ts';
import type { TokenGuide } from './token-guide.ts';

const SPACE = byteRanges([0x09, 0x0a], [0x0d, 0x0d], [0x20, 0x20]);

/** One text that keeps to a grammar. */
export class Constraint {
  private readonly guide: TokenGuide;
  private readonly bytes: readonly (Uint8Array | undefined)[];
  private readonly eosIds: ReadonlySet<number>;
  private state: State;

  constructor(guide: TokenGuide, bytes: readonly (Uint8Array | undefined)[], eosIds: ReadonlySet<number>) {
    this.guide = guide;
    this.bytes = bytes;
    this.eosIds = eosIds;
    this.state = guide.automaton.start;
  }

  /** The text may end here. */
  get complete(): boolean {
    return this.state.complete;
  }

  /** The text may end here, and only white space could follow: nothing is to be waited for. */
  get over(): boolean {
    if (!this.state.complete) return false;
    return this.state.frames.every(({ sequence, at }) => isSpace(sequence[at] as ByteSet));
  }

  /**
   * @param left tokens that may still be written
   * @throws {RuntimeError} `runtime/schema` where no token of this vocabulary goes on, or none in time
   */
  allowed(left: number): Uint32Array {
    const bits = this.guide.allowed(this.state, left);
    if (this.state.complete) for (const id of this.eosIds) if (id >> 5 < bits.length) bits[id >> 5]! |= 1 << (id & 31);
    if (bits.some((word) => word !== 0)) return bits;
    const needed = this.guide.tokensToEnd(this.state);
    throw needed > left
      ? new RuntimeError(
          'runtime/schema',
          `an answer to the schema needs some ${needed} tokens more, ${left} are left`,
          {
            hint: 'raise maxTokens, or shorten the prompt',
          },
        )
      : new RuntimeError('runtime/schema', 'no token of this vocabulary goes on with what the schema asks for');
  }

  take(id: number): void {
    for (const byte of this.bytes[id] ?? []) {
      const next = this.guide.automaton.next(this.state, byte);
      // The token was allowed: it cannot lead nowhere.
      if (!next) throw new RuntimeError('runtime/schema', `token ${id} does not go on with the text`);
      this.state = next;
    }
  }
}

function isSpace(set: ByteSet): boolean {
  return set.every((word, i) => (word & ~(SPACE[i] ?? 0)) === 0);
}
