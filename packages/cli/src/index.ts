export { CliError, type CliErrorCode } from './errors.ts';
