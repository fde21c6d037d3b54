// Runs models as they are and rewritten (`names`: nothing but how they are written; `opset`: raised to 21), and compares the results
// with each other and with the reference outputs. Folders come on standard input, one a line (ONNX Runtime
// does not survive a very long command line); a line of JSON goes out before and after
// each, so that the caller knows which model took the process down. Runs on what was built.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cloneModel, decodeModel, encodeModel, openModel, strings } from '@flotilla/onnx';
import { applyRecipe, parseRecipe } from '@flotilla/compiler';
import ort from 'onnxruntime-node';

const toOpset21 = parseRecipe('name: opset\npasses: [{ pass: upgrade-opset, to: 21 }]');

/** What the binding takes; other types it has not. */
const ortTypes = {
  float32: { array: Float32Array },
  float64: { array: Float64Array },
  float16: { array: Uint16Array },
  int8: { array: Int8Array },
  uint8: { array: Uint8Array },
  int16: { array: Int16Array },
  uint16: { array: Uint16Array },
  int32: { array: Int32Array },
  uint32: { array: Uint32Array },
  int64: { array: BigInt64Array },
  uint64: { array: BigUint64Array },
  bool: { array: Uint8Array },
  string: {},
};

const [, , kind] = process.argv;
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function judge(folder) {
  const model = await openModel(join(folder, 'model.onnx'));
  const original = readFileSync(join(folder, 'model.onnx'));
  const cases = readdirSync(folder)
    .filter((name) => name.startsWith('test_data_set_'))
    .map((name) => readCase(join(folder, name), model));
  if (cases.length === 0 || cases.includes(undefined)) return { outcome: 'no tensors to compare with' };
  const before = await runAll(original, cases).catch((error) => error);
  if (before instanceof Error) return { outcome: 'refused by ONNX Runtime' };
  if (!before.every((outputs, i) => outputs.every((output, j) => isClose(output, cases[i].outputs[j]))))
    return { outcome: 'not equal to its reference in ONNX Runtime either' };
  const rewritten = kind === 'opset' ? await raise(model) : rewrite(model);
  if (typeof rewritten === 'string') return { outcome: 'refused', why: rewritten };
  if (Buffer.compare(rewritten, original) === 0) return { outcome: 'unchanged' };
  const after = await runAll(rewritten, cases).catch((error) => error);
  if (after instanceof Error) return { outcome: 'WRONG', why: after.message };
  // Another version may be another kernel.
  const equal = kind === 'opset' ? isClose : isSame;
  const same = after.every((outputs, i) => outputs.every((output, j) => equal(output, before[i][j])));
  return same ? { outcome: 'equal' } : { outcome: 'WRONG', why: 'other results' };
}

/** At opset 21; a refusal in words where there is no way. */
async function raise(model) {
  try {
    return encodeModel((await applyRecipe(model, toOpset21, { unrun: true })).model);
  } catch (error) {
    if (error.code !== 'compiler/opset') throw error;
    return error.message;
  }
}

/** Every attribute set to what it is, every value between nodes called otherwise, every initializer made anew. */
function rewrite(model) {
  const copy = cloneModel(model);
  for (const node of copy.graph.walk()) rewriteAttributes(node);
  for (const graph of graphsOf(copy.graph)) {
    for (const node of graph.nodes) renameOutputs(graph, node);
    for (const [name, tensor] of graph.initializers)
      if (tensor.dtype !== 'string') graph.addInitializer(name, { ...plain(tensor), bytes: tensor.bytes() });
  }
  return encodeModel(copy);
}

function rewriteAttributes(node) {
  for (const [name, { kind, value }] of node.attributes) {
    if (['graph', 'graphs', 'other'].includes(kind)) continue;
    // A string need not be text, and then only its bytes are right.
    if (kind.startsWith('string') && [value].flat().some((text) => text.includes('\uFFFD'))) continue;
    if (kind !== 'tensor') node.setAttribute(name, { [kind]: value });
    else if (value.dtype !== 'string') node.setAttribute(name, { tensor: { ...plain(value), bytes: value.bytes() } });
  }
}

function plain({ dtype, dims }) {
  return { dtype, dims };
}

function* graphsOf(graph) {
  yield graph;
  for (const node of graph.nodes) for (const body of node.subgraphs) yield* graphsOf(body);
}

