import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { OpenOptions } from './open.ts';
import { type PackListing, withPack } from './verify.ts';
import { writeBeside, writeFileFrom } from './write-beside.ts';

/**
 * Copies a pack's files into a folder, which must be new or empty; it is there whole or not at all.
 * @throws {PackError} as `openPack`; `pack/exists`, `pack/no-space`, `pack/io`
 */
export async function unpackPack(path: string, outDir: string, options?: OpenOptions): Promise<PackListing> {
  return withPack(path, options, async (pack) => {
    const { digest, signedBy, config } = pack;
    await writeBeside(
      outDir,
      async () => false,
      async (folder) => {
        for (const file of config.files) {
          // The paths were checked with the config: relative, no `..`, no two alike.
          const to = join(folder, file.path);
          await mkdir(dirname(to), { recursive: true });
          await writeFileFrom(to, pack.stream(file.path, options?.signal));
        }
      },
    );
    return { path, digest, signedBy: signedBy ?? null, config };
  });
}
