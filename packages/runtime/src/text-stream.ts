import type { TextTokenizer } from './tokenizer.ts';

/**
 * Turns tokens into text as they come. A character may span tokens, and a token's text may depend on the one before,
 * so a piece is decoded together with the piece before it and held back while it ends in half a character.
 */
export class TextStream {
  text = '';
  private readonly tokenizer: TextTokenizer;
  private readonly ids: number[] = [];
  private before = 0;
  private done = 0;

  constructor(tokenizer: TextTokenizer) {
    this.tokenizer = tokenizer;
  }

  /** The text that this token completes; '' while it completes none. */
  push(id: number): string {
    this.ids.push(id);
    return this.take(false);
  }

  /** What was held back. */
  end(): string {
    return this.take(true);
  }

  private take(all: boolean): string {
    const known = this.tokenizer.decode(this.ids.slice(this.before, this.done));
    const now = this.tokenizer.decode(this.ids.slice(this.before));
    if (now.length <= known.length || (!all && now.endsWith('\ufffd'))) return '';
    this.before = this.done;
    this.done = this.ids.length;
    const piece = now.slice(known.length);
    this.text += piece;
    return piece;
  }
}
