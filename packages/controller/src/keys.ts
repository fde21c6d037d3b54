import { access, readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  PackError,
  type PrivateKey,
  type PublicKey,
  readPrivateKey,
  readPublicKey,
  readSuccessions,
  type Succession,
  successorsOf,
  writeKeyPair,
} from '@flotilla/pack';
import { MAX_SUCCESSIONS } from '@flotilla/protocol';
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
 * What old keys have said of those in use, so that devices that know older ones can follow: the statements that lead
 * to the signing key or to a trusted one, from `<dataDir>/keys` and from beside the trusted keys.
 * @throws {ControllerError} `controller/key`
 */
export async function readKeySuccessions(
  dataDir: string,
  inUse: readonly PublicKey[],
  trusted: readonly string[],
): Promise<readonly Uint8Array[]> {
  const folders = [...new Set([join(dataDir, 'keys'), ...(await Promise.all(trusted.map(folderOf)))])];
  const all = (await Promise.all(folders.map(readFolder))).flat();
  const ids = new Set(inUse.map(({ keyId }) => keyId));
  const leading = all.filter(({ to }) => [to, ...successorsOf(to, all)].some(({ keyId }) => ids.has(keyId)));
  if (leading.length <= MAX_SUCCESSIONS) return leading.map(({ bytes }) => bytes);
  throw new ControllerError('controller/key', `${leading.length} key successions; devices take ${MAX_SUCCESSIONS}`, {
    where: folders.join(', '),
    hint: 'remove the oldest .succession files; devices that know no later key must be provisioned anew',
  });
}

async function folderOf(path: string): Promise<string> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true ? path : dirname(path);
}

async function readFolder(path: string): Promise<readonly Succession[]> {
  return readSuccessions(path).catch((cause: unknown) => {
    throw keyError(cause, path);
  });
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
