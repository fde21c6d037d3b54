export { LoweringError, type LoweringErrorCode } from './errors.ts';
