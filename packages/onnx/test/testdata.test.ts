import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkModel, cloneModel, decodeModel, encodeModel, type Graph, inferTypes, openModel } from '../src/index.ts';
import { modelsInArchive } from './onnx-backend.ts';

/** Where Debian's libonnx-testdata installs. */
const debianData = '/usr/share/libonnx-testdata/data';
const archive = process.env['FLOTILLA_ONNX_BACKEND'];

/** What upstream ships and is refused all the same: opset 1, and one tree that holds a NaN. */
const refused = ['onnx/opset', 'onnx/not-finite'];

describe('upstream’s models come back byte for byte, untouched and through the edit path', () => {
  test('the 1,072 of Debian’s libonnx-testdata', async (context) => {
    const paths = debianModels();
    if (paths.length === 0) return context.skip('libonnx-testdata is not installed');
    for (const path of paths) {
      const bytes = readFileSync(path);
      const opened = await openModel(path);
      expect(sameBytes(encodeModel(opened), bytes), path).toBe(true);
      checkBothWays(bytes, path);
    }
    expect(paths.length).toBeGreaterThanOrEqual(1072);
  });

  test('the 1,951 of onnx-backend.tgz', async (context) => {
    if (archive === undefined) return context.skip('FLOTILLA_ONNX_BACKEND names no archive');
    let count = 0;
    for await (const { path, bytes } of modelsInArchive(archive)) {
      checkBothWays(bytes, path);
      count++;
    }
    expect(count).toBe(1951);
  });
});

test('shapes and types that are inferred never contradict what upstream’s models declare', async (context) => {
  const paths = debianModels();
  if (paths.length === 0) return context.skip('libonnx-testdata is not installed');
  const counts = { same: 0, lessKnown: 0 };
  for (const path of paths) {
    const { graph } = await openModel(path);
    for (const verdict of compareOutputs(graph, path)) counts[verdict]++;
  }
  // 827 when this was written: a rule that stops telling shows here.
  expect(counts.same).toBeGreaterThan(810);
});

function debianModels(): string[] {
  try {
    return readdirSync(debianData, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.onnx'))
      .map((name) => join(debianData, name));
  } catch {
    return [];
  }
}

function checkBothWays(bytes: Uint8Array, path: string): void {
  const opened = decodeModel(bytes);
  expect(sameBytes(encodeModel(opened), bytes), path).toBe(true);
  const touched = cloneModel(opened);
  for (const node of touched.graph.walk()) {
    const [first] = node.outputs;
    if (first === undefined) continue;
    node.setOutput(0, 'another name');
    node.setOutput(0, first);
  }
  // Types of values made anew are dropped: the models here have none of the values that nodes make.
  expect(sameBytes(encodeModel(touched), bytes), path).toBe(true);
  try {
    checkModel(opened);
  } catch (error) {
    expect(refused, `${path}: ${String(error)}`).toContain((error as { code: string }).code);
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Infers what the outputs would be if the model did not say. */
function compareOutputs(graph: Graph, path: string): ('same' | 'lessKnown')[] {
  const declared = graph.outputs;
  graph.setOutputs(declared.map(({ name }) => ({ name, type: undefined })));
  const types = inferTypes(graph);
  return declared.flatMap(({ name, type }) => {
    const inferred = types.get(name);
    if (type === undefined || inferred === undefined) return [];
    expect(inferred.dtype, `${path}: ${name}`).toBe(type.dtype);
    if (inferred.dims === undefined || type.dims === undefined) return ['lessKnown' as const];
    expect(inferred.dims.length, `${path}: ${name}`).toBe(type.dims.length);
    for (const [i, dim] of inferred.dims.entries())
      if (typeof dim === 'number' && typeof type.dims[i] === 'number')
        expect(dim, `${path}: ${name}`).toBe(type.dims[i]);
    return [inferred.dims.every((dim) => typeof dim === 'number') ? ('same' as const) : ('lessKnown' as const)];
  });
}
