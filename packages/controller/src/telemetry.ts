import type { Telemetry } from '@flotilla/protocol';
import type { Clock } from './clock.ts';
import { persist } from './db/retry.ts';
import type { Database } from './db/schema.ts';
import { decodeHistogram, type LatencySummary, mergeHistograms, summarize } from './histogram.ts';
import type { Timeline } from './timeline.ts';

/** What is known of one release's performance on one device, over all windows that arrived. */
export interface TelemetryView {
  readonly device: string;
  readonly name: string;
  readonly digest: string;
  readonly version: string | null;
  readonly latency: LatencySummary;
  readonly throughputPerS: number;
  /** Text models: of the window that came last. */
  readonly text: { readonly timeToFirstTokenMs: number; readonly tokensPerSecond: number } | null;
  readonly peakRssBytes: number;
  readonly pssBytes: number | null;
  readonly weightsBytes: number;
  readonly windowMs: number;
  readonly failures: number;
  readonly updatedAtMs: number;
}

export interface TelemetryPorts {
  readonly db: Database;
  readonly timeline: Timeline;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Adds one window to what is known. A duplicate, or one overtaken by a newer, is left out.
 * @returns false if it was
 * @throws {Error} if the histogram is not one
 */
export async function addTelemetry(ports: TelemetryPorts, device: string, window: Telemetry): Promise<boolean> {
  const histogram = decodeHistogram(window.latencyHistogram);
  const { name, digest, session, counter } = window;
  const atMs = ports.clock.now();
  const told = await persist(
    ports.db,
    async (trx) => {
      const row = await trx
        .selectFrom('telemetry')
        .selectAll()
        .where((at) => at.and({ device, name, digest }))
        .executeTakeFirst();
      if (row !== undefined && (session < row.session || (session === row.session && counter <= row.counter)))
        return undefined;
      const windowMs = (row?.window_ms ?? 0) + window.windowMs;
      const served = (row?.throughput_per_s ?? 0) * (row?.window_ms ?? 0) + window.throughputPerS * window.windowMs;
      const next = {
        session,
        counter,
        histogram: mergeHistograms(row?.histogram, histogram),
        throughput_per_s: windowMs === 0 ? window.throughputPerS : served / windowMs,
        time_to_first_token_us: window.timeToFirstTokenUs ?? null,
        tokens_per_s: window.tokensPerSecond ?? null,
        peak_rss_bytes: Math.max(row?.peak_rss_bytes ?? 0, window.peakRssBytes),
        pss_bytes: window.pssBytes,
        weights_bytes: window.weightsBytes,
        window_ms: windowMs,
        failures: (row?.failures ?? 0) + window.failures,
        updated_at: atMs,
      };
      await trx
        .insertInto('telemetry')
        .values({ device, name, digest, ...next })
        .onConflict((conflict) => conflict.columns(['device', 'name', 'digest']).doUpdateSet(next))
        .execute();
      const data = { name, digest, count: histogram.totalCount, throughputPerS: window.throughputPerS };
      return ports.timeline.write(trx, [{ atMs, kind: 'telemetry', device, rollout: null, data }]);
    },
    ports.signal,
  );
  if (told === undefined) return false;
  ports.timeline.tell(told);
  return true;
}

export async function telemetryOf(db: Database, device: string): Promise<readonly TelemetryView[]> {
  const rows = await db
    .selectFrom('telemetry')
    .selectAll()
    .where('device', '=', device)
    .orderBy('updated_at', 'desc')
    .execute();
  const releases = await db.selectFrom('releases').select(['name', 'version', 'digest']).execute();
  const versions = new Map(releases.map((row) => [`${row.name} ${row.digest}`, row.version]));
  return rows.map((row) => ({
    device: row.device,
    name: row.name,
    digest: row.digest,
    version: versions.get(`${row.name} ${row.digest}`) ?? null,
    latency: summarize(decodeHistogram(row.histogram)),
    throughputPerS: row.throughput_per_s,
    text:
      row.time_to_first_token_us === null
        ? null
        : { timeToFirstTokenMs: row.time_to_first_token_us / 1000, tokensPerSecond: row.tokens_per_s ?? 0 },
    peakRssBytes: row.peak_rss_bytes,
    pssBytes: row.pss_bytes === 0 ? null : row.pss_bytes,
    weightsBytes: row.weights_bytes,
    windowMs: row.window_ms,
    failures: row.failures,
    updatedAtMs: row.updated_at,
  }));
}
