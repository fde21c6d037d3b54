import { rename } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { createPack, type PackContents, type SourceFile, writeGolden } from '@flotilla/pack';
import { CompilerError } from '../errors.ts';
import type { Golden } from './golden-tolerance.ts';
import type { PackedAdapter } from './beside.ts';
import type { CompileOptions } from './options.ts';
import type { SavedModel } from './save-model.ts';
import type { Source } from './source.ts';
import { checkTransformers, writeTransformers } from './write-transformers.ts';

export interface OutputParts {
  readonly source: Source;
  readonly portable: SavedModel;
  readonly adapters: readonly PackedAdapter[];
  /** Of which, with its base, a device makes the model. */
  readonly factors: Uint8Array | undefined;
  readonly weights: string;
  readonly golden: Golden;
  /** Goes into the pack: no times in it, so that the same inputs give the same pack. */
  readonly report: object;
  readonly annotations: { readonly [key: string]: string };
}

/** What can be known to fail is refused before the work. @throws {CompilerError} `compiler/output` */
export async function checkOutput(out: string, source: Source, { layout = 'pack' }: CompileOptions): Promise<void> {
  if (layout === 'transformers') return checkTransformers(out, source);
  if (layout !== 'pack') throw new CompilerError('compiler/output', `--layout is pack or transformers, not ${layout}`);
}

/** Writes the pack, a folder for transformers.js, or the bare portable model where `out` ends in `.onnx`: whole or not at all. */
export async function writeOutput(
  out: string,
  parts: OutputParts,
  options: CompileOptions,
): Promise<{ readonly digest: string | null; readonly bytes: number }> {
  if (options.layout === 'transformers') return writeTransformers(out, parts);
  if (out.endsWith('.onnx')) return writeBare(out, parts);
  return createPack(out, contentsOf(parts, options), { key: options.key, signal: options.signal });
}

function contentsOf(parts: OutputParts, options: CompileOptions): PackContents {
  const { source, portable, golden } = parts;
  const files: SourceFile[] = portable.files.map((path, index) => ({
    path: basename(path),
    role: index === 0 ? 'model' : 'model-data',
    source: path,
  }));
  files.push(...source.folder.files);
  for (const { name, bytes } of parts.adapters)
    files.push({ path: `adapters/${name}.safetensors`, role: 'adapter', source: bytes });
  if (parts.factors) files.push({ path: 'rebuild.safetensors', role: 'rebuild', source: parts.factors });
  if (options.keys !== undefined) files.push({ path: 'keys.txt', role: 'keys', source: options.keys });
  const isGolden = golden.cases.length > 0;
  if (isGolden) files.push({ path: 'golden.safetensors', role: 'golden', source: writeGolden(golden.cases) });
  const report = new TextEncoder().encode(`${JSON.stringify(parts.report)}\n`);
  files.push({ path: 'report.json', role: 'report', source: report });
  return {
    name: packName(options.name ?? source.folder.name),
    task: source.folder.isText ? 'text' : 'tensor',
    files,
    weights: parts.weights,
    parameters: source.parameters,
    sourceBytes: source.bytes,
    golden: isGolden ? { path: 'golden.safetensors', tolerance: golden.tolerance } : null,
    latencyBudgetUs: options.latencyBudgetUs ?? {},
    annotations: parts.annotations,
  };
}

/** The work folder lies beside the output, so that a rename does; external data goes first. */
async function writeBare(out: string, { portable }: OutputParts): Promise<{ digest: null; bytes: number }> {
  const [graph, data] = portable.files;
  if (data !== undefined) await rename(data, join(dirname(out), basename(data)));
  await rename(graph, out);
  return { digest: null, bytes: portable.bytes };
}

/** What a name may hold is narrower than what a folder's may. */
function packName(name: string): string {
  return name.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '') || 'model';
}
