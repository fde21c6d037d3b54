import { expect, test } from 'vitest';
import { engineWords } from '../src/engine-words.ts';

test('the file and the place in the source are left out', () => {
  const said =
    'Load model from net.onnx failed:/onnxruntime_src/onnxruntime/core/graph/model_load_utils.h:46 void onnxruntime::f(const std::unordered_map<std::basic_string<char>, int>&, bool, int) ONNX Runtime only *guarantees*\n support';
  expect(engineWords(new Error(said))).toBe('ONNX Runtime only *guarantees* support');
});

test('in a failed run, too', () => {
  const said =
    "running Reshape node. Name:'r' Status Message: /onnxruntime_src/core/reshape_helper.h:91 onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, bool) input_shape_size == requested was false.";
  expect(engineWords(said)).toBe(
    "running Reshape node. Name:'r' Status Message: input_shape_size == requested was false.",
  );
});

test('#20 an operator that the engine does not have is called that', () => {
  const said = 'Load model from net.onnx failed:Fatal error: my.domain:Magic(-1) is not a registered function/op';
  expect(engineWords(new Error(said))).toMatch(
    /^Fatal error: my.domain:Magic.*; the engine has no kernel for it: export/,
  );
});
