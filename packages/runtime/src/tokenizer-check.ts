import { RuntimeError } from './errors.ts';

type Json = { readonly [key: string]: unknown };

/** The longest of real pre-tokenizers has under 500 characters; V8 takes minutes and gigabytes for one of millions. */
const MOST_PATTERN = 10_000;
const TYPES: ReadonlySet<string> = new Set(['BPE', 'WordPiece', 'Unigram', 'WordLevel']);
/** Vocabularies end below 300,000; ids are places in lists. */
const MOST_ID = 2 ** 24;

/**
 * What the library takes without a word, or takes for ever: ids that are none or are given twice, merges that make no
 * token, endless patterns.
 * @throws {RuntimeError} `runtime/tokenizer`
 */
export function checkTokenizer(tokenizer: Json): void {
  for (const part of ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder']) checkPatterns(tokenizer[part], 0);
  const model = tokenizer['model'];
  // The library would read it as another one. Old files state none.
  const type = isObject(model) ? model['type'] : undefined;
  if (typeof type === 'string' && !TYPES.has(type))
    throw refuse(`model type ${JSON.stringify(type)}; known are ${[...TYPES].join(', ')}`);
  if (!isObject(model) || !isObject(model['vocab'])) return; // a list's ids are its places
  checkIds(model['vocab']);
  // Where words are marked at their ends, parts are not joined as they stand.
  const marked = Boolean(model['continuing_subword_prefix']) || Boolean(model['end_of_word_suffix']);
  if (Array.isArray(model['merges']) && !marked) checkMerges(model['merges'], model['vocab']);
}

function checkIds(vocab: Json): void {
  const tokens = new Map<unknown, string>();
  for (const [token, id] of Object.entries(vocab)) {
    if (!Number.isSafeInteger(id) || Number(id) < 0 || Number(id) > MOST_ID)
      throw refuse(`token ${JSON.stringify(token)} has the id ${JSON.stringify(id)}`);
    const other = tokens.get(id);
    if (other !== undefined)
      throw refuse(`tokens ${JSON.stringify(other)} and ${JSON.stringify(token)} have one id, ${String(id)}`);
    tokens.set(id, token);
  }
}

function checkMerges(merges: readonly unknown[], vocab: Json): void {
  for (const merge of merges) {
    const parts: readonly unknown[] = typeof merge === 'string' ? merge.split(' ') : Array.isArray(merge) ? merge : [];
    const [left, right] = parts;
    if (parts.length !== 2 || typeof left !== 'string' || typeof right !== 'string')
      throw refuse(`the merge ${JSON.stringify(merge)?.slice(0, 80)} has not two parts`);
    if (!Object.hasOwn(vocab, left + right))
      throw refuse(
        `the merge of ${JSON.stringify(left)} and ${JSON.stringify(right)} makes no token of the vocabulary`,
      );
  }
}

function checkPatterns(part: unknown, depth: number): void {
  if (depth > 32) throw refuse('its parts are nested deeper than 32');
  if (typeof part === 'string' && part.length > MOST_PATTERN)
    throw refuse(`a pattern of ${part.length} characters; ${MOST_PATTERN} are the most`);
  if (typeof part !== 'object' || part === null) return;
  for (const value of Object.values(part)) checkPatterns(value, depth + 1);
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function refuse(problem: string): RuntimeError {
  return new RuntimeError('runtime/tokenizer', `tokenizer.json: ${problem}`, { where: 'tokenizer.json' });
}
