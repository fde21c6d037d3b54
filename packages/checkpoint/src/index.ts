export { CheckpointError, type CheckpointErrorCode } from './errors.ts';
