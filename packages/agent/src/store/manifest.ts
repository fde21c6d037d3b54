import { layerType } from '@flotilla/pack';
import type { DesiredRelease } from '@flotilla/protocol';
import { FACTORS_BYTES } from '../mind/limits.ts';
import { Refusal } from '../refusal.ts';

export interface Blob {
  readonly digest: string;
  readonly bytes: number;
}

/**
 * What a manifest names, to be fetched; only as far as fetching needs it, the pack room judges the rest later. Its bytes
 * are the ones that the signed release named, so a lie here is the publisher's, and still must not cost the disk.
 * @throws {Refusal} `pack-invalid`
 */
export function blobsOfManifest(bytes: Uint8Array, release: DesiredRelease): readonly Blob[] {
  const blobs = new Map<string, Blob>();
  let total = release.manifestBytes;
  for (const blob of descriptors(bytes).map(toBlob)) {
    const twin = blobs.get(blob.digest);
    if (twin !== undefined && twin.bytes !== blob.bytes) throw invalid(`two sizes for ${blob.digest}`);
    if (twin === undefined) total += blob.bytes;
    blobs.set(blob.digest, blob);
  }
  if (total > release.totalBytes)
    throw invalid(`its blobs come to ${total} bytes, ${release.totalBytes} were announced`);
  return [...blobs.values()];
}

/** A model that may be made on the device instead of being fetched. */
export interface Rebuild {
  /** Factors, and the digest of the model that they are for. */
  readonly factors: Blob;
  readonly model: Blob;
}

/** What a manifest offers to rebuild: only where one file of factors, of some size, stands beside a model in one file. */
export function rebuildOf(bytes: Uint8Array): Rebuild | undefined {
  const layers = descriptors(bytes);
  const [factors, ...others] = layers.filter((layer) => isOf(layer, layerType('rebuild')));
  const [model, ...parts] = layers.filter((layer) => isOf(layer, layerType('model')));
  if (factors === undefined || model === undefined || others.length + parts.length > 0) return undefined;
  const rebuild = { factors: toBlob(factors), model: toBlob(model) };
  return rebuild.factors.bytes > FACTORS_BYTES ? undefined : rebuild;
}

function isOf(layer: unknown, type: string): boolean {
  return ((layer ?? {}) as { readonly mediaType?: unknown }).mediaType === type;
}

function descriptors(bytes: Uint8Array): readonly unknown[] {
  let manifest: unknown;
  try {
    manifest = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw invalid('it is not JSON');
  }
  const { config, layers } = (manifest ?? {}) as { readonly config?: unknown; readonly layers?: unknown };
  if (!Array.isArray(layers) || layers.length > 2048) throw invalid('it has no list of at most 2048 layers');
  return [config, ...layers];
}

function toBlob(value: unknown): Blob {
  const { digest, size } = (value ?? {}) as { readonly digest?: unknown; readonly size?: unknown };
  if (typeof digest !== 'string' || !/^sha256:[0-9a-f]{64}$/.test(digest))
    throw invalid('a layer has no sha256 digest');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw invalid('a layer has no size');
  return { digest, bytes: size };
}

const invalid = (what: string): Refusal => new Refusal('pack-invalid', `manifest: ${what}`);
