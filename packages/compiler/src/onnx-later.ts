import type { Graph, Model, ValueType } from '@flotilla/onnx';
export function checkModel(_m: Model): void {}
export function inferTypes(graph: Graph): ReadonlyMap<string, ValueType> {
  const types = new Map<string, ValueType>();
  for (const i of graph.inputs) if (i.type) types.set(i.name, i.type);
  const t = (n: string): ValueType | undefined => {
    const c = graph.constant(n);
    return types.get(n) ?? (c && { dtype: c.dtype, dims: c.dims });
  };
  for (const n of graph.nodes) {
    const a = t(n.inputs[0] ?? '');
    const out = n.outputs[0] ?? '';
    if (
      [
        'Conv',
        'Relu',
        'BatchNormalization',
        'Clip',
        'HardSigmoid',
        'Sigmoid',
        'GlobalAveragePool',
        'AveragePool',
        'MaxPool',
        'Softmax',
        'Transpose',
        'ReduceMean',
        'Sqrt',
        'ConvTranspose',
        'Resize',
      ].includes(n.opType)
    ) {
      if (a?.dims) types.set(out, { dtype: a.dtype, dims: a.dims.map(() => undefined) });
    } else if (['Add', 'Mul', 'Sub', 'Div', 'Pow'].includes(n.opType)) {
      const b = t(n.inputs[1] ?? '');
      if (a?.dims && b?.dims)
        types.set(out, { dtype: a.dtype, dims: (a.dims.length > b.dims.length ? a : b).dims!.map(() => undefined) });
    } else if (n.opType === 'MatMul' && a?.dims) types.set(out, { dtype: a.dtype, dims: a.dims.map(() => undefined) });
    else if (n.opType === 'Cast')
      types.set(out, {
        dtype: n.int('to', 0) === 7 ? 'int64' : n.int('to', 0) === 6 ? 'int32' : 'float32',
        dims: a?.dims,
      });
    else if (n.opType === 'Shape') types.set(out, { dtype: 'int64', dims: [undefined] });
    else if (n.opType === 'Reshape') {
      const s = t(n.inputs[1] ?? '');
      if (a && typeof s?.dims?.[0] === 'number')
        types.set(out, { dtype: a.dtype, dims: Array(s.dims[0]).fill(undefined) });
    } else if (n.opType === 'Concat' && a?.dims) types.set(out, { dtype: a.dtype, dims: a.dims.map(() => undefined) });
    else if (n.opType === 'Slice' && a?.dims) types.set(out, { dtype: a.dtype, dims: a.dims.map(() => undefined) });
  }
  return types;
}
