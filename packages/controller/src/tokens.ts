import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from './clock.ts';
import type { Database, TokenRow } from './db/schema.ts';
import { writeFileWhole } from './files.ts';
import { hashSecret, newSecret } from './secrets.ts';

export type Role = TokenRow['role'];

/** Bearer tokens. Only hashes are stored, so a copy of the database opens nothing. */
export class Tokens {
  private readonly db: Database;
  private readonly clock: Clock;
  private readonly roles = new Map<string, Role>();

  private constructor(db: Database, clock: Clock) {
    this.db = db;
    this.clock = clock;
  }

  static async load(db: Database, clock: Clock): Promise<Tokens> {
    const tokens = new Tokens(db, clock);
    for (const { hash, role } of await db.selectFrom('tokens').selectAll().execute()) tokens.roles.set(hash, role);
    return tokens;
  }

  /** Looked up by hash: what time it takes says nothing about a token that is 256 random bits. */
  role(token: string): Role | undefined {
    return this.roles.get(hashSecret(token));
  }

  /** @returns the token; it cannot be shown again */
  async create(role: Role, label: string): Promise<string> {
    const token = newSecret();
    await this.add(token, role, label);
    return token;
  }

  /** The admin token in `<dataDir>/admin.token`, mode 0600: made if need be, made known if the database is new. */
  async ensureAdmin(dataDir: string): Promise<string> {
    const path = join(dataDir, 'admin.token');
    const known = (await readFile(path, 'utf8').catch(() => '')).trim();
    const token = known === '' ? newSecret() : known;
    if (this.role(token) === undefined) await this.add(token, 'admin', 'admin.token');
    if (known === '') await writeFileWhole(path, `${token}\n`, 0o600);
    return path;
  }

  private async add(token: string, role: Role, label: string): Promise<void> {
    const hash = hashSecret(token);
    await this.db.insertInto('tokens').values({ hash, role, label, created_at: this.clock.now() }).execute();
    this.roles.set(hash, role);
  }
}
