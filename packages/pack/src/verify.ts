import { canonicalJson } from './canonical-json.ts';
import { digestOf } from './digest.ts';
import { type OpenOptions, openPack, type Pack } from './open.ts';
import type { Blob, PackConfig } from './types.ts';

export interface VerifyReport {
  readonly path: string;
  readonly digest: string;
  /** What a signature is over; the same for one content, whoever signs it. */
  readonly configDigest: string;
  readonly name: string;
  readonly files: number;
  /** Sum of all blobs. */
  readonly bytes: number;
  readonly signedBy: string | null;
  /** Whether a trusted key signed it; null if no keys were given to judge by. */
  readonly trusted: boolean | null;
}

/** Opens, verifies and closes a pack. @throws {PackError} as {@link openPack} */
export async function verifyPack(path: string, options?: OpenOptions): Promise<VerifyReport> {
  return withPack(path, options, (pack) => ({
    path,
    digest: pack.digest,
    configDigest: digestOf(canonicalJson(pack.config)),
    name: pack.config.name,
    files: pack.config.files.length,
    bytes: pack.blobs.reduce((sum, blob) => sum + blob.bytes, 0),
    signedBy: pack.signedBy ?? null,
    trusted: options?.trusted === undefined ? null : true,
  }));
}

export interface PackListing {
  readonly path: string;
  readonly digest: string;
  readonly signedBy: string | null;
  readonly config: PackConfig;
}

/** What is in a pack, all of it verified. @throws {PackError} as {@link openPack} */
export async function listPack(path: string, options?: OpenOptions): Promise<PackListing> {
  return withPack(path, options, ({ digest, signedBy, config }) => ({
    path,
    digest,
    signedBy: signedBy ?? null,
    config,
  }));
}

/** What a device has to fetch for a pack, one entry per digest. */
export function packBlobs(pack: Pack): readonly Blob[] {
  return pack.blobs;
}

/** A piece of a blob, for serving it. @throws {PackError} `pack/missing-blob`, `pack/size-mismatch` */
export async function readBlob(pack: Pack, digest: string, offset: number, length: number): Promise<Uint8Array> {
  return pack.readBlob(digest, offset, length);
}

export async function withPack<T>(
  path: string,
  options: OpenOptions | undefined,
  use: (pack: Pack) => T | Promise<T>,
): Promise<T> {
  const pack = await openPack(path, options);
  try {
    return await use(pack);
  } finally {
    await pack.close();
  }
}
