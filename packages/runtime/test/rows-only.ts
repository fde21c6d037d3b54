import { join } from 'node:path';
import { encodeModel, openModel, tensorFromInts } from '@flotilla/onnx';
import { LLAMA } from './packs.ts';

/** The language model with `new.N.*` outputs, only the rows of the tokens just fed, in place of `present.N.*`. */
export async function rowsOnlyLlama(): Promise<Uint8Array> {
  const model = await openModel(join(LLAMA, 'model.onnx'));
  const { graph } = model;
  const constant = (name: string, value: number) => {
    graph.addInitializer(name, tensorFromInts('int64', [1], [value]));
    return name;
  };
  const [one, two, end] = [constant('c_one', 1), constant('c_two', 2), constant('c_end', Number.MAX_SAFE_INTEGER)];
  graph.addNode({ opType: 'Shape', inputs: ['input_ids'], outputs: ['ids_shape'] });
  graph.addNode({ opType: 'Gather', inputs: ['ids_shape', one], outputs: ['ids_length'] });
  graph.addNode({ opType: 'Neg', inputs: ['ids_length'], outputs: ['from_the_end'] });
  const outputs = graph.outputs.map((output) => {
    if (!output.name.startsWith('present.')) return output;
    const name = output.name.replace('present', 'new');
    graph.addNode({ opType: 'Slice', inputs: [output.name, 'from_the_end', end, two], outputs: [name] });
    return { ...output, name };
  });
  graph.setOutputs(outputs);
  return encodeModel(model);
}
