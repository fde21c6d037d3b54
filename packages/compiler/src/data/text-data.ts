import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { CompilerError } from '../errors.ts';
import type { DataSet, TextSample } from './data-set.ts';

/** `.jsonl`, or a `.json` array, of `{"prompt","completion"}` or `{"text"}`; `.txt`, one text a line. */
export async function textData(path: string, limit: number | undefined): Promise<DataSet> {
  const content = await readFile(path, 'utf8');
  const all = extname(path) === '.txt' ? readLines(content, path) : readRecords(content, path);
  const texts = limit === undefined ? all : all.slice(0, limit);
  if (texts.length === 0) throw new CompilerError('compiler/data', `${path} holds no text`, { where: path });
  return {
    kind: 'text',
    path,
    length: texts.length,
    async *texts() {
      yield* texts;
    },
  };
}

function readLines(content: string, path: string): TextSample[] {
  return content
    .split('\n')
    .map((line, i) => ({ name: `${path}:${i + 1}`, text: line.replace(/\r$/, ''), completion: undefined }))
    .filter(({ text }) => text !== '');
}

function readRecords(content: string, path: string): TextSample[] {
  if (extname(path) === '.json') {
    const list = parse(content, path);
    if (!Array.isArray(list)) throw new CompilerError('compiler/data', `${path} is not a JSON array`, { where: path });
    return list.map((record, i) => toSample(record, `${path}[${i}]`));
  }
  return content.split('\n').flatMap((line, i) => {
    const name = `${path}:${i + 1}`;
    return line.trim() === '' ? [] : [toSample(parse(line, name), name)];
  });
}

function parse(json: string, where: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new CompilerError('compiler/data', `${where} is not JSON`, { where, cause });
  }
}

function toSample(record: unknown, name: string): TextSample {
  const { prompt, completion, text } = (typeof record === 'object' && record !== null ? record : {}) as {
    prompt?: unknown;
    completion?: unknown;
    text?: unknown;
  };
  if (typeof prompt === 'string' && typeof completion === 'string') return { name, text: prompt, completion };
  if (typeof text === 'string') return { name, text, completion: undefined };
  throw new CompilerError('compiler/data', `${name} has neither "prompt" and "completion" nor "text"`, { where: name });
}
