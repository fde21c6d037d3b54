import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/** 256 random bits as text: a device's secret, or a token. Nothing to guess, so a plain hash protects the stored form. */
export const newSecret = (): string => randomBytes(32).toString('base64url');

/** What is stored of a secret. */
export const hashSecret = (secret: string | Uint8Array): string => createHash('sha256').update(secret).digest('hex');

/** Compares in a time that does not depend on where they differ. */
export function matchesHash(secret: string | Uint8Array, hash: string): boolean {
  return timingSafeEqual(Buffer.from(hashSecret(secret), 'hex'), Buffer.from(hash.padEnd(64, '0').slice(0, 64), 'hex'));
}
