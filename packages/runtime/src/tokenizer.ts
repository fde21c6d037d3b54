import { Tokenizer } from '@huggingface/tokenizers';
import { within } from './bounded.ts';
import { type ChatMessage, chatTemplateOf, cutSpecial, piecesOf, renderChat } from './chat-template.ts';
import { RuntimeError } from './errors.ts';
import { tokenBytes } from './token-bytes.ts';
import { checkTokenizer } from './tokenizer-check.ts';

/** Text to token ids and back, with the special tokens that the model's files state. */
export interface TextTokenizer {
  /**
   * The beginning-of-text token first, and once, where tokenizer_config.json (or the post-processor) says so. Special
   * tokens in the text are what they are for the model.
   * @throws {RuntimeError} `runtime/tokenizer` where its patterns do not come to an end on this text
   */
  encode(text: string): number[];
  /**
   * A conversation by the model's chat template, up to where its answer begins. Special tokens in the messages are text.
   * @throws {RuntimeError} `runtime/chat` where there is no template, or it does not take these messages
   */
  encodeChat(messages: readonly ChatMessage[]): number[];
  /** Special tokens left out. */
  decode(ids: readonly number[]): string;
  /** Whether there is such a token. */
  has(id: number): boolean;
  /** What each token stands for, byte by byte; undefined for special ones. @throws {RuntimeError} `runtime/tokenizer` */
  bytes(): readonly (Uint8Array | undefined)[];
  readonly bosId: number | undefined;
  /** Each of these ends a text. */
  readonly eosIds: ReadonlySet<number>;
  /** `max_position_embeddings` or `model_max_length`, undefined where neither is stated. */
  readonly maxTokens: number | undefined;
}

/** A folder's or a pack's files, by their names (folders in the name do not matter). */
export type TokenizerFiles = ReadonlyMap<string, Uint8Array>;

/**
 * @param files tokenizer.json; also tokenizer_config.json, chat_template.jinja, config.json and
 *   generation_config.json where there are any
 * @throws {RuntimeError} `runtime/tokenizer`
 */
export function loadTokenizer(files: TokenizerFiles): TextTokenizer {
  const model = readJson(files, 'tokenizer.json');
  if (!model) throw new RuntimeError('runtime/tokenizer', 'tokenizer.json is missing');
  const config = readJson(files, 'tokenizer_config.json') ?? {};
  const modelConfig = readJson(files, 'config.json') ?? {};
  const generation = readJson(files, 'generation_config.json') ?? {};
  checkTokenizer(model);
  const tokenizer = construct(model, config);
  const idOf = (token: unknown) => {
    const text = typeof token === 'object' && token !== null && 'content' in token ? token.content : token;
    return typeof text === 'string' ? tokenizer.token_to_id(text) : undefined;
  };
  const bosId = idOf(config['bos_token']) ?? firstId(generation['bos_token_id'] ?? modelConfig['bos_token_id']);
  const addBos = config['add_bos_token'] === true && bosId !== undefined;
  const eos = allIds(generation['eos_token_id'] ?? modelConfig['eos_token_id']);
  const eosId = idOf(config['eos_token']);
  const template = chatTemplateOf(readText(files, 'chat_template.jinja'), config['chat_template']);
  let bytes: readonly (Uint8Array | undefined)[] | undefined;
  return {
    bosId,
    eosIds: new Set(eosId === undefined ? eos : [...eos, eosId]),
    maxTokens: smallest(modelConfig['max_position_embeddings'], config['model_max_length']),
    has: (id) => tokenizer.id_to_token(id) !== undefined,
    bytes: () => (bytes ??= tokenBytes(model)),
    encode(text) {
      const ids = encodeInTime(tokenizer, text, true);
      if (addBos && ids[0] !== bosId) return [bosId, ...ids];
      // A prompt that was written by a template has it already.
      return bosId !== undefined && ids[0] === bosId && ids[1] === bosId ? ids.slice(1) : ids;
    },
    encodeChat(messages) {
      if (template === undefined)
        throw new RuntimeError('runtime/chat', 'the model has no chat template', {
          hint: 'give a plain prompt, or put chat_template.jinja beside tokenizer.json',
        });
      // The template writes the special tokens itself, and it alone: in what somebody says they are text.
      const said = cutSpecial(messages, specialTexts(model));
      const pieces = piecesOf(renderChat(template, said, specialTokens(config)));
      return pieces.flatMap((piece) => encodeInTime(tokenizer, piece, false));
    },
    decode(ids) {
      if (ids.length === 0) return ''; // the library refuses an empty list
      return tokenizer.decode([...ids], { skip_special_tokens: true, clean_up_tokenization_spaces: false });
    },
  };
}

/** A pattern can take for ever; honest ones take microseconds for a character, also where a board is emulated. */
function encodeInTime(tokenizer: Tokenizer, text: string, special: boolean): number[] {
  return within(
    2000 + text.length / 20,
    () => tokenizer.encode(text, { add_special_tokens: special }).ids,
    () =>
      new RuntimeError(
        'runtime/tokenizer',
        `the patterns of tokenizer.json come to no end on ${text.length} characters`,
      ),
  );
}

function specialTokens(config: { readonly [key: string]: unknown }): { readonly [name: string]: string } {
  const found: { [name: string]: string } = {};
  for (const name of ['bos_token', 'eos_token', 'pad_token', 'unk_token']) {
    const token = config[name];
    const text = typeof token === 'object' && token !== null && 'content' in token ? token.content : token;
    if (typeof text === 'string') found[name] = text;
  }
  return found;
}

function specialTexts({ added_tokens: added }: { readonly [key: string]: unknown }): readonly string[] {
  const list: readonly unknown[] = Array.isArray(added) ? added : [];
  return list.flatMap((token) => {
    if (typeof token !== 'object' || token === null || !('content' in token) || !('special' in token)) return [];
    return token.special === true && typeof token.content === 'string' ? [token.content] : [];
  });
}

function construct(model: object, config: object): Tokenizer {
  try {
    return new Tokenizer(model, config);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n', 1)[0] : String(cause);
    throw new RuntimeError('runtime/tokenizer', `tokenizer.json: ${reason}`, { where: 'tokenizer.json', cause });
  }
}

function readJson(files: TokenizerFiles, name: string): { readonly [key: string]: unknown } | undefined {
  const text = readText(files, name);
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  } catch (cause) {
    throw new RuntimeError('runtime/tokenizer', `${name} is not JSON`, { where: name, cause });
  }
  throw new RuntimeError('runtime/tokenizer', `${name} is not a JSON object`, { where: name });
}

function readText(files: TokenizerFiles, name: string): string | undefined {
  const bytes = [...files].find(([path]) => path === name || path.endsWith(`/${name}`))?.[1];
  if (!bytes) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new RuntimeError('runtime/tokenizer', `${name} is not UTF-8`, { where: name, cause });
  }
}

function allIds(value: unknown): number[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  return list.filter((id): id is number => Number.isSafeInteger(id));
}

function firstId(value: unknown): number | undefined {
  return allIds(value)[0];
}

function smallest(...values: readonly unknown[]): number | undefined {
  // Tokenizers without a limit state 1e30.
  const counts = values.filter((value): value is number => Number.isSafeInteger(value) && Number(value) > 0);
  return counts.length > 0 ? Math.min(...counts) : undefined;
}
