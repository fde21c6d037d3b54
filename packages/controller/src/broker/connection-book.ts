import type { GuardedConnection } from './guarded-connection.ts';

export interface ConnectionCaps {
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  /** Of those whose CONNECT has not been accepted yet. */
  readonly maxPending: number;
  readonly maxPendingPerAddress: number;
}

/** Who is connected: how many in all, how many from where, and how many of them nobody knows yet. */
export class ConnectionBook {
  private readonly caps: ConnectionCaps;
  private readonly all = new Set<GuardedConnection>();
  private readonly pending = new Set<GuardedConnection>();
  private readonly perAddress = new Map<string, { all: number; pending: number }>();

  constructor(caps: ConnectionCaps) {
    this.caps = caps;
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

  destroyAll(): void {
    for (const connection of this.all) connection.destroy();
  }

  /** Its CONNECT was accepted, or it is gone. */
  settle(connection: GuardedConnection): void {
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
