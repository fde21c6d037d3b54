import type { Judged } from '../evaluate/judge.ts';
import { loadOnnx } from '../evaluate/load-onnx.ts';
import type { PackedAdapter } from './beside.ts';
import type { Job } from './job.ts';
import { judgeBoth } from './judge-both.ts';
import type { AdapterReport, CompileOptions, CompileReport } from './options.ts';

export interface JudgedAdapters extends Pick<CompileReport, 'verdict' | 'warnings'> {
  readonly adapters: readonly AdapterReport[];
}

/**
 * Judges the model, or with each adapter in turn against the float model that the adapter is merged into; the worst
 * verdict is the pack's. The first adapter is left in use.
 */
export async function judgeAdapters(
  job: Pick<Job, 'splits' | 'fp32' | 'beside' | 'source'> & { readonly candidates: number },
  quantized: Judged,
  packed: readonly PackedAdapter[],
  options: CompileOptions,
): Promise<JudgedAdapters> {
  const [first, ...others] = packed;
  if (!first) return { ...(await judgeBoth(job, quantized, options)), adapters: [] };
  quantized.session.use(first.name);
  const judged = await judgeBoth(job, quantized, options);
  const adapters: AdapterReport[] = [reportOf(first, judged)];
  const warnings = [...judged.warnings];
  for (const other of others) {
    const merged = job.beside.find(({ name }) => name === other.name)?.merged.files[0] ?? '';
    const { threads = 1, signal } = options;
    const fp32 = await loadOnnx(merged, job.source.tokenizer, { threads, signal });
    try {
      quantized.session.use(other.name);
      const found = await judgeBoth({ ...job, fp32 }, quantized, options);
      adapters.push(reportOf(other, found));
      warnings.push(...found.warnings.map((warning) => `${other.name}: ${warning}`));
    } finally {
      await fp32.session.close();
    }
  }
  quantized.session.use(first.name);
  return { verdict: worstOf(adapters), warnings, adapters };
}

function reportOf({ name, modules, rank, bytes }: PackedAdapter, { verdict }: Pick<CompileReport, 'verdict'>) {
  return { name, modules, rank, bytes: bytes.length, verdict };
}

function worstOf(adapters: readonly AdapterReport[]): CompileReport['verdict'] {
  const verdicts = adapters.map(({ verdict }) => verdict).filter((verdict) => verdict !== null);
  return verdicts.toSorted((a, b) => a.kept - b.kept)[0] ?? null;
}
