import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';

export interface FileDigest {
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
}

export async function describeFile(folder: string, name: string): Promise<FileDigest> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(join(folder, name), { highWaterMark: 1 << 18 })) {
    const part = chunk as Buffer;
    hash.update(part);
    bytes += part.length;
  }
  return { name, bytes, sha256: hash.digest('hex') };
}
