import type { Clock } from '../clock.ts';
import type { GuardedConnection } from './guarded-connection.ts';

export interface ConnectionCaps {
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  /** Of those whose CONNECT has not been accepted yet. */
  readonly maxPending: number;
  readonly maxPendingPerAddress: number;
}

interface Holder {
  readonly connection: GuardedConnection;
  readonly keepaliveMs: number;
}

const WITHOUT_KEEPALIVE_MS = 60_000;

/** Who is connected: how many in all and from where, and which connection is which device's. */
export class ConnectionBook {
  private readonly caps: ConnectionCaps;
  private readonly clock: Clock;
  private readonly all = new Set<GuardedConnection>();
  private readonly pending = new Set<GuardedConnection>();
  private readonly perAddress = new Map<string, { all: number; pending: number }>();
  private readonly holders = new Map<string, Holder>();

  constructor(caps: ConnectionCaps, clock: Clock) {
    this.caps = caps;
    this.clock = clock;
  }

  /** @returns why the connection cannot be taken, if so */
  enter(connection: GuardedConnection): string | undefined {
    const count = this.perAddress.get(connection.address) ?? { all: 0, pending: 0 };
    if (this.all.size >= this.caps.maxConnections) return 'too many connections';
    if (count.all >= this.caps.maxConnectionsPerAddress) return 'too many connections from one address';
    if (this.pending.size >= this.caps.maxPending) return 'too many connections without a CONNECT';
    if (count.pending >= this.caps.maxPendingPerAddress)
      return 'too many connections without a CONNECT from one address';
    this.all.add(connection);
    this.pending.add(connection);
    this.perAddress.set(connection.address, { all: count.all + 1, pending: count.pending + 1 });
    connection.once('close', () => this.leave(connection));
    return undefined;
  }

  /**
   * Binds a connection to a device. One that is connected and was heard of within one and a half keep-alives keeps its
   * place, and the rival is refused: two agents with one identity would otherwise throw each other out for ever.
   */
  async claim(device: string, connection: GuardedConnection, keepaliveS: number, graceMs: number): Promise<boolean> {
    if (this.isHeld(device)) await new Promise((resolve) => setTimeout(resolve, graceMs));
    if (this.isHeld(device) || connection.destroyed) return false;
    this.holders.get(device)?.connection.destroy(new Error('replaced after silence'));
    this.settle(connection);
    this.holders.set(device, { connection, keepaliveMs: keepaliveS * 1500 || WITHOUT_KEEPALIVE_MS });
    connection.once('close', () => {
      if (this.holders.get(device)?.connection === connection) this.holders.delete(device);
    });
    return true;
  }

  destroyAll(): void {
    for (const connection of this.all) connection.destroy();
  }

  private isHeld(device: string): boolean {
    const holder = this.holders.get(device);
    if (holder === undefined || holder.connection.destroyed) return false;
    return this.clock.now() - holder.connection.lastSeenMs < holder.keepaliveMs;
  }

  private settle(connection: GuardedConnection): void {
    if (!this.pending.delete(connection)) return;
    const count = this.perAddress.get(connection.address);
    if (count !== undefined) count.pending--;
  }

  private leave(connection: GuardedConnection): void {
    this.settle(connection);
    this.all.delete(connection);
    const count = this.perAddress.get(connection.address);
    if (count === undefined) return;
    count.all--;
    if (count.all === 0) this.perAddress.delete(connection.address);
  }
}
