import { Chunk, type FetchRequest, topicFor } from '@flotilla/protocol';
import type { Link } from './broker/link.ts';
import type { Database } from './db/schema.ts';
import { FairQueue } from './fair-queue.ts';
import type { PackStore } from './pack-store.ts';
import type { Registry } from './registry.ts';

export interface ChunkServerPorts {
  readonly db: Database;
  readonly registry: Registry;
  readonly packs: PackStore;
  readonly link: Link;
  readonly onError: (error: unknown) => void;
}

/** 256 KiB each: what slow devices can hold of the controller's memory. */
const CHUNKS_UNDER_WAY = 48;
const REQUESTS_PER_DEVICE = 64;
const KNOWN_BLOBS = 100_000;

interface Blob {
  readonly pack: string;
  readonly bytes: number;
}

/**
 * Serves pieces of packs. A device gets blobs only of what it was told to hold; devices take turns, and the next chunk
 * of one is read only when its socket has taken the last.
 */
export class ChunkServer {
  private readonly ports: ChunkServerPorts;
  private readonly queue: FairQueue<FetchRequest>;
  private readonly known = new Map<string, Blob>();

  constructor(ports: ChunkServerPorts) {
    this.ports = ports;
    this.queue = new FairQueue({
      concurrency: CHUNKS_UNDER_WAY,
      limit: REQUESTS_PER_DEVICE,
      whenFull: 'drop-newest', // the device asks again
      work: (request, device) => this.serve(request, device),
      onError: ports.onError,
    });
  }

  get dropped(): number {
    return this.queue.dropped;
  }

  push(device: string, request: FetchRequest): void {
    this.queue.push(device, request);
  }

  close(): Promise<void> {
    return this.queue.close();
  }

  private async serve({ digest, offset, length }: FetchRequest, id: string): Promise<void> {
    const fleet = this.ports.registry.get(id)?.fleet;
    if (fleet === undefined) return;
    const chunk = await this.chunk(id, digest, offset, length);
    await this.ports.link.publish(topicFor({ fleet, device: id }, 'chunk'), Chunk.encode(chunk));
  }

  private async chunk(device: string, digest: string, offset: number, length: number): Promise<Chunk> {
    const blob = await this.find(device, digest);
    const none = { digest, offset, blobBytes: blob?.bytes ?? 0, data: new Uint8Array() };
    if (blob === undefined) return { ...none, error: 'not-found' };
    if (offset >= blob.bytes) return { ...none, error: 'bad-range' };
    const data = await this.ports.packs.read(blob.pack, digest, offset, Math.min(length, blob.bytes - offset));
    return { ...none, data, error: '' };
  }

  private async find(device: string, digest: string): Promise<Blob | undefined> {
    const key = `${device} ${digest}`;
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const found = await this.ports.db
      .selectFrom('pack_blobs')
      .innerJoin('desired', 'desired.digest', 'pack_blobs.pack')
      .select(['pack_blobs.pack', 'pack_blobs.bytes'])
      .where('desired.device', '=', device)
      .where('pack_blobs.digest', '=', digest)
      .executeTakeFirst();
    if (found === undefined) return undefined;
    if (this.known.size >= KNOWN_BLOBS) this.known.clear();
    this.known.set(key, found);
    return found;
  }
}
