import { PackError, parseSuccession, type PublicKey, type Succession, successorsOf } from '@flotilla/pack';
import { join } from 'node:path';
import type { Trust } from './identity.ts';
import type { Disk } from './ports.ts';
import { type Document, document } from './store/document.ts';

const MOST_KEPT = 64;

/**
 * Whom the device trusts: the keys of its identity, and those that came after them by the word of the one before. Of the
 * controller's keys the last one counts, and the ones before no longer do. Of the keys that sign packs all count: what
 * lies in a slot must start after a rotation too.
 */
export class Keyring {
  private readonly file: Document;
  private readonly first: Trust;
  private kept: readonly Succession[];
  private current: Trust;

  private constructor(file: Document, first: Trust, kept: readonly Succession[], controllerKeyId: string) {
    this.file = file;
    this.first = first;
    this.kept = kept;
    this.current = follow(first, kept, controllerKeyId);
  }

  /** What an earlier start has learnt is taken up; where that is damaged it is learnt anew. */
  static async open(disk: Disk, dataDir: string, first: Trust): Promise<Keyring> {
    const file = document(disk, join(dataDir, 'keyring'));
    const found = await file.read();
    const body = (typeof found === 'object' ? found.body : undefined) as Partial<Body> | undefined;
    const kept = (body?.successions ?? []).map((text) => Buffer.from(text, 'base64'));
    return new Keyring(file, first, parseAll(kept), body?.controllerKeyId ?? '');
  }

  get packKeys(): readonly PublicKey[] {
    return this.current.packKeys;
  }

  /**
   * The key that a desired release must be signed with, given the statements that came with it: the one it names if the
   * device can come to it, else the present one.
   */
  controllerKey(successions: readonly Uint8Array[], keyId: string): PublicKey {
    return this.controllerKeyAmong(parseAll(successions), keyId);
  }

  /**
   * Keeps what is new in the statements of a desired release that was accepted. On the disk before it counts: a pack
   * that only a new key has signed must start after a power cut.
   */
  async learn(successions: readonly Uint8Array[], keyId: string): Promise<void> {
    const parsed = parseAll(successions);
    const known = new Set(this.kept.map(nameOf));
    const trusted = new Set([...this.current.packKeys, this.current.controllerKey].map((key) => key.keyId));
    const news: Succession[] = [];
    for (const one of parsed) if (!known.has(nameOf(one)) && reaches(trusted, one, parsed)) news.push(one);
    const next = this.controllerKeyAmong(parsed, keyId);
    if (news.length === 0 && next.keyId === this.current.controllerKey.keyId) return;
    const kept = [...this.kept, ...news].slice(-MOST_KEPT);
    const body: Body = {
      controllerKeyId: next.keyId,
      successions: kept.map(({ bytes }) => Buffer.from(bytes).toString('base64')),
    };
    await this.file.write(body);
    this.kept = kept;
    this.current = follow(this.first, kept, next.keyId);
  }

  private controllerKeyAmong(successions: readonly Succession[], keyId: string): PublicKey {
    const { controllerKey } = this.current;
    return successorsOf(controllerKey, successions).find((key) => key.keyId === keyId) ?? controllerKey;
  }
}

interface Body {
  readonly controllerKeyId: string;
  /** Base64. */
  readonly successions: readonly string[];
}

function follow(first: Trust, kept: readonly Succession[], controllerKeyId: string): Trust {
  const packKeys = new Map<string, PublicKey>();
  for (const key of first.packKeys) for (const one of [key, ...successorsOf(key, kept)]) packKeys.set(one.keyId, one);
  const controllerKeys = successorsOf(first.controllerKey, kept);
  const controllerKey = controllerKeys.find(({ keyId }) => keyId === controllerKeyId) ?? first.controllerKey;
  return { controllerKey, packKeys: [...packKeys.values()] };
}

/** Whether a statement follows on a trusted key, by way of others that came with it; the rest is not worth keeping. */
function reaches(trusted: ReadonlySet<string>, one: Succession, all: readonly Succession[]): boolean {
  const seen = new Set<string>();
  for (let from = one.from; !seen.has(from); ) {
    if (trusted.has(from)) return true;
    seen.add(from);
    from = all.find(({ to }) => to.keyId === from)?.from ?? from;
  }
  return false;
}

const nameOf = ({ from, to }: Succession): string => `${from} ${to.keyId}`;

/** One that is damaged, or not what it says, is as if it were not there. */
function parseAll(successions: readonly Uint8Array[]): readonly Succession[] {
  return successions.flatMap((bytes) => {
    try {
      return [parseSuccession(bytes)];
    } catch (error) {
      if (error instanceof PackError) return [];
      throw error;
    }
  });
}
