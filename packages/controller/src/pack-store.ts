import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openPack, type Pack, PackError, type PublicKey } from '@flotilla/pack';
import { ControllerError } from './errors.ts';
import { syncFolder } from './files.ts';

export interface StoredPack {
  readonly digest: string;
  readonly name: string;
  readonly task: string;
  readonly manifestBytes: number;
  readonly signedBy: string | undefined;
  /** All that a device fetches, the manifest included. */
  readonly blobs: readonly { readonly digest: string; readonly bytes: number }[];
}

/** How many packs stay open for serving; the one not used for longest is closed. */
const OPEN_PACKS = 8;

/** Packs on disk, one tar each, named by the digest of its manifest. What is in the folder was verified on its way in. */
export class PackStore {
  private readonly dir: string;
  private readonly trusted: readonly PublicKey[];
  private readonly opened = new Map<string, Promise<Pack>>();

  private constructor(dir: string, trusted: readonly PublicKey[]) {
    this.dir = dir;
    this.trusted = trusted;
  }

  static async open(dir: string, trusted: readonly PublicKey[]): Promise<PackStore> {
    await mkdir(join(dir, 'incoming'), { recursive: true });
    // Uploads that a kill cut off.
    for (const name of await readdir(join(dir, 'incoming'))) await rm(join(dir, 'incoming', name), { force: true });
    return new PackStore(dir, trusted);
  }

  /**
   * Takes a pack in as it arrives, verifies it, and gives it its place.
   * @throws {ControllerError} `controller/pack-refused`, `controller/too-large`, `controller/data-dir`
   */
  async add(content: AsyncIterable<Uint8Array>, maxBytes: number): Promise<StoredPack> {
    const incoming = join(this.dir, 'incoming', `${randomUUID()}.pack`);
    try {
      await writeStream(incoming, content, maxBytes);
      const pack = await openPack(incoming, { trusted: this.trusted });
      const stored = describe(pack);
      await pack.close();
      await rename(incoming, this.path(stored.digest));
      await syncFolder(this.dir);
      return stored;
    } catch (cause) {
      await rm(incoming, { force: true });
      throw explain(cause, this.dir);
    }
  }

  /** @throws {PackError} if the pack is not there, or was damaged on disk */
  async read(pack: string, blob: string, offset: number, length: number): Promise<Uint8Array> {
    return (await this.get(pack)).readBlob(blob, offset, length);
  }

  async close(): Promise<void> {
    const packs = [...this.opened.values()];
    this.opened.clear();
    for (const pack of packs) await pack.then((open) => open.close()).catch(() => undefined);
  }

  private get(digest: string): Promise<Pack> {
    const known = this.opened.get(digest);
    // Not judged by today's trusted keys again: a key withdrawn later must not strand devices half way.
    const pack = known ?? openPack(this.path(digest));
    this.opened.delete(digest);
    this.opened.set(digest, pack);
    if (known !== undefined) return pack;
    pack.catch(() => this.opened.delete(digest));
    const [oldest] = this.opened;
    if (this.opened.size > OPEN_PACKS && oldest !== undefined) {
      this.opened.delete(oldest[0]);
      void oldest[1].then((open) => open.close()).catch(() => undefined);
    }
    return pack;
  }

  private path(digest: string): string {
    return join(this.dir, `${digest.replace(':', '-')}.pack`);
  }
}

async function writeStream(path: string, content: AsyncIterable<Uint8Array>, maxBytes: number): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    let bytes = 0;
    for await (const chunk of content) {
      bytes += chunk.length;
      if (bytes > maxBytes) throw new ControllerError('controller/too-large', `the pack is over ${maxBytes} bytes`);
      await file.writeFile(chunk);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

const describe = (pack: Pack): StoredPack => ({
  digest: pack.digest,
  name: pack.config.name,
  task: pack.config.task,
  manifestBytes: pack.manifestBytes.length,
  signedBy: pack.signedBy,
  blobs: pack.blobs.map(({ digest, bytes }) => ({ digest, bytes })),
});

function explain(cause: unknown, dir: string): unknown {
  if (cause instanceof PackError) {
    // Its `where` may name the temporary file, which tells nobody anything.
    const message = cause.message.replace(/\S*incoming\S*\.pack/, 'the upload');
    return new ControllerError('controller/pack-refused', `${cause.code}: ${message}`, { cause, hint: cause.hint });
  }
  const code = (cause as NodeJS.ErrnoException).code;
  if (code === 'ENOSPC' || code === 'EROFS' || code === 'EACCES' || code === 'EIO' || code === 'EDQUOT')
    return new ControllerError('controller/data-dir', `cannot write ${dir}: ${code}`, { where: dir, cause });
  return cause;
}
