import type { Model } from '@flotilla/onnx';
import type { SessionInput } from '@flotilla/runtime';

/** The inputs that a session of the model would have, without one. */
export function sessionInputs({ graph }: Model): SessionInput[] {
  return graph.inputs
    .filter(({ name }) => !graph.initializers.has(name))
    .map(({ name, type }) => ({
      name,
      dtype: type?.dtype ?? 'unknown',
      dims: (type?.dims ?? []).map((dim) => (typeof dim === 'number' && dim >= 0 ? dim : String(dim ?? '?'))),
    }));
}
