import { maxConfigBytes } from '../config.ts';
import { checked, digestOf } from '../digest.ts';
import { PackError } from '../errors.ts';
import { manifestType } from '../media-types.ts';
import { type OpenOptions, verifyManifest } from '../open.ts';
import { requireTrust } from '../signature.ts';
import type { Blob } from '../types.ts';
import { writeLayout } from '../write-layout.ts';
import { readSmallBytes } from './body.ts';
import { RegistryClient, type RegistryOptions } from './client.ts';
import { parseReference } from './reference.ts';

export interface Pulled {
  readonly path: string;
  readonly digest: string;
  readonly bytes: number;
  readonly signedBy: string | undefined;
}

export type PullOptions = RegistryOptions & OpenOptions;

/**
 * Copies a pack out of a registry: one tar if `out` ends in `.pack`, else a directory, the same bytes that were pushed.
 * Nothing that the registry says is believed: the manifest must be the one that its config gives, each blob is checked
 * by its digest as it arrives, and `out` is there whole or not at all. A download that breaks goes on where it was.
 * @throws {PackError} `pack/reference`, `pack/registry`, `pack/registry-missing`, `pack/registry-auth`,
 *   `pack/unreachable`, and as `openPack`
 */
export async function pullPack(reference: string, out: string, options: PullOptions = {}): Promise<Pulled> {
  const from = parseReference(reference);
  const client = await RegistryClient.open(from, options);
  const manifest = await getManifest(client);
  const whole = async (blob: Blob): Promise<Uint8Array> => {
    if (blob.bytes > maxConfigBytes)
      throw new PackError('pack/too-large', `${blob.digest} has ${blob.bytes} bytes`, { where: blob.digest });
    const parts: Uint8Array[] = [];
    for await (const part of checked(download(client, blob), blob, blob.digest)) parts.push(part);
    return new Uint8Array(Buffer.concat(parts));
  };
  const { config, metadata, signedBy } = await verifyManifest(manifest, whole, from.text);
  if (options.trusted !== undefined) requireTrust(signedBy, options.trusted, from.text);
  const total = config.files.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  const told = (bytes: number): void => options.onProgress?.((done += bytes), total);
  const files = config.files.map((file) => ({ ...file, where: file.path, read: () => download(client, file, told) }));
  const written = await writeLayout(out, metadata, files);
  return { path: out, ...written, signedBy };
}

async function getManifest(client: RegistryClient): Promise<Uint8Array> {
  const { digest, tag, text } = client.reference;
  const response = await client.persist(() =>
    client.send('GET', client.url(`manifests/${digest ?? tag}`), { headers: { accept: manifestType }, accept: [200] }),
  );
  const bytes = await readSmallBytes(response, maxConfigBytes).catch((error: unknown) => {
    throw error instanceof PackError ? error : client.unreachable(error);
  });
  const found = digestOf(bytes);
  if (digest !== undefined && found !== digest)
    throw new PackError('pack/digest-mismatch', `${text}: the registry sent ${found}`, { where: text });
  return bytes;
}

/** A blob's bytes as they arrive, unchecked. After a break the rest is asked for, a few times for each byte that came. */
async function* download(
  client: RegistryClient,
  { digest, bytes }: Blob,
  told: (bytes: number) => void = () => undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const url = client.url(`blobs/${digest}`);
  let offset = 0;
  const open = async (): Promise<AsyncIterator<Uint8Array>> => {
    const headers = offset === 0 ? {} : { range: `bytes=${offset}-` };
    const response = await client.send('GET', url, { headers, accept: offset === 0 ? [200] : [206] });
    return (response.body as unknown as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  };
  let body: AsyncIterator<Uint8Array> | undefined;
  try {
    while (offset < bytes) {
      const next = await client.persist(async () => {
        body ??= await open();
        return await body.next().catch((error: unknown) => {
          body = undefined;
          throw client.unreachable(error);
        });
      });
      if (next.done === true) return; // too short: said by the check
      offset += next.value.length;
      told(next.value.length);
      yield next.value;
    }
  } finally {
    await body?.return?.();
  }
}
