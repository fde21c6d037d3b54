import type { BrokerLimits } from './broker/limits.ts';
import type { Clock } from './clock.ts';

export interface ControllerOptions {
  /** Keys, tokens, packs and, unless `database` is given, the database. Made if need be, mode 0700. */
  readonly dataDir: string;
  /** `listen`: the embedded broker, `host:port` (default `127.0.0.1:1883`); `url`: a broker that somebody else runs. */
  readonly mqtt?: { readonly listen?: string | undefined } | { readonly url: string } | undefined;
  /** What devices are told to connect to, where that differs from where the broker listens. */
  readonly publicMqttUrl?: string | undefined;
  /** Default `127.0.0.1:8080`; port 0 takes any free one. */
  readonly http?: string | undefined;
  /** A PostgreSQL URL; without it the embedded database. */
  readonly database?: string | undefined;
  /**
   * A folder where an empty embedded database is kept between controllers, to be copied instead of made anew (which
   * takes some 7 seconds of processor time). Filled by the first that needs it. Default: none.
   */
  readonly databaseTemplate?: string | undefined;
  /**
   * Public keys of which one must have signed a pack: files, or folders of `*.pub`. Default: `<dataDir>/trusted`. With
   * none at all no pack is taken and no device provisioned.
   */
  readonly trustedKeys?: readonly string[] | undefined;
  /** Default 4 GiB. */
  readonly maxPackBytes?: number | undefined;
  readonly brokerLimits?: Partial<BrokerLimits> | undefined;
  /** How long a request's body may stand still. Default 30 s. */
  readonly bodyTimeoutMs?: number | undefined;
  readonly clock?: Clock | undefined;
  /** One line per fault; default: stderr. */
  readonly log?: ((line: string) => void) | undefined;
}

export interface Controller {
  /** Where devices connect. */
  readonly mqttUrl: string;
  readonly httpUrl: string;
  /** The file that holds the admin token. */
  readonly adminTokenFile: string;
  /**
   * Resolves when it has been closed; rejects when it closed itself because it could not go on: `controller/locked` where
   * another controller took its database while that was away.
   */
  readonly done: Promise<void>;
  close(): Promise<void>;
}
