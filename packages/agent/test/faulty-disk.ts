import { appendFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Disk } from '../src/index.ts';
import { nodeDisk } from '../src/node-disk.ts';

/** A real disk that loses power within its Nth writing call, leaving what a power cut may leave of it. */
export function diesAfter(writes: number): Disk & { readonly used: () => number } {
  let used = 0;
  const guard = async (act: () => Promise<void>, torn: () => Promise<void>): Promise<void> => {
    if (used > writes) throw new Error('power cut');
    if (used++ === writes) {
      await torn().catch(() => undefined);
      throw new Error('power cut');
    }
    await act();
  };
  const nothing = async (): Promise<void> => undefined;
  const half = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, Math.floor(bytes.length / 2));
  return {
    ...nodeDisk,
    used: () => used,
    makeFolder: (path) => guard(() => nodeDisk.makeFolder(path), nothing),
    write: (path, bytes) =>
      guard(
        () => nodeDisk.write(path, bytes),
        () => writeFile(`${path}.part`, half(bytes)),
      ),
    writeAt: (path, offset, bytes) =>
      guard(
        () => nodeDisk.writeAt(path, offset, bytes),
        () => nodeDisk.writeAt(path, offset, half(bytes)),
      ),
    move: (from, to) => guard(() => nodeDisk.move(from, to), nothing),
    copy: (from, to) =>
      guard(
        () => nodeDisk.copy(from, to),
        async () => {
          await mkdir(dirname(to), { recursive: true });
          await appendFile(`${to}.part`, 'half');
        },
      ),
    remove: (path) =>
      guard(
        () => nodeDisk.remove(path),
        async () => {
          const [first] = await nodeDisk.list(path);
          if (first !== undefined) await nodeDisk.remove(`${path}/${first}`);
        },
      ),
  };
}

/** A real disk on which one writing call fails, and the next ones work. */
export function failsOnce(call: number, code: string): Disk & { readonly used: () => number } {
  let used = 0;
  const wrap =
    <A extends readonly unknown[]>(act: (...args: A) => Promise<void>) =>
    async (...args: A): Promise<void> => {
      if (used++ === call) throw Object.assign(new Error(`${code}: made up`), { code });
      return act(...args);
    };
  return {
    ...nodeDisk,
    used: () => used,
    makeFolder: wrap((path: string) => nodeDisk.makeFolder(path)),
    write: wrap((path: string, bytes: Uint8Array) => nodeDisk.write(path, bytes)),
    writeAt: wrap((path: string, offset: number, bytes: Uint8Array) => nodeDisk.writeAt(path, offset, bytes)),
    move: wrap((from: string, to: string) => nodeDisk.move(from, to)),
    copy: wrap((from: string, to: string) => nodeDisk.copy(from, to)),
    remove: wrap((path: string) => nodeDisk.remove(path)),
  };
}
