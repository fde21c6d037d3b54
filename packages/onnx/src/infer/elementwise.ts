import { dataTypeOf } from '../data-types.ts';
import type { Dim } from '../types.ts';
import { broadcast, type Fact, type Op, type Rule, type Rules, single } from './op.ts';

/** Operators that work element by element, or keep the shape of their first input. */
export const elementwise: Rules = {
  ...each(
    'Abs Acos Acosh Asin Asinh Atan Atanh BatchNormalization BitwiseNot Ceil Celu Clip Cos Cosh CumSum Elu Erf Exp Floor',
    'Gelu GroupNormalization HardSigmoid HardSwish Hardmax InstanceNormalization LRN LayerNormalization LeakyRelu Log',
    'LogSoftmax LpNormalization MeanVarianceNormalization Mish Neg Not PRelu RMSNormalization Reciprocal Relu Round',
    'ScatterElements ScatterND Scatter Selu Shrink Sigmoid Sign SimplifiedLayerNormalization Sin Sinh Softmax Softplus',
    'Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu ReverseSequence RotaryEmbedding',
  )(single(likeFirst)),
  ...each('Identity')(single((op) => op.input(0))),
  ...each('Dropout')((op) => [likeFirst(op), { dtype: 'bool', dims: op.dims(0) }]),
  ...each('Pow Mod Max Min Sum Mean BitwiseAnd BitwiseOr BitwiseXor BitShift QLinearAdd QLinearMul')(
    single((op) => ({ dtype: op.dtype(0), dims: broadcastAll(op) })),
  ),
  ...each('And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual')(
    single((op) => ({ dtype: 'bool', dims: broadcastAll(op) })),
  ),
  ...each('IsNaN IsInf')(single((op) => ({ dtype: 'bool', dims: op.dims(0) }))),
  Add: arithmetic((a, b) => a + b, 0),
  Sub: arithmetic((a, b) => a - b, 0),
  Mul: arithmetic((a, b) => a * b, 1),
  // Integers are divided towards zero.
  Div: arithmetic((a, b) => (b === 0 ? undefined : Math.trunc(a / b)), 1),
  Where: single((op) => ({
    dtype: op.dtype(1) ?? op.dtype(2),
    dims: broadcast([op.dims(0), op.dims(1), op.dims(2)]),
  })),
  Cast: single((op) => ({
    dtype: dataTypeOf(op.node.int('to', 0)),
    dims: op.dims(0),
    values: /^u?int(32|64)$/.test(dataTypeOf(op.node.int('to', 0)) ?? '') ? op.values(0) : undefined,
  })),
  CastLike: single((op) => ({ dtype: op.dtype(1), dims: op.dims(0) })),
};

/** One rule for several operators. */
export function each(...lines: readonly string[]): (rule: Rule) => Rules {
  return (rule) => Object.fromEntries(lines.flatMap((line) => line.split(' ')).map((opType) => [opType, rule]));
}

export function likeFirst(op: Op): Fact {
  return { dtype: op.dtype(0), dims: op.dims(0) };
}

/** QLinearAdd and its like have scales between their operands, which are scalars. */
function broadcastAll(op: Op): readonly Dim[] | undefined {
  if (op.node.opType.startsWith('QLinear')) return broadcast([op.dims(0), op.dims(3)]);
  if (op.opset < 7 && op.node.int('broadcast', 0) === 1) return op.dims(0);
  return broadcast(op.node.inputs.map((_, i) => op.dims(i)));
}

function arithmetic(compute: (a: number, b: number) => number | undefined, neutral: number): Rule {
  return single((op) => ({
    dtype: op.dtype(0) ?? op.dtype(1),
    dims: broadcastAll(op),
    values: combine(op.values(0), op.values(1), compute, neutral),
  }));
}

/** A name survives only the neutral element: `n * 1`. */
function combine(
  a: readonly Dim[] | undefined,
  b: readonly Dim[] | undefined,
  compute: (a: number, b: number) => number | undefined,
  neutral: number,
): readonly Dim[] | undefined {
  if (a === undefined || b === undefined) return undefined;
  if (a.length !== b.length && a.length !== 1 && b.length !== 1) return undefined;
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i) => {
    const left = a.length === 1 ? a[0] : a[i];
    const right = b.length === 1 ? b[0] : b[i];
    if (typeof left === 'number' && typeof right === 'number') return compute(left, right);
    return right === neutral ? left : undefined;
  });
}
