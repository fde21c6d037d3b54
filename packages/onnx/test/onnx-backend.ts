import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';

export interface ArchiveFile {
  readonly path: string;
  readonly bytes: Buffer;
}

const blockBytes = 512;

/** The .onnx files of a .tar.gz, one at a time, never all in memory. */
export async function* modelsInArchive(archive: string): AsyncGenerator<ArchiveFile> {
  for await (const file of filesInArchive(archive)) if (file.path.endsWith('.onnx')) yield file;
}

/** ustar, with GNU's long names: what tar writes. */
export async function* filesInArchive(archive: string): AsyncGenerator<ArchiveFile> {
  let longName: string | undefined;
  const blocks = new Blocks(createReadStream(archive).pipe(createGunzip()));
  for (;;) {
    const header = await blocks.read(blockBytes);
    if (header.length < blockBytes || header[0] === 0) return;
    const size = Number.parseInt(text(header, 124, 12), 8);
    const content = await blocks.read(Math.ceil(size / blockBytes) * blockBytes);
    const bytes = content.subarray(0, size);
    const type = String.fromCharCode(header[156] ?? 0);
    const prefix = text(header, 345, 155);
    const path = longName ?? (prefix === '' ? '' : `${prefix}/`) + text(header, 0, 100);
    longName = type === 'L' ? text(bytes, 0, size) : undefined;
    if (type === '0' || type === '\0') yield { path, bytes };
  }
}

function text(bytes: Buffer, start: number, length: number): string {
  const field = bytes.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? length : end).trim();
}

/** A stream, read by lengths. */
class Blocks {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(stream: AsyncIterable<Buffer>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  /** Shorter only at the end. */
  async read(length: number): Promise<Buffer> {
    const parts = [this.#rest];
    let have = this.#rest.length;
    while (have < length) {
      const next = await this.#chunks.next();
      if (next.done === true) break;
      parts.push(next.value);
      have += next.value.length;
    }
    const all = Buffer.concat(parts);
    this.#rest = all.subarray(length);
    return all.subarray(0, length);
  }
}
