import { type Graph, floats, type Model } from '@flotilla/onnx';

/** The real interval that the integers of each quantized activation cover, by the value that is quantized. */
export function chosenRanges({ graph }: Model): ReadonlyMap<string, { readonly min: number; readonly max: number }> {
  const ranges = new Map<string, { min: number; max: number }>();
  for (const node of graph.walk({ opType: 'QuantizeLinear' })) {
    const [value = ''] = node.inputs;
    const scale = scalar(node.graph, node.inputs[1]);
    if (scale === undefined || value === '' || ranges.has(value)) continue;
    const zeroPoint = scalar(node.graph, node.inputs[2]) ?? 0;
    const [low, high] = LIMITS[node.graph.constant(node.inputs[2] ?? '')?.dtype ?? 'uint8'] ?? [0, 255];
    ranges.set(value, { min: (low - zeroPoint) * scale, max: (high - zeroPoint) * scale });
  }
  return ranges;
}

function scalar(graph: Graph, name: string | undefined): number | undefined {
  const tensor = name ? graph.constant(name) : undefined;
  return tensor && tensor.dims.every((dim) => dim === 1) ? floats(tensor)[0] : undefined;
}

/** The zero point's type is the integers'; without one they are uint8. */
const LIMITS: { readonly [dtype: string]: readonly [number, number] } = {
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65_535],
  int16: [-32_768, 32_767],
};
