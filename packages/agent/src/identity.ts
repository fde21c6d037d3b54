import { type PublicKey, parsePublicKey } from '@flotilla/pack';
import { isName } from '@flotilla/protocol';
import { link, open, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentError } from './errors.ts';

/** Who the device is and whom it trusts: `identity.json`, mode 0600, as the controller issued it. */
export interface Identity {
  readonly device: string;
  readonly fleet: string;
  readonly board: string;
  readonly brokerUrl: string;
  /** Password of the MQTT session. */
  readonly secret: string;
  /** Ed25519, PEM: signs desired releases. */
  readonly controllerKey: string;
  /** Ed25519, PEM: one of these must have signed a pack. */
  readonly trustedPackKeys: readonly string[];
}

export interface Trust {
  readonly controllerKey: PublicKey;
  readonly packKeys: readonly PublicKey[];
}

export const identityFile = (identityDir: string): string => join(identityDir, 'identity.json');

/** @throws {AgentError} `agent/identity`, `agent/identity-mode` */
export async function readIdentity(identityDir: string): Promise<Identity> {
  const file = identityFile(identityDir);
  let text: string;
  let mode: number;
  try {
    text = await readFile(file, 'utf8');
    mode = (await stat(file)).mode;
  } catch (cause) {
    throw new AgentError('agent/identity', `no identity at ${file}`, { where: file, hint: provision, cause });
  }
  if (process.platform !== 'win32' && (mode & 0o077) !== 0)
    throw new AgentError('agent/identity-mode', `${file}: others may read this device's secret`, {
      where: file,
      hint: `chmod 600 ${file}`,
    });
  try {
    return checkIdentity(JSON.parse(text), file);
  } catch (cause) {
    if (cause instanceof AgentError) throw cause;
    throw new AgentError('agent/identity', `${file} is not JSON`, { where: file, hint: provision, cause });
  }
}

/** @throws {AgentError} `agent/identity`, naming the member */
export function checkIdentity(value: unknown, where: string): Identity {
  const identity = (typeof value === 'object' && value !== null ? value : {}) as { readonly [key: string]: unknown };
  const text = (key: string): string => {
    const member = identity[key];
    if (typeof member === 'string' && member.length > 0 && member.length < 8192) return member;
    throw new AgentError('agent/identity', `${where} lacks "${key}"`, { where, hint: provision });
  };
  const name = (key: string): string => {
    if (isName(text(key))) return text(key);
    throw new AgentError('agent/identity', `${where}: ${key} ${JSON.stringify(text(key))} is not a valid name`, {
      where,
    });
  };
  const keys = identity['trustedPackKeys'];
  if (!Array.isArray(keys) || !keys.every((key) => typeof key === 'string'))
    throw new AgentError('agent/identity', `${where} lacks "trustedPackKeys"`, { where, hint: provision });
  return {
    device: name('device'),
    fleet: name('fleet'),
    board: text('board'),
    brokerUrl: text('brokerUrl'),
    secret: text('secret'),
    controllerKey: text('controllerKey'),
    trustedPackKeys: keys,
  };
}

/** @throws {AgentError} `agent/identity` for a key that is none */
export function trustOf(identity: Identity): Trust {
  try {
    return {
      controllerKey: parsePublicKey(identity.controllerKey, 'controllerKey'),
      packKeys: identity.trustedPackKeys.map((key, index) => parsePublicKey(key, `trustedPackKeys[${index}]`)),
    };
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new AgentError('agent/identity', `identity.json: ${what}`, { hint: provision, cause });
  }
}

/** More than any identity takes. */
const ROOM_BYTES = 32_768;

/**
 * Asks for an identity and keeps it; never over another one, whose secret would be lost. Room for it is taken first: the
 * controller must not hold a device whose secret found no place.
 * @throws {AgentError} `agent/identity-exists`, `agent/storage`, and what `ask` throws
 */
export async function keepIdentity(identityDir: string, ask: () => Promise<Identity>): Promise<Identity> {
  const path = identityFile(identityDir);
  const part = `${path}.${process.pid}.part`;
  const trouble = (cause: unknown): never => {
    if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST') throw identityExists(path, cause);
    throw new AgentError('agent/storage', `${path} cannot be written: ${String(cause)}`, { where: path, cause });
  };
  const file = await open(part, 'w', 0o600).catch(trouble);
  try {
    const room = async (): Promise<void> => {
      await file.writeFile(new Uint8Array(ROOM_BYTES));
      await file.sync();
    };
    await room().catch(trouble);
    const identity = await ask();
    const keep = async (): Promise<void> => {
      const bytes = Buffer.from(`${JSON.stringify(identity, null, 2)}\n`);
      await file.write(bytes, 0, bytes.length, 0);
      await file.truncate(bytes.length);
      await file.sync();
      await link(part, path); // whole or not at all
    };
    await keep().catch(trouble);
    return identity;
  } finally {
    await file.close().catch(() => undefined);
    await rm(part, { force: true });
  }
}

export function identityExists(path: string, cause?: unknown): AgentError {
  return new AgentError('agent/identity-exists', `${path} is there already`, {
    where: path,
    hint: 'choose another identity folder, or remove this one',
    cause,
  });
}

const provision = 'provision the device: flotilla agent provision';
