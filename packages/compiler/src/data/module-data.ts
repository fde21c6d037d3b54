import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Tensors } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import { checkInputs } from './check-inputs.ts';
import type { DataInput, DataSet, Sample } from './data-set.ts';

/**
 * A module whose default export is an (async) iterable of `{ inputs, label? }`, or a function that makes one. It is asked
 * for a new iterator at each pass over the data: a generator that is already running can be read only once.
 */
export async function moduleData(
  path: string,
  limit: number | undefined,
  inputs: readonly DataInput[],
): Promise<DataSet> {
  const source = await importDefault(path);
  return {
    kind: 'tensor',
    path,
    length: undefined,
    async *samples() {
      let count = 0;
      for await (const item of thrownAsData(() => iterate(source, path), path)) {
        if (count === limit) return;
        yield toSample(item, `${path}[${count}]`, inputs);
        count += 1;
      }
      if (count === 0) {
        const hint = 'export a function that makes the iterable: it is read more than once';
        throw new CompilerError('compiler/data', `${path} gave no sample`, { where: path, hint });
      }
    },
  };
}

/** What the user's module throws is the user's to mend. */
async function* thrownAsData(open: () => AsyncIterable<unknown> | Iterable<unknown>, path: string): AsyncGenerator {
  const fail = (cause: unknown): never => {
    if (cause instanceof CompilerError) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new CompilerError('compiler/data', `${path} threw: ${message.split('\n', 1)[0]}`, { where: path, cause });
  };
  let iterator: AsyncIterator<unknown> | Iterator<unknown>;
  try {
    const items = open();
    iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  } catch (cause) {
    return fail(cause);
  }
  try {
    for (;;) {
      const next = await Promise.resolve(iterator.next()).catch(fail);
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await iterator.return?.();
  }
}

async function importDefault(path: string): Promise<unknown> {
  try {
    const module = (await import(pathToFileURL(resolve(path)).href)) as { default?: unknown };
    return module.default;
  } catch (cause) {
    const message = `${path} cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new CompilerError('compiler/data', message.split('\n', 1)[0] ?? message, { where: path, cause });
  }
}

function iterate(source: unknown, path: string): AsyncIterable<unknown> | Iterable<unknown> {
  const made: unknown = typeof source === 'function' ? (source as () => unknown)() : source;
  if (typeof made === 'object' && made !== null && (Symbol.asyncIterator in made || Symbol.iterator in made)) {
    return made as AsyncIterable<unknown>;
  }
  throw new CompilerError('compiler/data', `${path}: its default export is not an iterable`, { where: path });
}

function toSample(item: unknown, name: string, inputs: readonly DataInput[]): Sample {
  const { inputs: feeds, label } = (typeof item === 'object' && item !== null ? item : {}) as {
    inputs?: unknown;
    label?: unknown;
  };
  if (typeof feeds !== 'object' || feeds === null) {
    throw new CompilerError('compiler/data', `${name} has no inputs`, { where: name });
  }
  checkInputs(feeds as Tensors, inputs, name);
  return { name, inputs: feeds as Tensors, label };
}
