import { randomUUID } from 'node:crypto';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { RuntimeError } from './errors.ts';
import { readNpy, writeNpy } from './npy.ts';
import type { Tensors, TensorValue } from './types.ts';
import { readZip, writeZip } from './zip.ts';

/** Bytes of all arrays of one file together. */
const MAX_BYTES = 2 ** 31;

/**
 * The arrays of a `.npz`, by name. Of a `.npy` the one array, named ''.
 * @throws {RuntimeError} `runtime/npz`
 */
export function decodeNpz(file: Uint8Array): Tensors {
  if (file[0] === 0x93) return { '': readNpy(file) };
  const arrays = readZip(file, MAX_BYTES).map(({ name, bytes }): [string, TensorValue] => {
    try {
      return [name.replace(/\.npy$/, ''), readNpy(bytes)];
    } catch (cause) {
      throw cause instanceof RuntimeError
        ? new RuntimeError(cause.code, `${name}: ${cause.message}`, { cause })
        : cause;
    }
  });
  return Object.fromEntries(arrays); // defines, so `__proto__` is a name like any other
}

/** The same tensors give the same bytes. @throws {RuntimeError} `runtime/npz` for strings */
export function encodeNpz(tensors: Tensors): Uint8Array {
  return writeZip(Object.entries(tensors).map(([name, tensor]) => ({ name: `${name}.npy`, bytes: writeNpy(tensor) })));
}

/** @throws {RuntimeError} `runtime/npz`, naming the file */
export async function readNpz(path: string): Promise<Tensors> {
  try {
    return decodeNpz(await readFile(path));
  } catch (cause) {
    const system = cause instanceof Error && 'code' in cause && 'syscall' in cause ? String(cause.code) : undefined;
    if (!(cause instanceof RuntimeError) && system === undefined) throw cause;
    const reason = system ?? (cause instanceof Error ? cause.message : String(cause));
    throw new RuntimeError('runtime/npz', `${path}: ${reason}`, { where: path, cause });
  }
}

/** Written beside its name, then renamed. */
export async function writeNpz(path: string, tensors: Tensors): Promise<void> {
  await writeBeside(path, encodeNpz(tensors));
}

/** Writes, syncs and renames: a reader sees the old file or the whole new one. */
export async function writeBeside(path: string, bytes: Uint8Array): Promise<void> {
  const beside = `${path}.${randomUUID()}.part`;
  try {
    const file = await open(beside, 'wx');
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}
