import { cloneModel, type Model } from '@flotilla/onnx';
import { openModelSession } from '../calibrate/model-session.ts';
import { CompilerError } from '../errors.ts';
import type { CalibrationData } from '../runner.ts';
import { channelAxes, channelAxis } from './channel-axes.ts';
import { type Distribution, DistributionWatch } from './distribution.ts';
import { exposeValues } from './expose.ts';
import { fetchInGroups } from './fetch-in-groups.ts';
import { type ActivationLosses, activationLosses } from './losses.ts';

/** One activation over the calibration data. */
export interface ActivationReport extends Distribution {
  readonly name: string;
  /** The node that makes it; '' for an input of the model. */
  readonly node: string;
  readonly op: string;
  readonly sqnrDb: ActivationLosses;
}

export interface ObserveOptions {
  /** Samples that are run at most. Default 16. */
  readonly most?: number | undefined;
  readonly bins: number;
  /** Each channel's own figures too. */
  readonly detail?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((done: number, total: number | undefined) => void) | undefined;
}

/**
 * Distribution of every float value of a model over samples of any shape, in the graph's order. The samples stream:
 * memory holds one sample's values (at most 256 MB of them at once) and a histogram of fixed size for each.
 * @throws {CompilerError} `compiler/calibration` where there is no sample, or one does not run
 */
export async function observeActivations(
  model: Model,
  data: CalibrationData,
  options: ObserveOptions,
): Promise<{ readonly samples: number; readonly activations: readonly ActivationReport[] }> {
  const { most = 16, bins, detail, signal, progress } = options;
  const probe = cloneModel(model);
  const axes = channelAxes(probe.graph);
  const exposed = exposeValues(probe);
  const watches = new Map<string, DistributionWatch>();
  const session = await openModelSession(probe);
  const byOutput = new Map(exposed.map((one) => [one.output, one]));
  const floatInputs = session.inputs.filter(({ dtype }) => dtype === 'float32').map(({ name }) => name);
  const floatOutputs = session.outputs.filter(({ name, dtype }) => dtype === 'float32' && byOutput.has(name));
  let count = 0;
  try {
    const fetch = fetchInGroups(
      session,
      floatOutputs.map(({ name }) => name),
    );
    for await (const { inputs } of data.samples()) {
      signal?.throwIfAborted();
      const observe = (name: string, tensor: (typeof inputs)[string] | undefined): void => {
        if (tensor?.dtype !== 'float32' || tensor.data.length === 0) return;
        let watch = watches.get(name);
        if (!watch) watches.set(name, (watch = new DistributionWatch()));
        const axis = channelAxis(axes.get(byOutput.get(name)?.value ?? name), tensor.dims.length);
        watch.observe(tensor.data, tensor.dims, axis, count);
      };
      for (const name of floatInputs) observe(name, inputs[name]);
      await fetch(inputs, observe, count);
      count++;
      progress?.(count, most);
      if (count === most) break;
    }
  } finally {
    await session.close();
  }
  if (count === 0)
    throw new CompilerError('compiler/calibration', 'there is no sample to observe', {
      hint: 'give --data with samples',
    });
  const named = [...floatInputs.map((name) => ({ output: name, key: name, node: undefined })), ...exposed];
  const activations = named.flatMap(({ output, key, node }): ActivationReport[] => {
    const watch = watches.get(output);
    if (!watch) return [];
    const of = { name: key, node: node ? node.name || (node.outputs[0] ?? '') : '', op: node?.opType ?? 'input' };
    return [{ ...of, ...watch.report(bins, detail), sqnrDb: activationLosses(watch) }];
  });
  return { samples: count, activations };
}
