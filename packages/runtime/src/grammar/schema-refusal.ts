import { RuntimeError } from '../errors.ts';

/** @param path a JSON pointer into the schema */
export function refuse(path: string, problem: string, hint?: string): RuntimeError {
  return new RuntimeError('runtime/schema', `schema ${path === '' ? '/' : path}: ${problem}`, { where: path, hint });
}
