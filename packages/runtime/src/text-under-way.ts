import { TextStream } from './text-stream.ts';
import type { TextTokenizer } from './tokenizer.ts';

export interface GenerateOptions {
  /** Default 64. */
  readonly maxTokens?: number | undefined;
  /** The text ends before the first of these that appears. */
  readonly stop?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Text as it comes; may run a stop string's beginning ahead of the result. */
  readonly onToken?: ((piece: string, id: number) => void) | undefined;
}

export interface Generation {
  readonly text: string;
  readonly promptTokens: number;
  /** Ids made, an end-of-text token not among them. */
  readonly ids: readonly number[];
  readonly tokens: number;
  readonly timeToFirstTokenMs: number;
  /** After the first token; null below two tokens. Of one text, also when several ran together. */
  readonly tokensPerSecond: number | null;
  readonly stopReason: 'end' | 'stop' | 'length';
}

/** One text as its tokens come: when it ends, what of it is kept, how long it took. */
export class TextUnderWay {
  /** Fed next; once the text has ended, whatever: nobody reads on. */
  next = 0;
  stopReason: Generation['stopReason'] | undefined;
  private readonly ids: number[] = [];
  private readonly stream: TextStream;
  private readonly tokenizer: TextTokenizer;
  private readonly options: GenerateOptions;
  private readonly promptTokens: number;
  private cutAt: number | undefined;
  private firstMs = 0;
  private lastMs = 0;

  constructor(promptTokens: number, tokenizer: TextTokenizer, options: GenerateOptions) {
    this.promptTokens = promptTokens;
    this.tokenizer = tokenizer;
    this.options = options;
    this.stream = new TextStream(tokenizer);
  }

  take(id: number, ms: number): void {
    if (this.stopReason !== undefined) return;
    if (this.ids.length === 0) this.firstMs = ms;
    this.lastMs = ms;
    this.next = id;
    if (this.tokenizer.eosIds.has(id)) {
      this.finish('end');
      return;
    }
    this.ids.push(id);
    this.emit(this.stream.push(id), id);
    if (this.stopReason !== undefined) return;
    const { maxTokens = 64 } = this.options;
    const limit = this.tokenizer.maxTokens ?? Number.POSITIVE_INFINITY;
    if (this.ids.length >= maxTokens || this.promptTokens + this.ids.length >= limit) this.finish('length');
  }

  private finish(reason: Generation['stopReason']): void {
    this.stopReason = reason;
    if (reason !== 'stop') this.emit(this.stream.end(), this.next);
  }

  private emit(piece: string, id: number): void {
    if (piece === '') return;
    this.options.onToken?.(piece, id);
    for (const stop of this.options.stop ?? []) {
      const at = this.stream.text.indexOf(stop, Math.max(0, this.stream.text.length - piece.length - stop.length));
      if (stop !== '' && at >= 0 && at < (this.cutAt ?? Number.POSITIVE_INFINITY)) this.cutAt = at;
    }
    if (this.cutAt !== undefined) this.stopReason = 'stop';
  }

  result(): Generation {
    const { ids, firstMs, lastMs } = this;
    return {
      text: this.stream.text.slice(0, this.cutAt),
      promptTokens: this.promptTokens,
      ids,
      tokens: ids.length,
      timeToFirstTokenMs: firstMs,
      tokensPerSecond: ids.length > 1 && lastMs > firstMs ? ((ids.length - 1) * 1000) / (lastMs - firstMs) : null,
      stopReason: this.stopReason ?? 'length',
    };
  }
}
