import { calibrationData } from '../compile/samples.ts';
import { mergeAdapters } from '../compile/merge-adapters.ts';
import type { LoraSource } from '../compile/options.ts';
import { openData } from '../data/open-data.ts';
import { sessionInputs } from '../inspect/model-inputs.ts';
import { type OpenGraph, openGraph } from '../inspect/open-graph.ts';
import { CompilerError } from '../errors.ts';
import { compareNodes, type NodeError } from './compare-nodes.ts';
import { firstDivergence } from './first-divergence.ts';
import { cleanedLike } from './cleaned-like.ts';

export interface DebugOptions {
  /** The model that is right: an `.onnx` file, a folder, or a pack. */
  readonly against: string;
  /** As `openData` reads it. */
  readonly data: string;
  /** Rules for a folder of pictures or sound. */
  readonly preprocess?: string | undefined;
  /** Adapters that were merged into what is debugged, to be merged into the right one too. */
  readonly lora?: readonly LoraSource[] | undefined;
  /** As for `compile`. */
  readonly loraMap?: string | undefined;
  /** Samples that are run at most. Default 4. */
  readonly samples?: number | undefined;
  /** A node whose own error leaves less than this parts. Default: found from the other nodes. */
  readonly floorDb?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { step: string; done: number; total: number | undefined }) => void) | undefined;
}

/** What `flotilla debug --json` prints. */
export interface DebugReport {
  readonly path: string;
  readonly against: string;
  readonly samples: number;
  /** Of the model's nodes that give float values, those that were found in both. */
  readonly matched: number;
  readonly unmatched: readonly string[];
  /** What a node must keep of its own values to count as one of the others. */
  readonly floorDb: number;
  /** The first node whose own error is out of line; null where none is. */
  readonly firstDivergence: NodeError | null;
  /** In the graph's order. */
  readonly nodes: readonly NodeError[];
}

/**
 * Runs two models on the same samples, matches their values, and names the first node where they part. Beside the error
 * that has piled up at each node stands the node's own: what it errs when it is given the right model's values.
 * @throws {CompilerError} `compiler/data`, `compiler/calibration`, `compiler/graph` where no value matches
 */
export async function debug(path: string, options: DebugOptions): Promise<DebugReport> {
  const { against, samples = 4, signal, onProgress } = options;
  const suspect = await openGraph(path, signal);
  const right = await openGraph(against, signal).catch(async (error: unknown) => {
    await suspect.close();
    throw error;
  });
  try {
    const inputs = sessionInputs(right.model);
    const data = calibrationData(
      await openData(options.data, { inputs, preprocess: options.preprocess }),
      inputs,
      right.tokenizer ?? suspect.tokenizer,
    );
    await merge(right, options);
    onProgress?.({ step: 'clean-up', done: 0, total: undefined });
    const cleaned = await cleanedLike(right.model, suspect.report, data, signal);
    const found = await compareNodes(suspect.model, [...cleaned, right.model], data, {
      most: samples,
      signal,
      progress: (step, done, total) => onProgress?.({ step, done, total }),
    });
    const { floorDb, first } = firstDivergence(found.nodes, options.floorDb);
    return {
      path,
      against,
      samples: found.samples,
      matched: found.nodes.length,
      unmatched: found.unmatched,
      floorDb,
      firstDivergence: first,
      nodes: found.nodes,
    };
  } finally {
    await suspect.close();
    await right.close();
  }
}

async function merge({ model, folder, path }: OpenGraph, { lora = [], loraMap }: DebugOptions): Promise<void> {
  if (lora.length === 0) return;
  if (!folder)
    throw new CompilerError('compiler/graph', `${path} is a pack: adapters go into the model it was made from`);
  await mergeAdapters({ model, folder }, { lora, loraMap, loraAnyBase: true });
}
