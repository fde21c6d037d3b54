export { type Board, loadBoard } from '@flotilla/boards';
export { type BareComparison, compareWithBare } from './bare.ts';
export { benchText, type BenchTextOptions, type TextMeasurement } from './bench-text.ts';
export { branchesOf } from './adapters.ts';
export { bench, type BenchOptions, type BenchReport } from './bench.ts';
export { decoderFeeds } from './decoder-feeds.ts';
export type { ChatMessage } from './chat-template.ts';
export { RuntimeError, type RuntimeErrorCode } from './errors.ts';
export { syntheticFeeds } from './feeds.ts';
export {
  checkGolden,
  type GoldenDeviation,
  type GoldenReport,
  type GoldenTrace,
  textGolden,
  traceGolden,
} from './golden.ts';
export { LatencyRecorder } from './latency.ts';
export { type LocalSession, openSession } from './local-session.ts';
export { readNpy, writeNpy } from './npy.ts';
export { decodeNpz, encodeNpz, readNpz, writeNpz } from './npz.ts';
export { openRuntime, type Runtime, type RuntimeOptions } from './open-runtime.ts';
export { type OperatorTime, profileOperators } from './profile.ts';
export { rebuildModel, type RebuildPlan } from './rebuild-model.ts';
export { TextModel } from './text-model.ts';
export type { GenerateOptions, Generation } from './text-under-way.ts';
export { loadTokenizer, type TextTokenizer, type TokenizerFiles } from './tokenizer.ts';
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
