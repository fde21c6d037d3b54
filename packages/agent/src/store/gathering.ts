import { blobPath, readAdapter } from '@flotilla/pack';
import { CHUNK_BYTES, type DesiredRelease } from '@flotilla/protocol';
import type { RebuildPlan } from '@flotilla/runtime';
import { dirname, join } from 'node:path';
import { MANIFEST_BYTES } from '../mind/limits.ts';
import type { Piece } from '../mind/state.ts';
import type { Disk } from '../ports.ts';
import { Refusal } from '../refusal.ts';
import { type Blob, blobsOfManifest, type Rebuild, rebuildOf } from './manifest.ts';

export interface Plan {
  /** `factors`: all but a model that is to be rebuilt. */
  readonly stage: 'manifest' | 'factors' | 'blobs';
  readonly missing: readonly Piece[];
  readonly done: number;
  readonly total: number;
}

/**
 * Where a pack comes together, blob by blob, before it goes into a slot: `pack/blobs/sha256/<hex>` for whole blobs,
 * `partial/<hex>` with a bitmap `partial/<hex>.map` (a bit per piece of 256 KiB) for those under way. A model that was
 * rebuilt has its base in `base/`, laid out like `pack/`: the next update may be for the same base. `partial/<hex>.tried`
 * says that a model is not to be rebuilt again.
 */
export class Gathering {
  readonly folder: string;
  private readonly disk: Disk;
  /** Packs that already lie on the device, to take blobs from. */
  private readonly sources: () => Promise<readonly string[]>;
  private readonly partials = new Map<string, { readonly blob: Blob; readonly map: Uint8Array }>();

  constructor(disk: Disk, folder: string, sources: () => Promise<readonly string[]>) {
    this.disk = disk;
    this.folder = folder;
    this.sources = sources;
  }

  get pack(): string {
    return join(this.folder, 'pack');
  }

  /** What is still to be fetched. Blobs that some slot holds are copied from there. @throws {Refusal} */
  async plan(release: DesiredRelease): Promise<Plan> {
    for (const folder of [join(this.pack, 'blobs', 'sha256'), join(this.folder, 'partial')])
      await this.disk.makeFolder(folder);
    const manifest = { digest: release.digest, bytes: release.manifestBytes };
    if (manifest.bytes < 1 || manifest.bytes > MANIFEST_BYTES)
      throw new Refusal('pack-invalid', `a manifest of ${manifest.bytes} bytes`);
    const head = await this.missingOf(manifest);
    const total = release.totalBytes;
    if (head.length > 0) return { stage: 'manifest', missing: head, done: manifest.bytes - sum(head), total };
    const blobs = await this.blobs(release);
    await this.removeOthers(blobs);
    const missing: Piece[] = [];
    for (const blob of blobs) missing.push(...(await this.missingOf(blob)));
    await this.requireSpace(sum(missing));
    const all = blobs.reduce((bytes, blob) => bytes + blob.bytes, 0);
    const done = all - sum(missing);
    const rebuild = await this.offered(release);
    const base = join(this.folder, 'base');
    if (!rebuild && (await this.disk.list(base)).length > 0) await this.disk.remove(base); // of an update before
    const others = missing.filter(({ digest }) => digest !== rebuild?.model.digest);
    if (others.length === missing.length || (await this.wasTried(rebuild)))
      return { stage: 'blobs', missing, done, total: all };
    return { stage: 'factors', missing: others, done, total: all };
  }

  /**
   * Makes the model of its base and the factors that were fetched. Tried once, whatever comes of it, and even where the
   * device ends meanwhile: then the model is fetched like any other blob.
   * @throws why there is no such model now: no base on the device, another digest, what `build` throws
   */
  async rebuild(release: DesiredRelease, build: (plan: RebuildPlan) => Promise<void>): Promise<void> {
    const rebuild = await this.offered(release);
    if (rebuild === undefined) return;
    await this.disk.write(this.tried(rebuild.model), new Uint8Array());
    const factorsPath = blobPath(this.pack, rebuild.factors.digest);
    const base = readAdapter((await this.disk.read(factorsPath)) ?? new Uint8Array()).model;
    const basePath = await this.find(base);
    if (basePath === undefined) throw new Error(`its base ${base} is not on the device`);
    const outPath = join(this.folder, 'partial', 'rebuilt');
    try {
      await build({ basePath, factorsPath, outPath });
      const made = await this.disk.digest(outPath);
      if (made !== rebuild.model.digest) throw new Error(`rebuilding gave ${made}, not ${rebuild.model.digest}`);
      await this.disk.move(outPath, blobPath(this.pack, rebuild.model.digest));
    } finally {
      await this.disk.remove(outPath);
    }
    await this.keepBase(basePath, base).catch(() => undefined); // the next adapter is then a larger update, no more
  }

  /** For the next update. A second name takes no room; not every file system has such. */
  private async keepBase(path: string, digest: string): Promise<void> {
    await this.disk.remove(join(this.folder, 'base'));
    const kept = blobPath(join(this.folder, 'base'), digest);
    await this.disk.makeFolder(dirname(kept));
    await this.disk.link(path, kept);
  }

  private async find(digest: string): Promise<string | undefined> {
    for (const pack of await this.sources()) {
      const path = blobPath(pack, digest);
      if ((await this.disk.digest(path)) === digest) return path;
    }
    return undefined;
  }

