import type { Graph } from '@flotilla/onnx';
import { CompilerError } from '../../errors.ts';
import type { PassContext } from '../../pass.ts';
import { collectGrams } from './grams.ts';
import { type QuantizedLayer, quantizedLayers } from './layers.ts';
import { type RowsToRound, roundAnew } from './rounding.ts';

/**
 * Rounds the static int8 layers that `takes` anew, by what their inputs were on calibration samples.
 * @param samples that are run at most
 * @throws {CompilerError} `compiler/calibration` where there are none
 */
export async function roundLayers(
  graph: Graph,
  context: PassContext,
  samples: number,
  takes: (layer: QuantizedLayer) => boolean,
  round: (rows: RowsToRound) => Int8Array,
): Promise<Graph> {
  if (!context.samples) throw new CompilerError('compiler/calibration', 'rounding weights anew needs calibration data');
  const layers = quantizedLayers(graph, context.floatModel.graph).filter(takes);
  if (layers.length === 0) return graph;
  const grams = await collectGrams(layers, context, samples);
  for (const [index, layer] of layers.entries()) {
    context.signal?.throwIfAborted();
    const gram = grams[index];
    if (gram) roundAnew(graph, layer, gram, round);
  }
  return graph;
}
