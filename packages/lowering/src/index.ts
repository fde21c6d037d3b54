export { LoweringError, type LoweringErrorCode } from './errors.ts';
export { type Choice, LOWERING_VERSION, type Lowered, lowerModel } from './lower.ts';
