import { RuntimeError } from './errors.ts';
import type { Constraint } from './grammar/constraint.ts';
import { randomFrom } from './random.ts';
import type { Sampling } from './sampling.ts';
import { StopStrings } from './stop-strings.ts';
import { TextStream } from './text-stream.ts';
import type { TextTokenizer } from './tokenizer.ts';

export interface GenerateOptions extends Sampling {
  /** The adapter that writes this text; null: none. Default: what `session.use` chose. */
  readonly adapter?: string | null | undefined;
  /** Default 64. */
  readonly maxTokens?: number | undefined;
  /** The text ends before the first of these that appears. */
  readonly stop?: readonly string[] | undefined;
  /** The same seed gives the same text; its low 32 bits count. Default: another one each time. */
  readonly seed?: number | undefined;
  /** JSON Schema that the text is valid against, to the last token; see the README for what is understood. */
  readonly schema?: unknown;
  /**
   * Whether what the session read for the last request, and this prompt begins with, need not be read again. It differs
   * from what is read afresh in its last bits; so by default it is taken unless `seed` asks for the same text each time.
   */
  readonly reusePrefix?: boolean | undefined;
  /** Ends the text between two tokens, or between two pieces of a long prompt. */
  readonly signal?: AbortSignal | undefined;
  /** Text as it comes, in whole characters; the pieces together are the result's text. */
  readonly onToken?: ((piece: string, id: number) => void) | undefined;
}

export interface Generation {
  readonly text: string;
  readonly promptTokens: number;
  /** Of these, taken from an earlier request. */
  readonly reusedTokens: number;
  /** Ids made, an end-of-text token not among them. */
  readonly ids: readonly number[];
  readonly tokens: number;
  readonly timeToFirstTokenMs: number;
  /** After the first token; null below two tokens. Of one text, also when several ran together. */
  readonly tokensPerSecond: number | null;
  /** Of the whole time until the last token, what passed outside of ONNX Runtime. */
  readonly overheadShare: number;
  /** What the draws came from; null where nothing was drawn. */
  readonly seed: number | null;
  readonly stopReason: 'end' | 'stop' | 'length';
}

/** What a text goes by beside its options. */
interface Conduct {
  readonly seed: number;
  readonly constraint: Constraint | undefined;
}

/** One text as its tokens come: when it ends, what of it is kept, how long it took. */
export class TextUnderWay {
  /** Fed next; once the text has ended, whatever: nobody reads on. */
  next = 0;
  stopReason: Generation['stopReason'] | undefined;
  private readonly ids: number[] = [];
  private readonly stream: TextStream;
  private readonly stops: StopStrings;
  private readonly tokenizer: TextTokenizer;
  private readonly options: GenerateOptions;
  private readonly promptTokens: number;
  private readonly seed: number;
  private readonly random: () => number;
  private readonly constraint: Constraint | undefined;
  private firstMs = 0;
  private lastMs = 0;

  constructor(promptTokens: number, tokenizer: TextTokenizer, options: GenerateOptions, how: Conduct) {
    this.promptTokens = promptTokens;
    this.tokenizer = tokenizer;
    this.options = options;
    this.stream = new TextStream(tokenizer);
    this.stops = new StopStrings(options.stop ?? []);
    this.seed = how.seed;
    this.random = randomFrom(how.seed);
    this.constraint = how.constraint;
  }

  /** Whether a token may be wanted behind the next one. */
  get goesOn(): boolean {
    return this.stopReason === undefined && this.ids.length + 1 < this.most;
  }

  /** The number that places the next choice. */
  draw(): number {
    return this.stopReason === undefined ? this.random() : 0;
  }

  /** The tokens that may come next; undefined: all. @throws {RuntimeError} `runtime/schema` where none may */
  allowed(): Uint32Array | undefined {
    return this.stopReason === undefined ? this.constraint?.allowed(this.most - this.ids.length) : undefined;
  }

  /** @throws {RuntimeError} `runtime/tokenizer`, `runtime/run` for a token that cannot be one */
  take(id: number, ms: number): void {
    if (this.stopReason !== undefined) {
      this.next = Math.max(0, id); // as the session expects it, beside rows that go on
      return;
    }
    if (id < 0) throw new RuntimeError('runtime/run', "the model's logits are not numbers");
    if (this.ids.length === 0) this.firstMs = ms;
    this.lastMs = ms;
    this.next = id;
    if (this.tokenizer.eosIds.has(id)) {
      this.finish('end');
      return;
    }
    if (!this.tokenizer.has(id))
      throw new RuntimeError('runtime/tokenizer', `the model wrote token ${id}, which tokenizer.json does not have`, {
        hint: "put the model's own tokenizer.json beside it",
      });
    this.ids.push(id);
    this.constraint?.take(id);
    this.emit(this.stream.push(id));
    if (this.stopReason !== undefined) return;
    if (this.constraint?.over) this.finish('end');
    else if (this.ids.length >= this.most) this.finish('length');
  }

  /** Tokens that there is room for. */
  private get most(): number {
    const { maxTokens = 64 } = this.options;
    return Math.min(maxTokens, (this.tokenizer.maxTokens ?? Number.POSITIVE_INFINITY) - this.promptTokens);
  }

  private finish(reason: Generation['stopReason']): void {
    if (reason === 'length' && this.constraint?.complete === false)
      throw new RuntimeError('runtime/schema', `the answer is not complete after ${this.ids.length} tokens`, {
        hint: 'raise maxTokens, or shorten the prompt',
      });
    this.stopReason = reason;
    this.emit(this.stream.end());
    if (this.stopReason === reason) this.tell(this.stops.end());
  }

  private emit(piece: string): void {
    if (piece === '') return;
    this.tell(this.stops.push(piece));
    if (this.stops.found) this.stopReason = 'stop';
  }

  private tell(piece: string): void {
    if (piece !== '') this.options.onToken?.(piece, this.next);
  }

  /** @param modelMs time in ONNX Runtime up to the last token */
  result(reusedTokens: number, modelMs: number): Generation {
    const { ids, firstMs, lastMs } = this;
    return {
      text: this.stops.text,
      promptTokens: this.promptTokens,
      reusedTokens,
      ids,
      tokens: ids.length,
      timeToFirstTokenMs: firstMs,
      tokensPerSecond: ids.length > 1 && lastMs > firstMs ? ((ids.length - 1) * 1000) / (lastMs - firstMs) : null,
      overheadShare: lastMs > 0 ? Math.max(0, 1 - modelMs / lastMs) : 0,
      seed: (this.options.temperature ?? 0) > 0 ? this.seed : null,
      stopReason: this.stopReason ?? 'length',
    };
  }
}
