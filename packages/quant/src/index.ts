export { QuantError, type QuantErrorCode } from './errors.ts';
