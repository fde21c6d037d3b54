import { createHash } from 'node:crypto';
import { PackError } from './errors.ts';

/**
 * The 64 hexadecimal digits of a digest. Only `sha256` in lower case: one content, one name, and no name that is a path.
 * @see OCI image-spec, descriptor.md, "Digests"
 */
export function digestHex(digest: unknown, where: string): string {
  const match = typeof digest === 'string' ? /^sha256:([0-9a-f]{64})$/.exec(digest) : null;
  if (match?.[1] === undefined)
    throw new PackError(
      'pack/digest-invalid',
      `${where}: not a sha256 digest: ${JSON.stringify(digest)?.slice(0, 120)}`,
      {
        where,
      },
    );
  return match[1];
}

/** Where a blob lies inside an image layout. */
export function blobName(digest: string): string {
  return `blobs/sha256/${digestHex(digest, 'blob')}`;
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/**
 * Passes chunks on and, at the end, checks that they were `bytes` long and have this digest. Stops at the first byte
 * too many, so a stream that never ends costs nothing.
 */
export async function* checked(
  chunks: AsyncIterable<Uint8Array>,
  expected: { readonly digest: string; readonly bytes: number },
  where: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > expected.bytes)
      throw new PackError('pack/size-mismatch', `${where}: more than the ${expected.bytes} bytes it should have`, {
        where,
      });
    hash.update(chunk);
    yield chunk;
  }
  if (bytes !== expected.bytes)
    throw new PackError('pack/size-mismatch', `${where}: ${bytes} bytes, ${expected.bytes} expected`, { where });
  const digest = `sha256:${hash.digest('hex')}`;
  if (digest !== expected.digest)
    throw new PackError('pack/digest-mismatch', `${where}: its bytes are ${digest}, not ${expected.digest}`, { where });
}
