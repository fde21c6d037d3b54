import type { DataType, Dim } from '../types.ts';
import { each, likeFirst } from './elementwise.ts';
import { broadcast, type Fact, type Op, type Rules, single, unknowns } from './op.ts';

/** Matrix products, their quantized forms included, and what belongs to attention and recurrence. */
export const products: Rules = {
  MatMul: single((op) => matMul(op, op.dtype(0), op.dims(1))),
  FusedMatMul: single((op) => ({ dtype: op.dtype(0), dims: undefined })),
  MatMulInteger: single((op) => matMul(op, 'int32', op.dims(1))),
  QLinearMatMul: single((op) => matMul(op, op.dtype(7), op.dims(3))),
  DynamicQuantizeMatMul: single((op) => matMul(op, 'float32', op.dims(1))),
  MatMulIntegerToFloat: single((op) => matMul(op, op.dtype(2), op.dims(1))),
  MatMulNBits: single((op) => ({
    dtype: op.dtype(0),
    dims: op.dims(0)?.with(-1, op.node.int('N', 0)),
  })),
  Gemm: single((op) => gemm(op, op.dtype(0), op.dims(1))),
  QGemm: single((op) => gemm(op, op.has(8) ? op.dtype(8) : op.dtype(0), op.dims(3))),
  Attention: single(attention),
  GroupQueryAttention: (op) => [likeFirst(op)],
  ...each('SkipLayerNormalization SkipSimplifiedLayerNormalization')((op) => [
    likeFirst(op),
    undefined,
    undefined,
    likeFirst(op),
  ]),
  LSTM: (op) => recurrent(op, 3),
  GRU: (op) => recurrent(op, 2),
  RNN: (op) => recurrent(op, 2),
};

/** @see numpy.matmul, which ONNX refers to: a vector gains an axis that is dropped again */
function matMul(op: Op, dtype: DataType | undefined, b: readonly Dim[] | undefined): Fact {
  const a = op.dims(0);
  if (a === undefined || b === undefined || a.length === 0 || b.length === 0) return { dtype, dims: undefined };
  const left = a.length === 1 ? [1, ...a] : a;
  const right = b.length === 1 ? [...b, 1] : b;
  const batch = broadcast([left.slice(0, -2), right.slice(0, -2)]) ?? [];
  const rows = a.length === 1 ? [] : [left.at(-2)];
  const columns = b.length === 1 ? [] : [right.at(-1)];
  return { dtype, dims: [...batch, ...rows, ...columns] };
}

function gemm(op: Op, dtype: DataType | undefined, b: readonly Dim[] | undefined): Fact {
  const rows = op.dims(0)?.[op.node.int('transA', 0) === 0 ? 0 : 1];
  const columns = b?.[op.node.int('transB', 0) === 0 ? 1 : 0];
  return { dtype, dims: [rows, columns] };
}

/** ONNX Runtime's operator of that name reads [batch, sequence, width] and weights of Q, K and V side by side. */
function fusedAttention(op: Op): Fact {
  const sizes = op.node.ints('qkv_hidden_sizes', []);
  const width = sizes[2] ?? divided(op.dims(1)?.at(-1), 3);
  return { dtype: op.dtype(0), dims: op.dims(0)?.with(-1, width) };
}

const divided = (length: Dim, by: number): Dim => (typeof length === 'number' ? length / by : undefined);

/** @see Attention-23: heads may be wider in V than in Q; in three axes they are laid out in the last one */
function attention(op: Op): Fact {
  if (op.node.domain === 'com.microsoft') return fusedAttention(op);
  const query = op.dims(0);
  const width = op.dims(2)?.at(-1);
  const heads = op.node.int('q_num_heads', 1) / op.node.int('kv_num_heads', 1);
  const last = typeof width === 'number' ? width * (query?.length === 3 ? heads : 1) : undefined;
  return { dtype: op.dtype(0), dims: query?.with(-1, last) };
}

/** @see LSTM-22: Y [sequence, directions, batch, hidden], then the last states */
function recurrent(op: Op, outputs: number): readonly Fact[] {
  const dtype = op.dtype(0);
  const batchFirst = op.node.int('layout', 0) === 1;
  const [sequence, batch] = batchFirst ? [op.dims(0)?.[1], op.dims(0)?.[0]] : (op.dims(0) ?? unknowns(2));
  const directions = op.dims(1)?.[0];
  const hidden = op.node.attributes.has('hidden_size') ? op.node.int('hidden_size', 0) : op.dims(2)?.[2];
  const y = batchFirst ? [batch, sequence, directions, hidden] : [sequence, directions, batch, hidden];
  const state = batchFirst ? [batch, directions, hidden] : [directions, batch, hidden];
  return [{ dtype, dims: y }, ...Array.from({ length: outputs - 1 }, () => ({ dtype, dims: state }))];
}
