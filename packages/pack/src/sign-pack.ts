import { canonicalJson } from './canonical-json.ts';
import type { PrivateKey } from './keys.ts';
import { deriveMetadata } from './manifest.ts';
import { signConfig } from './signature.ts';
import { withPack } from './verify.ts';
import { fileSources, writeLayout } from './write-layout.ts';

/**
 * Signs a pack anew; an earlier signature is replaced. The signature is a layer, so the manifest and with it the pack's
 * name change, while the config digest that was signed stays. Signing twice with one key gives the same bytes.
 * @returns the new name
 */
export async function signPack(
  path: string,
  key: PrivateKey,
  options?: {
    /** Default: in place. */
    readonly out?: string | undefined;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<{ readonly digest: string; readonly bytes: number; readonly keyId: string }> {
  return withPack(path, { signal: options?.signal }, async (pack) => {
    const metadata = deriveMetadata(pack.config, signConfig(canonicalJson(pack.config), key));
    const files = fileSources(pack.config, (file) => pack.stream(file, options?.signal));
    const written = await writeLayout(options?.out ?? path, metadata, files);
    return { ...written, keyId: key.publicKey.keyId };
  });
}
