import { floats, type Graph, integers, type Tensor } from '@flotilla/onnx';

/**
 * Whether a mask can only be the causal one: computed from integer inputs (positions, a mask of tokens), from shapes and
 * from small constants. A window or a bias by distance shows as another constant. What is left to chance, a comparison
 * of numbers on real inputs decides.
 */
export function looksCausal(graph: Graph, mask: string): boolean {
  const seen = new Set<string>();
  const open = [mask];
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    if (value === '' || seen.has(value)) continue;
    seen.add(value);
    const tensor = graph.constant(value);
    if (tensor) {
      if (!fitsCausal(tensor)) return false;
      continue;
    }
    const node = graph.producer(value);
    if (node) {
      if (node.subgraphs.length > 0 || node.domain !== '') return false;
      if (node.opType !== 'Shape') open.push(...node.inputs);
    } else if (graph.inputs.find(({ name }) => name === value)?.type?.dtype === 'float32') return false;
  }
  return graph.constant(mask) === undefined;
}

/** Axes and indices, "none" and "all", and triangles; no other number has a place in a causal mask. */
function fitsCausal(tensor: Tensor): boolean {
  const count = tensor.dims.reduce((all, dim) => all * dim, 1);
  if (tensor.dtype === 'float32') return count === 1 || isTriangle(tensor, (at) => (floats(tensor)[at] ?? 0) === 0);
  if (tensor.dtype === 'bool') {
    const bytes = tensor.bytes();
    return count === 1 || isTriangle(tensor, (at) => bytes[at] !== 0) || isTriangle(tensor, (at) => bytes[at] === 0);
  }
  if (count > 8) return false;
  return [...integers(tensor)].every((value) => Math.abs(value) <= 4 || Math.abs(value) >= 2 ** 31 - 1);
}

/** True on and below the diagonal of the last two axes, false above it. */
function isTriangle(tensor: Tensor, open: (at: number) => boolean): boolean {
  const [rows = 0, cols = 0] = tensor.dims.slice(-2);
  if (rows !== cols || tensor.dims.slice(0, -2).some((dim) => dim !== 1)) return false;
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) if (open(r * cols + c) !== c <= r) return false;
  return true;
}
