import { randomUUID } from 'node:crypto';
import { type FileHandle, lstat, open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { OnnxError } from './errors.ts';
import type { Rope } from './rope.ts';

/**
 * Puts a file in place at once: written beside under another name, flushed (or not), renamed. The name itself may not be
 * a link, whose target is somebody else's file (CVE-2025-51480).
 * @throws {OnnxError} `onnx/write-target`, `onnx/write`, and what reading the rope throws; nothing half-written stays
 */
export async function replaceFile(path: string, content: Rope, flush: boolean): Promise<void> {
  await checkTarget(path);
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}.tmp`);
  let file: FileHandle | undefined;
  try {
    // 'wx': never through something that is there already.
    file = await open(temporary, 'wx', 0o644);
    for (const chunk of content.chunks()) await file.writeFile(chunk);
    if (flush) await file.sync();
    await file.close();
    file = undefined;
    await rename(temporary, path);
  } catch (error) {
    await file?.close().catch(() => {});
    await unlink(temporary).catch(() => {});
    throw error instanceof OnnxError ? error : writeError(path, error);
  }
  if (flush) await syncFolder(dirname(path));
}

async function checkTarget(path: string): Promise<void> {
  const stats = await lstat(path).catch(() => undefined);
  if (stats === undefined) return;
  const fault = stats.isSymbolicLink()
    ? 'is a symbolic link'
    : !stats.isFile()
      ? 'is not a regular file'
      : stats.nlink > 1
        ? `has ${stats.nlink} names (hard links)`
        : undefined;
  if (fault !== undefined)
    throw new OnnxError('onnx/write-target', `${path} ${fault}: not written`, {
      where: path,
      hint: 'name a plain file',
    });
}

/** A rename is on disk when its folder is. Not every system lets a folder be flushed. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r').catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}

function writeError(path: string, cause: unknown): OnnxError {
  const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  return new OnnxError('onnx/write', `${path} cannot be written (${reason})`, { where: path, cause });
}
