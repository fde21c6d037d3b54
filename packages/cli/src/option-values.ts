import { isName } from '@flotilla/protocol';
import { CliError } from './errors.ts';

// What an option's value may be, as yargs' `coerce`: a wrong one is told before anything is opened, read or asked.

export interface NumberRange {
  readonly least?: number | undefined;
  readonly most?: number | undefined;
  /** Whether only whole numbers are taken. Default false. */
  readonly whole?: boolean | undefined;
}

/** NaN, which yargs makes of words, is left for the check that every number goes through. @throws {CliError} `cli/usage` */
export function numberIn(option: string, { least, most, whole = false }: NumberRange): (value: number) => number {
  const range =
    most === undefined ? (least === undefined ? '' : ` of at least ${least}`) : ` from ${least ?? '-∞'} to ${most}`;
  return (value) => {
    const fits = whole ? Number.isSafeInteger(value) : Number.isFinite(value);
    if (Number.isNaN(value) || (fits && value >= (least ?? -Infinity) && value <= (most ?? Infinity))) return value;
    throw new CliError('cli/usage', `--${option} must be a ${whole ? 'whole ' : ''}number${range}, not ${value}`);
  };
}

/** `HOST:PORT`, `[V6]:PORT`, `:PORT` or `PORT`. @throws {CliError} `cli/usage` */
export function endpointOf(option: string): (value: string) => string {
  return (value) => {
    const port = /^(?:(?:\[[0-9a-fA-F:.]+\]|[^:[\]]*):)?(\d{1,5})$/.exec(value)?.[1];
    if (Number(port) <= 65_535) return value;
    throw new CliError('cli/usage', `--${option} ${value} is not HOST:PORT, for example 127.0.0.1:8080`);
  };
}

/** A URL of one of the schemes; the first is the one to recommend. @throws {CliError} `cli/usage` */
export function urlOf(option: string, schemes: readonly string[], example: string): (value: string) => string {
  return (value) => {
    // `localhost:80` parses too, with a scheme `localhost:`. A URL may hold a password: it is not repeated.
    if (typeof value === 'string' && URL.canParse(value) && schemes.includes(new URL(value).protocol)) return value;
    throw new CliError('cli/usage', `--${option} is no such URL, write for example ${example}`);
  };
}

export const MQTT_SCHEMES = ['mqtt:', 'mqtts:', 'tcp:', 'ssl:', 'tls:', 'ws:', 'wss:'] as const;
export const HTTP_SCHEMES = ['http:', 'https:'] as const;

/** A device's or fleet's id, as it stands in MQTT topics. @throws {CliError} `cli/usage` */
export function nameOf(option: string): (value: string) => string {
  return (value) => {
    if (isName(value)) return value;
    throw new CliError(
      'cli/usage',
      `--${option} ${value} is no name: 1 to 64 of a-z 0-9 . _ - that begin with a letter or digit`,
    );
  };
}
