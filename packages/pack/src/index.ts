export { PackError, type PackErrorCode } from './errors.ts';
export type { PackConfig, PackFile, Role, Tolerance } from './types.ts';
