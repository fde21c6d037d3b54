import type { Session, Tensors, TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';

/** Values fetched at once; more and the run is repeated for the rest. */
const BUDGET_BYTES = 256 << 20;

type Take = (name: string, tensor: TensorValue | undefined) => void;

/**
 * Hands a sample's values on one by one, from as few runs as the memory budget allows; the first sample tells how many.
 * @returns a function that runs one sample; it throws {CompilerError} `compiler/calibration`
 */
export function fetchInGroups(
  session: Session,
  names: readonly string[],
): (feeds: Tensors, take: Take, sample: number) => Promise<void> {
  let groups: readonly (readonly string[])[] = [names];
  return async (feeds, take, sample) => {
    let bytes = 0;
    for (const group of groups) {
      if (group.length === 0) continue;
      const fetched = await run(session, feeds, group, sample);
      for (const name of group) {
        const tensor = fetched[name];
        if (tensor && ArrayBuffer.isView(tensor.data)) bytes += tensor.data.byteLength;
        take(name, tensor);
      }
    }
    const parts = Math.ceil(bytes / BUDGET_BYTES);
    if (parts > groups.length)
      groups = Array.from({ length: parts }, (_, p) => names.filter((_n, i) => i % parts === p));
  };
}

async function run(session: Session, feeds: Tensors, fetches: readonly string[], sample: number): Promise<Tensors> {
  try {
    return await session.run(feeds, { fetches });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CompilerError('compiler/calibration', `sample ${sample} does not run: ${reason}`, {
      where: `sample ${sample}`,
      cause,
    });
  }
}
