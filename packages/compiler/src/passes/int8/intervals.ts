import type { Graph, Node } from '@flotilla/onnx';
import { hardSwishRange, type Range, symmetricUint8Range, type Uint8Range, uint8Range } from '@flotilla/quant';
import type { Calibration } from '../../calibrate/calibration.ts';
import { type IntervalChoice, rangeOf } from './observed.ts';
import type { Role } from './plan.ts';

const nothing: Range = { min: 0, max: 0 };

/**
 * The uint8 interval for a value that chooses its own: what was observed of it, cut to what its readers keep of it.
 * A Relu behind it moves the lower end to 0, a gate puts q = 0 where the gate closes, a sum read off the same integers
 * needs its own 0 inside.
 */
export function intervalOf(
  graph: Graph,
  value: string,
  roles: ReadonlyMap<Node, Role>,
  calibration: Calibration,
  choice: IntervalChoice,
): Uint8Range {
  const readers = graph.consumers(value);
  const [first] = readers;
  const saturate = first && roles.get(first);
  if (first && saturate?.kind === 'saturate') {
    const [kept = ''] = first.outputs;
    const range = rangeOf(graph, kept, calibration, choice) ?? nothing;
    // A bound that is reached at all is where the integers end; elsewhere they would not cut.
    const min = Number.isFinite(saturate.least) ? saturate.least : range.min;
    const max = Math.min(range.max, saturate.most);
    const cut = holdingZeros(graph, kept, roles, { min, max: Math.max(max, min) });
    return alignedToSum(graph, kept, roles, cut, choice);
  }
  const gate = readers.map((reader) => roles.get(reader)).find((role) => role?.kind === 'gate');
  const range = rangeOf(graph, value, calibration, choice) ?? nothing;
  if (gate?.kind === 'gate') {
    const alone = readers.length === 1;
    // Without a product to feed, nothing beyond the open gate is of interest.
    return hardSwishRange(alone ? 0.5 / gate.slope : range.max, gate.slope);
  }
  return alignedToSum(graph, value, roles, holdingZeros(graph, value, roles, range), choice);
}

/** Widens an interval so that 0 of every sum read off the same integers lies inside too. */
function holdingZeros(graph: Graph, value: string, roles: ReadonlyMap<Node, Role>, range: Range): Range {
  let { min, max } = range;
  for (const reader of graph.consumers(value)) {
    const role = roles.get(reader);
    if (role?.kind !== 'reread') continue;
    // The reader computes scale · x + shift; its interval, seen from x.
    const [output = ''] = reader.outputs;
    const inner = holdingZeros(graph, output, roles, {
      min: role.scale * min + role.shift,
      max: role.scale * max + role.shift,
    });
    const zero = -role.shift / role.scale;
    min = Math.min(min, zero, (inner.min - role.shift) / role.scale);
    max = Math.max(max, zero, (inner.max - role.shift) / role.scale);
  }
  return { min, max };
}

/**
 * Where a constant is added to the same integers, the step is stretched or shrunk until the constant is a whole number of
 * steps. Else up to half a step would be left over. A bias takes that, but not at the edges of a padded convolution, and
 * in a picture three rows high every pixel lies at one.
 */
function alignedToSum(
  graph: Graph,
  value: string,
  roles: ReadonlyMap<Node, Role>,
  range: Range,
  { symmetric }: IntervalChoice,
): Uint8Range {
  const plain = symmetric ? symmetricUint8Range(range) : uint8Range(range);
  for (const reader of graph.consumers(value)) {
    const role = roles.get(reader);
    if (role?.kind !== 'reread' || role.shift === 0) continue;
    const shift = Math.abs(role.shift / role.scale);
    const steps = Math.round(shift / plain.scale);
    if (steps < 1) continue;
    const scale = Math.fround(shift / steps);
    const zeroPoint = symmetric ? plain.zeroPoint : Math.round(-Math.min(range.min, 0) / scale);
    return { scale, zeroPoint: Math.max(0, Math.min(255, zeroPoint)) };
  }
  return plain;
}
