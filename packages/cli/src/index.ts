export { runCli } from './cli.ts';
export { CliError, type CliErrorCode } from './errors.ts';
