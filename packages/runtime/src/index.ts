export { RuntimeError, type RuntimeErrorCode } from './errors.ts';
export type { Latency, Memory, Session, SessionInput, SessionOptions, Tensors, TensorValue } from './types.ts';