function renameOutputs(graph, node) {
  for (const [i, name] of node.outputs.entries()) {
    if (name === '' || graph.isOutput(name)) continue;
    const fresh = graph.uniqueName(name);
    graph.replaceUses(name, fresh);
    node.setOutput(i, fresh);
  }
}

/** A case's tensors in ONNX Runtime's form; undefined if some are sequences, or of a type that its binding has not. */
function readCase(folder, model) {
  const files = readdirSync(folder).toSorted((a, b) => Number(a.match(/\d+/)) - Number(b.match(/\d+/)));
  const read = (kind) => files.filter((name) => name.startsWith(kind)).map((name) => readTensor(join(folder, name)));
  const wanted = model.graph.inputs.filter(({ name }) => model.irVersion >= 4 || !model.graph.initializers.has(name));
  const [inputs, outputs] = [read('input'), read('output')];
  const infos = [...wanted, ...model.graph.outputs];
  if ([...inputs, ...outputs].includes(undefined) || infos.some(({ type }) => type === undefined)) return undefined;
  if (inputs.length > wanted.length) return undefined;
  return { feeds: Object.fromEntries(inputs.map((tensor, i) => [wanted[i].name, tensor])), outputs };
}

/** A TensorProto file, read as the initializer of a model made around it. */
function readTensor(path) {
  const bytes = readFileSync(path);
  const initializer = field(5, bytes);
  try {
    const model = decodeModel(Buffer.concat([field(8, Buffer.from([16, 17])), field(7, initializer)]));
    const [tensor] = model.graph.initializers.values();
    const type = ortTypes[tensor.dtype];
    if (type === undefined) return undefined;
    const data = tensor.dtype === 'string' ? strings(tensor) : new type.array(tensor.bytes().slice().buffer);
    const made = new ort.Tensor(type.name ?? tensor.dtype, data, tensor.dims);
    // In the Float16Array that Node 24 makes of it the binding finds no bytes.
    if (tensor.dtype === 'float16') Object.defineProperty(made, 'data', { value: data });
    return made;
  } catch (error) {
    // A sequence or a map is no TensorProto.
    if (error.name !== 'OnnxError') throw error;
    return undefined;
  }
}

function field(number, content) {
  const bytes = [number * 8 + 2];
  let rest = content.length;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.concat([Buffer.from([...bytes, rest]), content]);
}

async function runAll(bytes, cases) {
  const options = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4, executionMode: 'sequential' };
  const session = await ort.InferenceSession.create(bytes, options);
  try {
    const results = [];
    for (const { feeds } of cases) {
      const outputs = await session.run(feeds);
      results.push(session.outputNames.map((name) => outputs[name]));
    }
    return results;
  } finally {
    await session.release();
  }
}

/** As upstream's own runner compares: 1e-3 relative, 1e-7 absolute. */
function isClose(actual, expected) {
  if (expected === undefined) return true;
  if (actual === undefined || actual.type !== expected.type || String(actual.dims) !== String(expected.dims))
    return false;
  const real = actual.type.startsWith('float');
  const value = actual.type === 'float16' ? halfToFloat : Number;
  const wanted = dataOf(expected);
  return dataOf(actual).every((one, i) => {
    const other = wanted[i];
    if (!real || one === other) return one === other;
    const [a, b] = [value(one), value(other)];
    return (Number.isNaN(a) && Number.isNaN(b)) || Math.abs(a - b) <= 1e-7 + 1e-3 * Math.abs(b);
  });
}

/** Bits of 16-bit floats, also where they come as numbers (Node 24). */
function dataOf({ type, data }) {
  if (type !== 'float16' || data instanceof Uint16Array) return data;
  return new Uint16Array(data.buffer, data.byteOffset, data.length);
}

function halfToFloat(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  if (exponent === 31) return fraction === 0 ? (bits & 0x8000 ? -Infinity : Infinity) : Number.NaN;
  return bits & 0x8000 ? -size : size;
}

/** Bit for bit: the same operators ran on the same numbers. */
function isSame(a, b) {
  if (a.type !== b.type || String(a.dims) !== String(b.dims)) return false;
  const other = dataOf(b);
  return dataOf(a).every((value, i) => Object.is(value, other[i]));
}

// Last, so that all the above is there.
for (const folder of readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
  say({ started: folder });
  say({ folder, ...(await judge(folder)) });
}
