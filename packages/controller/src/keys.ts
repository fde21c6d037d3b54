import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  PackError,
  type PrivateKey,
  type PublicKey,
  readPrivateKey,
  readPublicKey,
  writeKeyPair,
} from '@flotilla/pack';
import { ControllerError } from './errors.ts';

/**
 * The key that signs desired releases, in `<dataDir>/keys`, made at the first start. It is never made anew while the
 * public half is there: devices trust that one.
 * @throws {ControllerError} `controller/key`
 */
export async function openSigningKey(dataDir: string): Promise<PrivateKey> {
  const dir = join(dataDir, 'keys');
  const file = join(dir, 'flotilla.key');
  try {
    const missing = await access(file).then(
      () => false,
      () => true,
    );
    if (missing) await writeKeyPair(dir);
    return await readPrivateKey(file);
  } catch (cause) {
    throw keyError(cause, file);
  }
}

/**
 * @param paths public keys, or folders of `*.pub`
 * @throws {ControllerError} `controller/key`
 */
export async function readTrustedKeys(paths: readonly string[]): Promise<readonly PublicKey[]> {
  const keys = new Map<string, PublicKey>();
  for (const path of paths) {
    const names = await readdir(path).catch(() => undefined);
    const files =
      names === undefined ? [path] : names.filter((name) => name.endsWith('.pub')).map((name) => join(path, name));
    for (const file of files) {
      const key = await readPublicKey(file).catch((cause: unknown) => {
        throw keyError(cause, file);
      });
      keys.set(key.keyId, key);
    }
  }
  return [...keys.values()];
}

function keyError(cause: unknown, where: string): ControllerError {
  const message = cause instanceof PackError || cause instanceof Error ? cause.message : String(cause);
  const hint = cause instanceof PackError ? cause.hint : undefined;
  return new ControllerError('controller/key', message, { where, cause, hint });
}
