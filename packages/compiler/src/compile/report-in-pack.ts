import { basename } from 'node:path';
import type { CompileReport } from './options.ts';

type Packed = Pick<CompileReport, 'model' | 'base' | 'warnings' | 'verdict' | 'adapters'>;

/**
 * What of the report travels in the pack: files by their names alone. Where they lay on the machine that compiled is
 * nobody's business on a device, and the same inputs in another folder must give the same bytes.
 */
export function reportInPack<T extends Packed>(report: T): T {
  const { model, base, warnings, verdict, adapters } = report;
  const path = base?.path;
  return {
    ...report,
    model: { ...model, path: basename(model.path) },
    base: base && { ...base, path: basename(base.path) },
    warnings: path === undefined ? warnings : warnings.map((warning) => warning.replaceAll(path, basename(path))),
    verdict: withMetricName(verdict),
    ...(adapters && { adapters: adapters.map((each) => ({ ...each, verdict: withMetricName(each.verdict) })) }),
  };
}

/** A metric of one's own is called by its path. */
function withMetricName(verdict: CompileReport['verdict']): CompileReport['verdict'] {
  return verdict && { ...verdict, metric: basename(verdict.metric) };
}
