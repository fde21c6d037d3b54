import { describe, expect, test } from 'vitest';
import {
  buildModel,
  checkModel,
  decodeModel,
  encodeModel,
  type NewNode,
  type NewTensor,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
} from '../src/index.ts';
import { expectCode, field, input, int, model, node, output, reluModel, tensor } from './raw.ts';

const check = (bytes: Uint8Array) => checkModel(decodeModel(bytes));

test('a good model passes', () => check(reluModel()));

test('#9 functions that call each other in a ring are refused', () => {
  const fn = (name: string, calls: string) =>
    field(25, field(1, name), field(10, 'own'), field(7, field(4, calls), field(7, 'own')));
  check(Buffer.concat([reluModel(), fn('a', 'b'), fn('b', 'c'), fn('c', 'd')]));
  expectCode(
    () => check(Buffer.concat([reluModel(), fn('a', 'b'), fn('b', 'c'), fn('c', 'a')])),
    'onnx/cycle',
    /calls itself/,
  );
});

test('#17 a cycle is refused', () => {
  const bytes = model(node('Add', ['x', 'b'], ['a']), node('Relu', ['a'], ['b']), input('x'), output('b'));
  expectCode(() => check(bytes), 'onnx/cycle', /Add "a" and Relu "b"/);
});

test('#17 nodes out of order are refused by name', () => {
  const bytes = model(node('Relu', ['h'], ['y']), node('Neg', ['x'], ['h']), input('x'), output('y'));
  expectCode(() => check(bytes), 'onnx/order', /Relu "y" stands before Neg "h"/);
});

test('#17 a ring of 100,000 nodes is found without recursion', () => {
  const ring = Array.from({ length: 100_000 }, (_, i) => node('Relu', [`v${i}`], [`v${(i + 1) % 100_000}`]));
  expectCode(() => check(model(Buffer.concat(ring), output('v0'))), 'onnx/cycle');
});

describe('#18 one name, one value', () => {
  const body = (inner: string) =>
    field(5, field(1, 'then_branch'), field(6, node('Relu', ['x'], [inner]), output(inner)), int(20, 5));
  test.each([
    ['two nodes make it', model(node('Relu', ['x'], ['y']), node('Neg', ['x'], ['y']), input('x'), output('y'))],
    ['a node makes an input', model(node('Relu', ['x'], ['x']), input('x'), output('x'))],
    ['a node makes an initializer', reluModel(tensor('y', [1]))],
    ['two initializers', reluModel(tensor('w', [1]), tensor('w', [1]))],
    ['two inputs', reluModel(input('x'))],
    [
      'a body makes an outer value',
      model(node('Neg', ['x'], ['h']), node('If', ['x'], ['y'], body('h')), input('x'), output('y')),
    ],
  ])('%s: refused', (_, bytes) => expectCode(() => check(bytes), 'onnx/duplicate'));

  test('bodies beside each other may share names', () => {
    const other = field(5, field(1, 'else_branch'), field(6, node('Neg', ['x'], ['h']), output('h')), int(20, 5));
    check(model(node('If', ['c'], ['y'], body('h'), other), input('x'), input('c'), output('y')));
  });

  test('an initializer may be the default of an input, of its own type only', () => {
    const typed = (code: number) =>
      field(11, field(1, 'w'), field(2, field(1, int(1, code), field(2, field(1, int(1, 1))))));
    check(reluModel(tensor('w', [1]), typed(1)));
    expectCode(() => check(reluModel(tensor('w', [1]), typed(7))), 'onnx/data-type', /which its input is not/);
    expectCode(() => check(reluModel(tensor('w', [2]), typed(1))), 'onnx/data-type');
  });
});

test('#19 what nothing makes is refused; a left-out optional input is kept', () => {
  expectCode(
    () => check(model(node('Relu', ['z'], ['y']), input('x'), output('y'))),
    'onnx/undefined-value',
    /Relu "y" reads "z"/,
  );
  expectCode(() => check(reluModel(output('z'))), 'onnx/undefined-value', /output "z"/);
  const optional = model(node('Clip', ['x', '', 'x'], ['y', '']), input('x'), output('y'));
  check(optional);
  expect(Buffer.from(encodeModel(decodeModel(optional)))).toEqual(optional);
});

describe('#20 operator sets', () => {
  const withOpset = (...imports: Buffer[]) =>
    Buffer.concat([int(1, 8), ...imports, field(7, node('Relu', ['x'], ['y']), input('x'), output('y'))]);
  test('none is refused', () => expectCode(() => check(withOpset()), 'onnx/opset', /no operator set/));
  test('9999 is refused', () =>
    expectCode(() => check(withOpset(field(8, int(2, 9999)))), 'onnx/opset', /28 is the newest/));
  test('1 is refused', () => expectCode(() => check(withOpset(field(8, int(2, 1)))), 'onnx/opset', /5 is the oldest/));
  test('an unknown domain is kept', () => {
    const bytes = Buffer.concat([
      withOpset(field(8, int(2, 17)), field(8, field(1, 'org.example'), int(2, 9999))),
      field(7, node('Sparkle', ['y'], ['z'], field(7, 'org.example'))),
    ]);
    check(bytes);
    expect(Buffer.from(encodeModel(decodeModel(bytes)))).toEqual(bytes);
  });
});

