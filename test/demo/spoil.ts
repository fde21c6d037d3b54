import { cloneModel, type Graph, type Model, tensorFromFloats } from '@flotilla/onnx';

/**
 * The same model with its last weights three times as large: it loads and runs as fast as before, and answers wrong.
 * What a release built from the wrong checkpoint looks like to a device.
 */
export function withWrongWeights(model: Model, floatsOf: (name: string) => Float32Array): Model {
  const spoilt = cloneModel(model);
  const { graph } = spoilt;
  const dequantize = [...graph.walk({ opType: 'DequantizeLinear' })].findLast((node) => {
    const [weights = '', scale = ''] = node.inputs;
    return graph.constant(weights) !== undefined && (graph.constant(scale)?.dims.length ?? 0) > 0;
  });
  const scale = dequantize?.inputs[1];
  const dims = graph.constant(scale ?? '')?.dims;
  if (dequantize === undefined || scale === undefined || dims === undefined)
    throw new Error('the model has no quantized weights to spoil');
  const name = graph.uniqueName('wrong_scale');
  graph.addInitializer(
    name,
    tensorFromFloats(
      dims,
      floatsOf(scale).map((value) => value * 3),
    ),
  );
  dequantize.setInput(1, name);
  return spoilt;
}

const SIZE = 256;

/**
 * The same model with ballast: a chain of matrix products whose result is multiplied by zero and added to the output.
 * Right answers, many times slower: what an unlucky graph or a missing kernel looks like to a device.
 * @param products how many 256 × 256 products to add; each costs 33.6 million floating-point operations
 */
export function withBallast(model: Model, products: number): Model {
  const slow = cloneModel(model);
  const { graph } = slow;
  const [input] = graph.inputs;
  const [output] = graph.outputs;
  if (input === undefined || output === undefined) throw new Error('the model has no input or output');
  const ballast = addProducts(graph, input.name, products);
  const zero = add(graph, 'Mul', [ballast, constant(graph, 'zero', [0])]);
  const slowed = graph.uniqueName('before_ballast');
  const maker = graph.producer(output.name);
  if (maker === undefined) throw new Error(`nothing makes ${output.name}`);
  maker.setOutput(maker.outputs.indexOf(output.name), slowed);
  graph.addNode({ opType: 'Add', inputs: [slowed, zero], outputs: [output.name] });
  return slow;
}

/** mean(input) spread over a 256 × 256 matrix, multiplied on and on; a scalar comes out. */
function addProducts(graph: Graph, input: string, products: number): string {
  const mean = add(graph, 'ReduceMean', [input], { keepdims: { int: 0 } });
  const factor = constant(
    graph,
    'factor',
    Array.from({ length: SIZE * SIZE }, (_, i) => (i % 7) / (3 * SIZE)),
    [SIZE, SIZE],
  );
  let value = add(graph, 'Mul', [factor, mean]);
  for (let i = 0; i < products; i++) value = add(graph, 'MatMul', [value, factor]);
  return add(graph, 'ReduceMean', [value], { keepdims: { int: 0 } });
}

function add(
  graph: Graph,
  opType: string,
  inputs: readonly string[],
  attributes?: { readonly [name: string]: { readonly int: number } },
): string {
  const output = graph.uniqueName(`ballast_${opType}`);
  graph.addNode({ opType, inputs, outputs: [output], ...(attributes && { attributes }) });
  return output;
}

function constant(graph: Graph, prefix: string, values: readonly number[], dims: readonly number[] = []): string {
  const name = graph.uniqueName(`ballast_${prefix}`);
  graph.addInitializer(name, tensorFromFloats(dims, Float32Array.from(values)));
  return name;
}
