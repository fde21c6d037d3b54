import type { Graph } from '@flotilla/onnx';
import { chooseRange, type Observer, type Range } from '@flotilla/quant';
import type { Calibration } from '../../calibrate/calibration.ts';
import { isMove, type PlanOptions, planInt8, rereading } from './plan.ts';

export interface ObserverChoice {
  readonly observer: Observer;
  readonly percentile: number;
}

/** How a range becomes an interval of integers. */
export interface IntervalChoice extends ObserverChoice {
  readonly symmetric: boolean;
}

/**
 * The values whose distribution a static int8 conversion asks for: what goes into integers, and what comes out of each
 * node that chooses an interval of its own. Values that are read off another's integers follow from those.
 */
export function observedValues(graph: Graph, plans: readonly Omit<PlanOptions, 'isObserved'>[]): string[] {
  const values = new Set<string>();
  for (const plan of plans) addObserved(graph, plan, values);
  return [...values].filter((value) => value !== '' && !graph.constant(value));
}

function addObserved(graph: Graph, plan: Omit<PlanOptions, 'isObserved'>, values: Set<string>): void {
  const { roles } = planInt8(graph, { ...plan, isObserved: () => true });
  for (const [node, role] of roles) {
    const [input = ''] = node.inputs;
    const [output = ''] = node.outputs;
    const producer = graph.producer(input);
    if (role.kind === 'core') {
      const from = producer && roles.get(producer);
      // What a stored node gives is float as well.
      if (!from || from.kind === 'stored') values.add(input);
      const [first] = graph.consumers(output);
      if (!first || roles.get(first)?.kind !== 'saturate') values.add(output);
    }
    if (role.kind === 'compute' || role.kind === 'saturate') values.add(output);
  }
}

/** What was observed of a value, or follows from what was observed of the one it is read off; undefined for neither. */
export function rangeOf(
  graph: Graph,
  value: string,
  calibration: Calibration,
  choice: ObserverChoice,
): Range | undefined {
  const histogram = calibration.histogram(value);
  if (histogram) return chooseRange(histogram, choice.observer, { percentile: choice.percentile });
  const producer = graph.producer(value);
  if (producer && isMove(producer)) return rangeOf(graph, producer.inputs[0] ?? '', calibration, choice);
  if (producer?.opType === 'HardSigmoid' || producer?.opType === 'Sigmoid') return { min: 0, max: 1 };
  const affine = rereading(producer);
  const range = affine && rangeOf(graph, affine.of, calibration, choice);
  if (!range) return undefined;
  const ends = [range.min, range.max].map((end) => affine.scale * end + affine.shift);
  return { min: Math.min(...ends), max: Math.max(...ends) };
}
