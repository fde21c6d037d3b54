/** What the demo reports: the contract of `./scripts/demo --json`, plus what only the report page shows. */
export interface DemoResult {
  readonly models: readonly ModelResult[];
  readonly fleet: readonly DeviceResult[];
  readonly badReleases: readonly BadReleaseResult[];
  readonly command: CommandResult;
  readonly seconds: number;
}

export interface ModelResult {
  readonly name: string;
  readonly weights: string;
  readonly adapter?: string;
  readonly fp32Bytes: number;
  readonly modelBytes: number;
  readonly ratio: number;
  readonly metric: string;
  readonly samples: number;
  readonly fp32: number;
  readonly quantized: number;
  readonly kept: number;
  readonly speedup: number;
  readonly fp32P50Us: number;
  readonly p50Us: number;
}

export interface DeviceResult {
  readonly device: string;
  readonly board: string;
  readonly release: string;
  readonly digest: string;
  readonly p50Us: number | null;
  readonly p90Us: number | null;
  readonly p95Us: number | null;
  readonly p99Us: number | null;
  readonly throughputPerS: number;
  readonly peakRssBytes: number;
}

export interface BadReleaseResult {
  readonly name: string;
  readonly reason: string;
  readonly devicesTried: number;
  readonly devicesBroken: number;
}

export interface CommandResult {
  readonly device: string;
  readonly prompt: string;
  readonly answer: string;
}

/** A state that a device reported, as the rollout timeline draws it. */
export interface TimelineEntry {
  readonly device: string;
  readonly rollout: string;
  readonly state: string;
  readonly atMs: number;
}
