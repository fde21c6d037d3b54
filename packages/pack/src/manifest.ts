import { canonicalJson, isRecord, parseJson } from './canonical-json.ts';
import { digestHex, digestOf } from './digest.ts';
import { PackError } from './errors.ts';
import {
  artifactType,
  filepathKey,
  layerType,
  manifestType,
  modelConfigType,
  packConfigPath,
  packConfigType,
  signaturePath,
  signatureType,
} from './media-types.ts';
import type { Blob, PackConfig } from './types.ts';

/** The blobs of a pack that are not its files, all in canonical JSON. */
export interface Metadata {
  readonly packConfig: Uint8Array;
  readonly modelConfig: Uint8Array;
  readonly signature: Uint8Array | undefined;
  readonly manifest: Uint8Array;
}

interface Descriptor {
  readonly annotations?: { readonly [key: string]: string };
  readonly digest: string;
  readonly mediaType: string;
  readonly size: number;
}

/**
 * The manifest is a function of the pack's config and signature alone, so that signing the config signs every byte:
 * a reader derives the manifest anew and compares. It follows CNCF ModelPack (artifactType, config and layer media
 * types, path annotations); its config is a plain ModelPack config, closed to other members, so ours is a layer.
 * @see OCI image-spec 1.1, manifest.md; github.com/modelpack/model-spec, docs/spec.md and schema/config-schema.json
 */
export function deriveMetadata(config: PackConfig, signature: Uint8Array | undefined): Metadata {
  const packConfig = canonicalJson(config);
  const layers = [
    layer(packConfigPath, packConfigType, blobOf(packConfig)),
    ...config.files.map((file) => layer(file.path, layerType(file.role), file)),
    ...(signature === undefined ? [] : [layer(signaturePath, signatureType, blobOf(signature))]),
  ];
  const modelConfig = canonicalJson(deriveModelConfig(config, layers));
  const manifest = canonicalJson({
    schemaVersion: 2,
    mediaType: manifestType,
    artifactType,
    config: { mediaType: modelConfigType, digest: digestOf(modelConfig), size: modelConfig.length },
    layers,
  });
  return { packConfig, modelConfig, signature, manifest };
}

/** Every blob of a pack: what a device has to fetch. One entry per digest. */
export function blobsOf(config: PackConfig, metadata: Metadata): readonly Blob[] {
  const blobs = new Map<string, number>();
  for (const bytes of [metadata.manifest, metadata.modelConfig, metadata.packConfig, metadata.signature])
    if (bytes !== undefined) blobs.set(digestOf(bytes), bytes.length);
  for (const file of config.files) blobs.set(file.digest, file.bytes);
  return [...blobs].map(([digest, bytes]) => ({ digest, bytes }));
}

/** Where the pack's own config and signature are, in a manifest that is not to be trusted yet. */
export function findMetadata(manifest: Uint8Array): {
  readonly packConfig: Blob;
  readonly signature: Blob | undefined;
} {
  const value = parseJson(manifest);
  if (!isRecord(value) || !Array.isArray(value['layers']))
    throw new PackError('pack/manifest', 'the manifest is not one');
  const found = new Map<string, Blob>();
  for (const layer of value['layers']) {
    if (!isRecord(layer)) throw new PackError('pack/manifest', 'a layer of the manifest is not an object');
    const { mediaType, size } = layer;
    digestHex(layer['digest'], 'layer');
    if (typeof mediaType !== 'string' || typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
      throw new PackError('pack/manifest', 'a layer of the manifest has no media type or size');
    if (/[+.](gzip|zstd|gz|zst|bz2|xz)$/.test(mediaType))
      throw new PackError('pack/compressed', `a layer is compressed (${mediaType}); packs never are`);
    if (mediaType !== packConfigType && mediaType !== signatureType) continue;
    if (found.has(mediaType)) throw new PackError('pack/manifest', `two layers of type ${mediaType}`);
    found.set(mediaType, { digest: String(layer['digest']), bytes: size });
  }
  const packConfig = found.get(packConfigType);
  if (packConfig === undefined)
    throw new PackError('pack/not-a-pack', 'an OCI image without a Flotilla pack config in it');
  return { packConfig, signature: found.get(signatureType) };
}

function layer(path: string, mediaType: string, blob: Blob): Descriptor {
  return { annotations: { [filepathKey]: path }, digest: blob.digest, mediaType, size: blob.bytes };
}

function blobOf(bytes: Uint8Array): Blob {
  return { digest: digestOf(bytes), bytes: bytes.length };
}

function deriveModelConfig(config: PackConfig, layers: readonly Descriptor[]): unknown {
  return {
    descriptor: { name: config.name },
    config: {
      format: 'onnx',
      paramSize: config.parameters >= 50 ? paramSize(config.parameters) : undefined,
      precision: config.weights,
      quantization: config.weights.startsWith('fp') ? undefined : config.weights,
    },
    modelfs: { type: 'layers', diffIds: layers.map(({ digest }) => digest) },
  };
}

/** `6.7b`: at most one decimal, then a letter. @see model-spec, docs/config.md, `paramSize` */
function paramSize(parameters: number): string {
  const units = [
    [1e12, 't'],
    [1e9, 'b'],
    [1e6, 'm'],
  ] as const;
  const [scale, letter] = units.find(([size]) => parameters >= size) ?? [1e3, 'k'];
  return `${Math.round(parameters / (scale / 10)) / 10}${letter}`;
}
