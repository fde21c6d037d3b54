import { writeSync } from 'node:fs';

/** Writes all of it, whatever a call takes. */
export function writeAt(fd: number, view: ArrayBufferView, offset: number): void {
  const bytes = plainBytes(view);
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, undefined, offset + done);
}

export function plainBytes({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
