import type { TrainedTokens } from '@flotilla/checkpoint';
import { floats } from '@flotilla/onnx';
import { CompilerError } from '../errors.ts';
import type { Home } from './homes.ts';
import type { LayerEdits } from './layer-edits.ts';
import { homeError, list, mappedHomes, nearest, type Search } from './sites.ts';

export interface TokenPlan {
  readonly node: string;
  carryOut(edits: LayerEdits): void;
}

/**
 * Rows of an embedding that were trained one by one take their places, and those of an output layer that is tied to it:
 * one with the same numbers, which PEFT trains along.
 * @throws {CompilerError} `compiler/lora-home`; `compiler/lora-shape` for a token outside the embedding
 */
export function planTokens(module: string, tokens: TrainedTokens, search: Search): TokenPlan {
  const { homes, where } = search;
  const embeddings = homes.filter(({ node, outFeatures }) => node.opType === 'Gather' && outFeatures === tokens.width);
  const named = mappedHomes(module, search) ?? nearest(module, embeddings);
  const candidates = named.length > 0 ? named : embeddings;
  const [home, ...others] = candidates;
  if (!home) throw homeError(where, `${module}: no embedding of width ${tokens.width} in the graph`);
  if (others.some((other) => other.value !== home.value)) throw homeError(where, `${module} fits ${list(candidates)}`);
  const outside = tokens.indices.find((index) => index >= home.inFeatures);
  if (outside !== undefined) {
    const message = `${module}: token ${outside} lies outside ${list([home])}: an adapter for another base model?`;
    throw new CompilerError('compiler/lora-shape', message, { where });
  }
  const tied = homes.find((other) => isTied(other, home));
  return {
    node: home.node.name,
    carryOut(edits) {
      const columns = edits.weightsOf({ readers: [home, ...others] }); // an embedding's rows are columns here
      const rows = tied && edits.weightsOf({ readers: [tied] });
      for (const [t, token] of tokens.indices.entries()) {
        for (let i = 0; i < tokens.width; i++) {
          const value = tokens.rows[t * tokens.width + i] ?? 0;
          columns[i * home.inFeatures + token] = value;
          if (rows) rows[token * tokens.width + i] = value;
        }
      }
    },
  };
}

/** An output layer with the same numbers as an embedding, one the other's transpose. */
export function isTied(output: Home, { tensor, inFeatures, outFeatures }: Home): boolean {
  if (output.node.opType === 'Gather' || output.outFeatures !== inFeatures || output.inFeatures !== outFeatures)
    return false;
  const [a, b] = [floats(output.tensor), floats(tensor)];
  for (let token = 0; token < inFeatures; token++) {
    for (let i = 0; i < outFeatures; i++) {
      const at = output.storedInOut ? i * inFeatures + token : token * outFeatures + i;
      if (a[at] !== b[token * outFeatures + i]) return false;
    }
  }
  return true;
}
