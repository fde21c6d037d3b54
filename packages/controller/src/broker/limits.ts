import type { ConnectionCaps } from './connection-book.ts';
import type { GuardLimits } from './guarded-connection.ts';

export type BrokerLimits = GuardLimits & ConnectionCaps;

export const defaultBrokerLimits: BrokerLimits = {
  maxConnectBytes: 8192,
  maxPacketBytes: 262_144 + 512,
  connectTimeoutMs: 10_000,
  maxConnections: 8192,
  maxConnectionsPerAddress: 4096,
  maxPending: 512,
  maxPendingPerAddress: 64,
};
