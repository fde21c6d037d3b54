import { HTTP_SCHEMES, numberIn, urlOf } from './option-values.ts';
import { setting } from './settings.ts';

/** More would not run faster anywhere, and ONNX Runtime starts them all. */
export const THREADS = { least: 1, most: 1024, whole: true } as const;

// Options that several commands share. Their defaults are settings, so that `--help` shows what is in force.

export const boardOption = () =>
  ({
    type: 'string',
    default: setting('board') ?? 'host',
    describe: 'Board by name or file; host is this machine',
  }) as const;

export const threadsOption = () =>
  ({
    type: 'number',
    default: Number(setting('threads') ?? 1),
    coerce: numberIn('threads', THREADS),
    describe: 'Threads inside one operator',
  }) as const;

export const controllerOption = () =>
  ({
    type: 'string',
    default: setting('controller') ?? 'http://127.0.0.1:8080',
    coerce: urlOf('controller', HTTP_SCHEMES, 'http://127.0.0.1:8080'),
    describe: 'URL of the controller',
  }) as const;

export const tokenOption = () =>
  ({
    type: 'string',
    default: setting('token'),
    defaultDescription: 'FLOTILLA_TOKEN',
    describe: 'Bearer token, or @FILE that holds it',
  }) as const;

export const trustOption = () =>
  ({
    type: 'string',
    default: setting('trust'),
    describe: 'Public key file that the pack must be signed with; without it any or no signature is taken',
  }) as const;

export const preprocessOption = () =>
  ({
    type: 'string',
    describe: 'Rules by which a folder of pictures or .wav becomes inputs, FILE.yaml',
  }) as const;
