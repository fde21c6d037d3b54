export { RuntimeError, type RuntimeErrorCode } from './errors.ts';
export { LatencyRecorder } from './latency.ts';
export { type LocalSession, openSession } from './local-session.ts';
export { type ChildSession, type SpawnOptions, spawnSession } from './spawn-session.ts';
export type {
  Latency,
  LoadedSession,
  MeasureOptions,
  Measurement,
  Memory,
  RunOptions,
  Session,
  SessionInput,
  SessionOptions,
  Tensors,
  TensorValue,
} from './types.ts';
