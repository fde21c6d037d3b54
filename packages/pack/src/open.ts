import { equalBytes } from './canonical-json.ts';
import { maxConfigBytes, parseConfig } from './config.ts';
import { type Container, chunks, openContainer, readRange, readSmall } from './container.ts';
import { blobName, checked, digestOf } from './digest.ts';
import { PackError } from './errors.ts';
import type { PublicKey } from './keys.ts';
import { checkLayout, indexName, layoutName, parseIndex } from './layout.ts';
import { blobsOf, deriveMetadata, findMetadata, type Metadata } from './manifest.ts';
import { requireTrust, verifySignature } from './signature.ts';
import type { Blob, PackConfig, PackFile } from './types.ts';
import { writeBeside, writeFileFrom } from './write-beside.ts';
import { fileSources, tarStream } from './write-layout.ts';

export interface OpenOptions {
  /** Keys of which one must have signed the pack. Undefined: signed or not, by whomever; `[]`: nobody is trusted. */
  readonly trusted?: readonly PublicKey[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An open pack: every byte of it was checked, and is again as it is read. */
export interface Pack {
  readonly path: string;
  /** The pack's name: the digest of its manifest. */
  readonly digest: string;
  readonly config: PackConfig;
  /** Id of the key whose signature was verified; undefined if the pack is not signed. */
  readonly signedBy: string | undefined;
  readonly manifestBytes: Uint8Array;
  /** Everything that a device has to fetch, one entry per digest. */
  readonly blobs: readonly Blob[];
  /** A whole file, in memory. @throws {PackError} `pack/no-such-file` */
  file(path: string): Promise<Uint8Array>;
  stream(path: string, signal?: AbortSignal): AsyncIterable<Uint8Array>;
  /** Copies a file out, to be there whole or not at all; its folder is made. */
  extract(path: string, to: string): Promise<void>;
  /** Bytes `[offset, offset + length)` of a blob, for serving it in pieces. The receiver must check the whole. */
  readBlob(digest: string, offset: number, length: number): Promise<Uint8Array>;
  /** The whole pack as one tar, whatever form it has here. */
  tar(signal?: AbortSignal): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/**
 * Opens a pack, directory or tar, and verifies everything: the layout, every digest and size, that no byte is there
 * which no digest covers, that the manifest is the one its config gives, the signature and, where asked, who made it.
 * Memory does not grow with the model; time is that of hashing it once.
 * @throws {PackError} any `pack/…` code but those of writing; see the README
 */
export async function openPack(path: string, options?: OpenOptions): Promise<Pack> {
  const container = await openContainer(path);
  try {
    const { config, metadata, signedBy } = await verifyMetadata(container, path);
    if (options?.trusted !== undefined) requireTrust(signedBy, options.trusted, path);
    const blobs = blobsOf(config, metadata);
    nothingElse(container, blobs);
    for (const blob of blobs) await verifyBlob(container, blob, options?.signal);
    return packOf(path, container, config, metadata, signedBy, blobs);
  } catch (error) {
    await container.close();
    throw error;
  }
}

/** What a manifest says and its config and signature bear out; the files are still to be checked, each by its digest. */
export interface Verified {
  readonly config: PackConfig;
  readonly metadata: Metadata;
  readonly signedBy: string | undefined;
}

/** From the index to the config, checking each step before reading the next; then everything anew from the config. */
async function verifyMetadata(container: Container, path: string): Promise<Verified> {
  if (!container.entries.has(layoutName) || !container.entries.has(indexName))
    throw new PackError('pack/not-a-pack', `${path} is no pack: it lacks oci-layout or index.json`, { where: path });
  checkLayout(await readSmall(container, layoutName, maxConfigBytes));
  const manifest = await readBlobWhole(container, parseIndex(await readSmall(container, indexName, maxConfigBytes)));
  return verifyManifest(manifest, (blob) => readBlobWhole(container, blob), path);
}

/**
 * From a manifest, wherever it lies, to what it is the manifest of.
 * @param read a whole small blob, checked
 * @throws {PackError}
 */
export async function verifyManifest(
  manifest: Uint8Array,
  read: (blob: Blob) => Promise<Uint8Array>,
  path: string,
): Promise<Verified> {
  const found = findMetadata(manifest);
  const packConfig = await read(found.packConfig);
  const signature = found.signature === undefined ? undefined : await read(found.signature);
  const config = parseConfig(packConfig);
  const metadata = deriveMetadata(config, signature);
  if (!equalBytes(metadata.manifest, manifest))
    throw new PackError('pack/manifest', `${path}: the manifest is not the one that its config gives`, { where: path });
  const signedBy = signature === undefined ? undefined : verifySignature(signature, packConfig).keyId;
  return { config, metadata, signedBy };
}

async function readBlobWhole(container: Container, { digest, bytes }: Blob): Promise<Uint8Array> {
  const name = blobName(digest);
  requireSize(container, name, bytes);
  const content = await readSmall(container, name, maxConfigBytes);
  const found = digestOf(content);
  if (found !== digest) throw new PackError('pack/digest-mismatch', `${name}: its bytes are ${found}`, { where: name });
  return content;
}

async function verifyBlob(container: Container, blob: Blob, signal: AbortSignal | undefined): Promise<void> {
  const name = blobName(blob.digest);
  requireSize(container, name, blob.bytes);
  for await (const _ of checked(chunks(container, name, signal), blob, name));
}

/** Before anything is read: a blob that claims 10 bytes and has 10¹² costs nothing. */
function requireSize(container: Container, name: string, bytes: number): void {
  const found = container.entries.get(name);
  if (found === undefined) throw new PackError('pack/missing-blob', `${name} is not in the pack`, { where: name });
  if (found !== bytes)
    throw new PackError('pack/size-mismatch', `${name}: ${found} bytes, ${bytes} expected`, { where: name });
}

function nothingElse(container: Container, blobs: readonly Blob[]): void {
  const known = new Set([layoutName, indexName, ...blobs.map(({ digest }) => blobName(digest))]);
  for (const name of container.entries.keys())
    if (!known.has(name))
      throw new PackError(
        'pack/extra-data',
        `${name.slice(0, 120)} is in the pack, but nothing in it names this file`,
        {
          where: name.slice(0, 120),
        },
      );
}

function packOf(
  path: string,
  container: Container,
  config: PackConfig,
  metadata: Metadata,
  signedBy: string | undefined,
  blobs: readonly Blob[],
): Pack {
  const stream = (file: string, signal?: AbortSignal): AsyncIterable<Uint8Array> => {
    const found = fileOf(config, file, path);
    return checked(chunks(container, blobName(found.digest), signal), found, file);
  };
  return {
    path,
    digest: digestOf(metadata.manifest),
    config,
    signedBy,
    manifestBytes: metadata.manifest,
    blobs,
    stream,
    file: async (file) => {
      const bytes = new Uint8Array(fileOf(config, file, path).bytes);
      let offset = 0;
      for await (const chunk of stream(file)) {
        bytes.set(chunk, offset);
        offset += chunk.length;
      }
      return bytes;
    },
    extract: async (file, to) => {
      const content = stream(file);
      await writeBeside(
        to,
        async () => false,
        (beside) => writeFileFrom(beside, content),
      );
    },
    readBlob: async (digest, offset, length) => readRange(container, blobName(digest), offset, length),
    tar: (signal) =>
      tarStream(
        metadata,
        fileSources(config, (file) => stream(file, signal)),
      ),
    close: () => container.close(),
  };
}

function fileOf(config: PackConfig, file: string, pack: string): PackFile {
  const found = config.files.find(({ path }) => path === file);
  if (found === undefined)
    throw new PackError('pack/no-such-file', `${pack} holds no file ${JSON.stringify(file)}`, { where: file });
  return found;
}
