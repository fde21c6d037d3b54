export { ProtocolError, type ProtocolErrorCode } from './errors.ts';
