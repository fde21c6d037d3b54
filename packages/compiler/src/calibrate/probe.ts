import type { Graph, NewAttribute } from '@flotilla/onnx';

/** Nodes put behind a copy of the float graph to measure something; every name is a new one. */
export class Probe {
  readonly graph: Graph;
  constructor(graph: Graph) {
    this.graph = graph;
  }

  add(opType: string, inputs: readonly string[], attributes: { readonly [name: string]: NewAttribute } = {}): string {
    const output = this.graph.uniqueName(`measure_${opType}`);
    this.graph.addNode({ opType, inputs, outputs: [output], attributes });
    return output;
  }

  constant(tensor: Parameters<Graph['addInitializer']>[1]): string {
    const name = this.graph.uniqueName('measure_constant');
    this.graph.addInitializer(name, tensor);
    return name;
  }
}
