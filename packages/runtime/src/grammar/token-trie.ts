/**
 * All tokens by their bytes, as one list in depth-first order: what follows a place, up to its `end`, begins with its
 * bytes. To leave out all tokens that begin badly is one step.
 */
export interface TokenTrie {
  readonly byte: Uint8Array;
  /** Bytes before this one. */
  readonly depth: Uint16Array;
  /** The first place that does not begin with these bytes. */
  readonly end: Uint32Array;
  /** Tokens that end with this byte. */
  readonly tokens: readonly (readonly number[] | undefined)[];
  readonly longest: number;
}

/** @param bytes of each token; undefined or empty: left out */
export function tokenTrie(bytes: readonly (Uint8Array | undefined)[]): TokenTrie {
  const sorted: { readonly id: number; readonly bytes: Uint8Array }[] = [];
  for (const [id, one] of bytes.entries()) if (one && one.length > 0) sorted.push({ id, bytes: one });
  sorted.sort((a, b) => Buffer.compare(a.bytes, b.bytes) || a.id - b.id);
  const byte: number[] = [];
  const depth: number[] = [];
  const end: number[] = [];
  const tokens: (number[] | undefined)[] = [];
  const path: number[] = []; // places of the bytes of the token before
  let longest = 0;
  for (const one of sorted) {
    let common = 0;
    while (common < path.length && common < one.bytes.length && byte[path[common] ?? 0] === one.bytes[common]) common++;
    for (const place of path.splice(common)) end[place] = byte.length;
    for (let i = common; i < one.bytes.length; i++) {
      path.push(byte.length);
      byte.push(one.bytes[i] ?? 0);
      depth.push(i);
      tokens.push(undefined);
    }
    const last = path.at(-1) ?? 0;
    tokens[last] = [...(tokens[last] ?? []), one.id];
    longest = Math.max(longest, one.bytes.length);
  }
  for (const place of path) end[place] = byte.length;
  return { byte: Uint8Array.from(byte), depth: Uint16Array.from(depth), end: Uint32Array.from(end), tokens, longest };
}
