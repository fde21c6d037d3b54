export { OnnxError, type OnnxErrorCode } from './errors.ts';
export type * from './types.ts';