  /** Durable when it resolves. @returns 'damaged': the last piece came, and the whole does not hash to its digest */
  async store(piece: Piece, data: Uint8Array): Promise<'stored' | 'damaged'> {
    const partial = this.partials.get(piece.digest);
    if (partial === undefined) return 'stored'; // whole by now
    const { blob, map } = partial;
    // The data first: a bit must never stand for bytes that a power cut took.
    await this.disk.writeAt(this.partial(blob.digest), piece.offset, data);
    const index = piece.offset / CHUNK_BYTES;
    const byte = index >> 3;
    map[byte] = (map[byte] ?? 0) | (1 << (index & 7));
    await this.disk.writeAt(this.map(blob.digest), byte, map.subarray(byte, byte + 1));
    return piecesOf(blob).every((one) => has(map, one)) ? this.finish(blob) : 'stored';
  }

  /** Leaves nothing in `pack/` but the blobs of this release: a pack must not hold what it does not name. */
  async tidy(release: DesiredRelease): Promise<void> {
    await this.removeOthers(await this.blobs(release));
    await this.drop();
  }

  /** Removes what is under way. */
  async drop(): Promise<void> {
    this.partials.clear();
    await this.disk.remove(join(this.folder, 'partial'));
  }

  /** What an update before this one left. */
  private async removeOthers(blobs: readonly Blob[]): Promise<void> {
    const wanted = new Set(blobs.map(({ digest }) => digest.slice('sha256:'.length)));
    for (const folder of [join(this.pack, 'blobs', 'sha256'), join(this.folder, 'partial')])
      for (const name of await this.disk.list(folder))
        if (!wanted.has(name.replace(/\.(map|tried)$/, ''))) await this.disk.remove(join(folder, name));
  }

  private async blobs(release: DesiredRelease): Promise<readonly Blob[]> {
    const bytes = await this.disk.read(blobPath(this.pack, release.digest));
    if (bytes === undefined) throw new Refusal('storage-fault', 'the manifest is gone');
    const blobs = blobsOfManifest(bytes, release);
    return [{ digest: release.digest, bytes: release.manifestBytes }, ...blobs];
  }

  private async missingOf(blob: Blob): Promise<readonly Piece[]> {
    const target = blobPath(this.pack, blob.digest);
    if ((await this.disk.size(target)) === blob.bytes) return [];
    await this.disk.remove(target);
    if (await this.takeFromSlot(blob, target)) return [];
    const known = await this.disk.read(this.map(blob.digest));
    const map = new Uint8Array(Math.ceil(piecesOf(blob).length / 8));
    if (known !== undefined) map.set(known.subarray(0, map.length));
    this.partials.set(blob.digest, { blob, map });
    const missing = piecesOf(blob).filter((piece) => !has(map, piece));
    // All there, but the agent ended before it could look at the whole. One that is damaged is fetched anew.
    if (missing.length === 0) return (await this.finish(blob)) === 'stored' ? [] : this.missingOf(blob);
    return missing;
  }

  private async takeFromSlot(blob: Blob, target: string): Promise<boolean> {
    for (const pack of await this.sources()) {
      const source = blobPath(pack, blob.digest);
      if ((await this.disk.size(source)) !== blob.bytes || (await this.disk.digest(source)) !== blob.digest) continue;
      await this.disk.copy(source, target);
      return true;
    }
    return false;
  }

  private async finish({ digest, bytes }: Blob): Promise<'stored' | 'damaged'> {
    this.partials.delete(digest);
    const partial = this.partial(digest);
    if (bytes === 0) await this.disk.write(partial, new Uint8Array(0));
    const good = (await this.disk.digest(partial)) === digest;
    if (good) await this.disk.move(partial, blobPath(this.pack, digest));
    else await this.disk.remove(partial);
    await this.disk.remove(this.map(digest));
    return good ? 'stored' : 'damaged';
  }

  private async requireSpace(bytes: number): Promise<void> {
    const free = await this.disk.freeBytes(this.folder);
    if (bytes > free) throw new Refusal('storage-full', `${bytes} bytes to fetch, ${free} bytes free`);
  }

  private partial(digest: string): string {
    return join(this.folder, 'partial', digest.slice('sha256:'.length));
  }

  private async offered({ digest }: DesiredRelease): Promise<Rebuild | undefined> {
    const manifest = await this.disk.read(blobPath(this.pack, digest));
    return manifest && rebuildOf(manifest);
  }

  private async wasTried(rebuild: Rebuild | undefined): Promise<boolean> {
    return rebuild !== undefined && (await this.disk.size(this.tried(rebuild.model))) !== undefined;
  }

  private tried({ digest }: Blob): string {
    return `${this.partial(digest)}.tried`;
  }

  private map(digest: string): string {
    return `${this.partial(digest)}.map`;
  }
}

function piecesOf({ digest, bytes }: Blob): readonly Piece[] {
  return Array.from({ length: Math.ceil(bytes / CHUNK_BYTES) }, (_, index) => {
    const offset = index * CHUNK_BYTES;
    return { digest, offset, length: Math.min(CHUNK_BYTES, bytes - offset) };
  });
}

function has(map: Uint8Array, { offset }: Piece): boolean {
  const index = offset / CHUNK_BYTES;
  return ((map[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
}

const sum = (pieces: readonly Piece[]): number => pieces.reduce((bytes, piece) => bytes + piece.length, 0);