describe('#21 quantization parameters', () => {
  const quantized = (
    parts: { scale?: NewTensor; zero?: NewTensor; attributes?: NewNode['attributes'] },
    opType = 'DequantizeLinear',
  ) =>
    buildModel({
      opset: 21,
      inputs: [],
      outputs: [tensorInfo('y', 'float32', undefined)],
      nodes: [
        {
          opType,
          name: 'dq',
          inputs: ['q', 's', ...(parts.zero ? ['z'] : [])],
          outputs: ['y'],
          attributes: parts.attributes,
        },
      ],
      initializers: {
        q: tensorFromInts('int8', [4, 6], new Array(24).fill(1)),
        s: parts.scale ?? tensorFromFloats([], [0.5]),
        ...(parts.zero ? { z: parts.zero } : {}),
      },
    });
  const bad = (parts: Parameters<typeof quantized>[0], message: RegExp) =>
    expectCode(() => checkModel(quantized(parts)), 'onnx/quant', message);

  test.each([0, -1, Number.POSITIVE_INFINITY, 1e-40])('a scale of %d is refused', (scale) =>
    bad({ scale: tensorFromFloats([], [scale]) }, /DequantizeLinear "dq" has a scale of/),
  );
  test('a scale of NaN is refused', () => {
    const parts = { scale: tensorFromFloats([], [Number.NaN]) };
    expectCode(() => checkModel(quantized(parts)), 'onnx/not-finite');
    expectCode(() => checkModel(quantized(parts), { allowNan: true }), 'onnx/quant', /scale of NaN/);
  });
  test('a zero point outside the type is refused', () => {
    bad({ zero: tensorFromInts('uint8', [], [200]) }, /zero point of uint8 for int8/);
    bad({ zero: tensorFromInts('int8', [2], [0, 0]) }, /zero point of shape \[2\]/);
  });
  test('axis 7 is refused', () =>
    bad({ scale: tensorFromFloats([4], [1, 1, 1, 1]), attributes: { axis: { int: 7 } } }, /axis 7 in 2 dimensions/));
  test('scales of another count are refused', () =>
    bad({ scale: tensorFromFloats([3], [1, 1, 1]), attributes: { axis: { int: 0 } } }, /3 scales for 4 channels/));
  test.each([0, -2, 5])('a block size of %d is refused', (size) =>
    bad(
      {
        scale: tensorFromFloats([2, 6], new Array(12).fill(1)),
        attributes: { axis: { int: 0 }, block_size: { int: size } },
      },
      size === 5 ? /2 scales along axis 0 for 4 in blocks of 5/ : /block size of/,
    ),
  );
  test('good ones pass: per tensor, per channel, in blocks', () => {
    checkModel(quantized({ zero: tensorFromInts('int8', [], [-3]) }));
    checkModel(quantized({ scale: tensorFromFloats([6], new Array(6).fill(1)) }));
    checkModel(
      quantized({
        scale: tensorFromFloats([2, 6], new Array(12).fill(1)),
        attributes: { axis: { int: 0 }, block_size: { int: 2 } },
      }),
    );
  });
  test('MatMulNBits', () => {
    const nbits = (attributes: NonNullable<NewNode['attributes']>) =>
      buildModel({
        opset: 21,
        domains: { 'com.microsoft': 1 },
        inputs: [tensorInfo('x', 'float32', [1, 32])],
        outputs: [tensorInfo('y', 'float32', [1, 2])],
        nodes: [
          { opType: 'MatMulNBits', domain: 'com.microsoft', inputs: ['x', 'b', 's'], outputs: ['y'], attributes },
        ],
        initializers: {
          b: tensorFromInts('uint8', [2, 1, 16], new Array(32).fill(0)),
          s: tensorFromFloats([2], [1, 1]),
        },
      });
    const good = { K: { int: 32 }, N: { int: 2 }, bits: { int: 4 }, block_size: { int: 32 } };
    checkModel(nbits(good));
    for (const wrong of [
      { bits: { int: 3 } },
      { block_size: { int: 0 } },
      { block_size: { int: 24 } },
      { N: { int: 3 } },
    ])
      expectCode(() => checkModel(nbits({ ...good, ...wrong })), 'onnx/quant', /MatMulNBits "y"/);
  });
});

test('#21 a weight that is NaN is refused unless allowed; infinities are masks', () => {
  const weights = (value: number) =>
    reluModel(tensor('w', [3], int(2, 1), field(9, Buffer.from(Float32Array.of(1, value, 2).buffer))));
  check(weights(Number.NEGATIVE_INFINITY));
  expectCode(() => check(weights(Number.NaN)), 'onnx/not-finite', /"w" has a NaN at element 1/);
  checkModel(decodeModel(weights(Number.NaN)), { allowNan: true });
  const large = new Float32Array(600_000);
  large[500_001] = Number.NaN;
  expectCode(
    () => check(reluModel(tensor('w', [600_000], int(2, 1), field(9, Buffer.from(large.buffer))))),
    'onnx/not-finite',
    /at element 500001/,
  );
});

test('names that are not UTF-8 are refused, since two could be one', () => {
  const name = Buffer.from([0xff]);
  expectCode(
    () =>
      check(model(field(1, field(1, 'x'), field(2, name), field(4, 'Relu')), input('x'), field(12, field(1, name)))),
    'onnx/name',
  );
});
