import { createHash } from 'node:crypto';
import { cp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createPack, generateKey } from '../src/index.ts';
import { contents, scratch } from './sample.ts';

export const key = generateKey();

let original: Promise<string> | undefined;

/** A signed pack directory to do harm to: a copy, because writing one syncs each of its files. */
export async function signedPack(): Promise<string> {
  original ??= scratch().then(async (dir) => {
    await createPack(join(dir, 'pack'), contents, { key });
    return join(dir, 'pack');
  });
  const copy = join(await scratch(), 'pack');
  await cp(await original, copy, { recursive: true });
  return copy;
}

export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export function blobFile(dir: string, digest: string): string {
  return join(dir, 'blobs/sha256', digest.replace('sha256:', ''));
}

interface IndexJson {
  readonly manifests: readonly [{ digest: unknown; size: number }];
}

export async function readIndex(dir: string) {
  return JSON.parse(await readFile(join(dir, 'index.json'), 'utf8'));
}

export async function editIndex(dir: string, edit: (index: IndexJson) => unknown): Promise<void> {
  const index = await readIndex(dir);
  await writeFile(join(dir, 'index.json'), JSON.stringify(edit(index) ?? index));
}

/** Changes the manifest and, as an attacker would, every digest that leads to it. `edit` gets and gives text. */
export async function editManifest(dir: string, edit: (manifest: string) => string): Promise<void> {
  const index = await readIndex(dir);
  const old = index.manifests[0].digest;
  const text = edit(await readFile(blobFile(dir, old), 'utf8'));
  await rm(blobFile(dir, old));
  await writeFile(blobFile(dir, sha256(text)), text);
  await editIndex(dir, ({ manifests }) => {
    manifests[0].digest = `sha256:${sha256(text)}`;
    manifests[0].size = Buffer.byteLength(text);
  });
}

/** Changes a metadata layer and every digest above it, the model config's `diffIds` included. */
export async function editLayer(dir: string, mediaType: string, edit: (layer: string) => string): Promise<void> {
  const manifest = await readManifest(dir);
  const old = manifest.layers.find((layer: { mediaType: string }) => layer.mediaType === mediaType).digest;
  const text = edit(await readFile(blobFile(dir, old), 'utf8'));
  await rm(blobFile(dir, old));
  await writeFile(blobFile(dir, sha256(text)), text);
  const oldConfig = blobFile(dir, manifest.config.digest);
  const config = (await readFile(oldConfig, 'utf8')).replaceAll(old, `sha256:${sha256(text)}`);
  await rename(oldConfig, blobFile(dir, sha256(config)));
  await writeFile(blobFile(dir, sha256(config)), config);
  await editManifest(dir, (before) =>
    before
      .replaceAll(old, `sha256:${sha256(text)}`)
      .replace(manifest.config.digest, `sha256:${sha256(config)}`)
      .replace(/("digest":"sha256:[0-9a-f]{64}","mediaType":"[^"]*","size":)\d+/g, (all, start: string) => {
        const digest = /sha256:[0-9a-f]{64}/.exec(all)?.[0];
        return digest === `sha256:${sha256(text)}` ? `${start}${Buffer.byteLength(text)}` : all;
      }),
  );
}

export async function readManifest(dir: string) {
  const index = await readIndex(dir);
  return JSON.parse(await readFile(blobFile(dir, index.manifests[0].digest), 'utf8'));
}

/** Everything in a directory, by relative path. */
export async function filesIn(dir: string): Promise<ReadonlyMap<string, Buffer>> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const read = async (file: string) => [file.slice(dir.length + 1), await readFile(file)] as const;
  return new Map(await Promise.all(files.toSorted().map(read)));
}

/** The same signature with S + L for S: fits the equation, and RFC 8032 §5.1.7 forbids it. */
export function malleated(signature: Uint8Array): Uint8Array {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const s = BigInt(`0x${Buffer.from(signature.slice(32).toReversed()).toString('hex')}`) + order;
  const tail = Buffer.from(s.toString(16).padStart(64, '0'), 'hex').toReversed();
  return Buffer.concat([signature.subarray(0, 32), tail]);
}
