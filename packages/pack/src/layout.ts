import { canonicalJson, isRecord, parseJson } from './canonical-json.ts';
import { digestHex } from './digest.ts';
import { PackError } from './errors.ts';
import { artifactType, manifestType } from './media-types.ts';
import type { Blob } from './types.ts';

/** @see OCI image-spec, image-layout.md */
export const layoutName = 'oci-layout';
export const indexName = 'index.json';
/** More blobs than the largest pack can have. */
export const maxEntries = 2048;
export const layoutBytes = canonicalJson({ imageLayoutVersion: '1.0.0' });

const indexType = 'application/vnd.oci.image.index.v1+json';

export function indexBytes(manifest: Blob): Uint8Array {
  return canonicalJson({
    schemaVersion: 2,
    mediaType: indexType,
    manifests: [{ mediaType: manifestType, artifactType, digest: manifest.digest, size: manifest.bytes }],
  });
}

export function checkLayout(bytes: Uint8Array): void {
  const value = parseJson(bytes);
  if (!isRecord(value) || value['imageLayoutVersion'] !== '1.0.0')
    throw new PackError('pack/not-a-pack', 'oci-layout is not version 1.0.0');
}

/**
 * The one manifest that an index names. Other tools write the index anew (they add a tag, leave members out), so it is
 * read in any spelling; but it may hold nothing that a reader could act on except digest and size.
 */
export function parseIndex(bytes: Uint8Array): Blob {
  const index = parseJson(bytes);
  if (!isRecord(index) || index['schemaVersion'] !== 2 || !Array.isArray(index['manifests']))
    throw bad('it is not an OCI image index');
  if (index['mediaType'] !== undefined && index['mediaType'] !== indexType)
    throw bad(`media type ${JSON.stringify(index['mediaType'])}`);
  only(index, ['schemaVersion', 'mediaType', 'manifests']);
  const manifests: readonly unknown[] = index['manifests'];
  if (manifests.length !== 1) throw bad(`${manifests.length} manifests, exactly one expected`);
  const [manifest] = manifests;
  if (!isRecord(manifest)) throw bad('its manifest is not an object');
  only(manifest, ['mediaType', 'artifactType', 'digest', 'size', 'annotations']);
  if (manifest['mediaType'] !== manifestType)
    throw bad(`it names ${JSON.stringify(manifest['mediaType'])}, not a manifest`);
  digestHex(manifest['digest'], indexName);
  const size = manifest['size'];
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 1) throw bad('its manifest has no size');
  if (manifest['artifactType'] !== undefined && manifest['artifactType'] !== artifactType)
    throw bad(`artifactType ${JSON.stringify(manifest['artifactType'])}`);
  const { annotations } = manifest;
  if (annotations !== undefined) {
    if (!isRecord(annotations)) throw bad('its annotations are not an object');
    only(annotations, ['org.opencontainers.image.ref.name']);
  }
  return { digest: String(manifest['digest']), bytes: size };
}

function only(value: { readonly [key: string]: unknown }, names: readonly string[]): void {
  const unknown = Object.keys(value).find((key) => !names.includes(key));
  if (unknown !== undefined) throw bad(`unknown member ${JSON.stringify(unknown.slice(0, 120))}`);
}

function bad(problem: string): PackError {
  return new PackError('pack/index', `index.json: ${problem}`, { where: indexName });
}
