import { manifestType } from '../media-types.ts';
import { PackError } from '../errors.ts';
import type { Pack } from '../open.ts';
import type { Blob } from '../types.ts';
import { withPack } from '../verify.ts';
import { RegistryClient, type RegistryOptions } from './client.ts';
import { parseReference } from './reference.ts';

/** What one request carries: the unit in which an upload that broke goes on. */
const CHUNK_BYTES = 8 << 20;

export interface PushOptions extends RegistryOptions {
  /** Default 8 MiB. */
  readonly chunkBytes?: number | undefined;
}

export interface Pushed {
  /** `host/name:tag`. */
  readonly reference: string;
  readonly digest: string;
  /** Of all blobs. */
  readonly bytes: number;
  /** Of those that the registry did not have. */
  readonly uploadedBytes: number;
}

/**
 * Copies a pack into a registry: blobs that it lacks, then the manifest, byte for byte, under the reference's tag. The
 * pack is verified before; the registry verifies what arrives by its digest.
 * @throws {PackError} `pack/reference`, `pack/registry`, `pack/registry-auth`, `pack/unreachable`, and as `openPack`
 */
export async function pushPack(path: string, reference: string, options: PushOptions = {}): Promise<Pushed> {
  const to = parseReference(reference);
  if (to.digest !== undefined)
    throw new PackError('pack/reference', `${to.text} pins a digest; a pack is pushed under a tag`, { where: to.text });
  return withPack(path, { signal: options.signal }, async (pack) => {
    const client = await RegistryClient.open(to, options);
    const blobs = pack.blobs.filter(({ digest }) => digest !== pack.digest);
    const total = pack.blobs.reduce((sum, { bytes }) => sum + bytes, 0);
    let [done, uploadedBytes] = [0, 0];
    for (const blob of blobs) {
      if (!(await has(client, blob))) {
        await upload(client, pack, blob, options.chunkBytes ?? CHUNK_BYTES, (bytes) =>
          options.onProgress?.(done + bytes, total),
        );
        uploadedBytes += blob.bytes;
      }
      done += blob.bytes;
      options.onProgress?.(done, total);
    }
    await putManifest(client, pack);
    return { reference: `${to.host}/${to.name}:${to.tag}`, digest: pack.digest, bytes: total, uploadedBytes };
  });
}

async function has(client: RegistryClient, { digest, bytes }: Blob): Promise<boolean> {
  const response = await client.persist(() =>
    client.send('HEAD', client.url(`blobs/${digest}`), { accept: [200, 404] }),
  );
  const length = response.headers.get('content-length');
  return response.status === 200 && (length === null || Number(length) === bytes);
}

/** In one request, or, if it is large, in chunks; a chunk that fails is taken up where the registry has come to. */
async function upload(
  client: RegistryClient,
  pack: Pack,
  blob: Blob,
  chunkBytes: number,
  told: (bytes: number) => void,
): Promise<void> {
  const { digest, bytes } = blob;
  if (bytes <= chunkBytes) {
    const body = await pack.readBlob(digest, 0, bytes);
    await client.persist(async () => {
      const at = await begin(client);
      at.searchParams.set('digest', digest);
      await client.send('PUT', at, { body, headers: octets, accept: [201, 204] });
    });
    return told(bytes);
  }
  let at = await client.persist(() => begin(client));
  for (let offset = 0; offset < bytes; told(offset)) {
    const next = await client.persist(async (failures) => {
      if (failures > 0) ({ at, offset } = await resume(client, at, blob));
      if (offset >= bytes) return { at, offset };
      const body = await pack.readBlob(digest, offset, Math.min(chunkBytes, bytes - offset));
      const end = offset + body.length;
      const headers = { ...octets, 'content-range': `${offset}-${end - 1}` };
      const response = await client.send('PATCH', at, { body, headers, accept: [202] });
      return { at: location(client, response), offset: end };
    });
    ({ at, offset } = next);
  }
  at.searchParams.set('digest', digest);
  await client.send('PUT', at, { headers: { 'content-length': '0' }, accept: [201, 204] });
}

const octets = { 'content-type': 'application/octet-stream' };

async function begin(client: RegistryClient): Promise<URL> {
  const response = await client.send('POST', client.url('blobs/uploads/'), { accept: [202] });
  await response.body?.cancel();
  return location(client, response);
}

/** How much of an upload has arrived; one that the registry has forgotten begins anew. */
async function resume(client: RegistryClient, at: URL, { bytes }: Blob): Promise<{ at: URL; offset: number }> {
  const response = await client.send('GET', at, { accept: [204, 202, 200, 404] });
  await response.body?.cancel();
  if (response.status === 404) return { at: await begin(client), offset: 0 };
  const last = /^(?:bytes=)?0-(\d+)$/.exec(response.headers.get('range') ?? '')?.[1];
  // Some say `0-0` of nothing; then one byte would be taken for there, so such an upload begins anew.
  if (last === undefined || last === '0') return { at: await begin(client), offset: 0 };
  return { at: location(client, response), offset: Math.min(Number(last) + 1, bytes) };
}

function location(client: RegistryClient, response: Response): URL {
  const header = response.headers.get('location');
  if (header === null)
    throw new PackError('pack/registry', `${response.url}: an upload without a location`, { where: response.url });
  return new URL(header, client.reference.origin);
}

async function putManifest(client: RegistryClient, pack: Pack): Promise<void> {
  const { reference } = client;
  const response = await client.persist(() =>
    client.send('PUT', client.url(`manifests/${reference.tag}`), {
      body: pack.manifestBytes,
      headers: { 'content-type': manifestType },
      accept: [201],
    }),
  );
  await response.body?.cancel();
  const named = response.headers.get('docker-content-digest');
  if (named !== null && named !== pack.digest)
    throw new PackError('pack/registry', `${reference.text} became ${named}, not ${pack.digest}`, {
      where: reference.text,
    });
}
