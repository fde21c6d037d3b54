import { RuntimeError } from './errors.ts';

type Json = { readonly [key: string]: unknown };

/**
 * The bytes that each token of a tokenizer.json stands for; undefined for special tokens and ids without a token.
 * Byte-level BPE (GPT-2's alphabet), and vocabularies that write a space as ▁ and bytes as `<0x0A>` (SentencePiece).
 * @throws {RuntimeError} `runtime/tokenizer` for another kind
 */
export function tokenBytes(tokenizer: Json): readonly (Uint8Array | undefined)[] {
  const parts = decoderParts(tokenizer['decoder']);
  const spell = parts.includes('ByteLevel')
    ? spellByteLevel
    : parts.some((part) => part === 'Metaspace' || part === 'ByteFallback')
      ? spellPieces
      : undefined;
  if (!spell)
    throw new RuntimeError('runtime/tokenizer', `no schema can be kept with a ${parts.join(', ') || 'bare'} decoder`, {
      where: 'tokenizer.json',
      hint: 'byte-level BPE and SentencePiece vocabularies can',
    });
  const bytes: (Uint8Array | undefined)[] = [];
  for (const [token, id] of vocabulary(tokenizer['model'])) bytes[id] = spell(token);
  for (const added of Array.isArray(tokenizer['added_tokens']) ? (tokenizer['added_tokens'] as readonly Json[]) : [])
    if (Number.isSafeInteger(added['id']))
      bytes[added['id'] as number] =
        added['special'] === false ? new TextEncoder().encode(String(added['content'])) : undefined;
  return bytes;
}

function decoderParts(decoder: unknown): readonly string[] {
  if (typeof decoder !== 'object' || decoder === null) return [];
  const { type, decoders } = decoder as Json;
  return Array.isArray(decoders) ? decoders.flatMap((part) => decoderParts(part)) : [String(type)];
}

function vocabulary(model: unknown): Iterable<readonly [string, number]> {
  const vocab = typeof model === 'object' && model !== null ? (model as Json)['vocab'] : undefined;
  if (Array.isArray(vocab)) return vocab.map((entry, id) => [String((entry as readonly unknown[])[0]), id] as const);
  return Object.entries((vocab ?? {}) as { readonly [token: string]: number });
}

/** GPT-2's alphabet: bytes that print stand for themselves, the others for the characters from 256 on. */
const BYTE_OF: ReadonlyMap<string, number> = (() => {
  const prints = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  const map = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) map.set(String.fromCharCode(prints(byte) ? byte : next++), byte);
  return map;
})();

function spellByteLevel(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF.get(token[i] ?? '');
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}

function spellPieces(token: string): Uint8Array {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1];
  return byte === undefined
    ? new TextEncoder().encode(token.replaceAll('▁', ' '))
    : Uint8Array.of(Number.parseInt(byte, 16));
}
