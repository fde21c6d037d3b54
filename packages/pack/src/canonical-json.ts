/**
 * The one spelling of a JSON value: no white space, members sorted by UTF-16 code unit, numbers as ECMAScript prints them.
 * @see RFC 8785 (JSON Canonicalization Scheme), whose number and string rules are those of `JSON.stringify`
 */
export function canonicalJson(value: unknown): Uint8Array {
  return new TextEncoder().encode(spell(value));
}

/**
 * The value, if `bytes` are exactly its canonical spelling; else undefined. So nothing is ever signed in one spelling
 * and read in another: duplicate members, odd escapes, invalid UTF-8 and white space all fail.
 */
export function parseCanonicalJson(bytes: Uint8Array): unknown {
  const value = parseJson(bytes);
  return value !== undefined && !isDeep(value, maxDepth) && equalBytes(canonicalJson(value), bytes) ? value : undefined;
}

/** Nothing of ours is nested deeper than five; a hostile value must not use up the stack. */
const maxDepth = 16;

function isDeep(value: unknown, left: number): boolean {
  return (
    typeof value === 'object' && value !== null && (left === 0 || Object.values(value).some((v) => isDeep(v, left - 1)))
  );
}

/** The value, in whatever spelling; undefined if `bytes` are not JSON in UTF-8. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

export function isRecord(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

function spell(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spell).join(',')}]`;
  if (!isRecord(value)) return JSON.stringify(value);
  const members = Object.keys(value)
    .filter((key) => value[key] !== undefined)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${spell(value[key])}`);
  return `{${members.join(',')}}`;
}
