import { cloneModel, type Graph, type Model, type Node } from '@flotilla/onnx';
import type { Session, Tensors } from '@flotilla/runtime';
import type { PassContext } from '../pass.ts';
import { activationOf, addGram, addRows, addTo } from './hessians.ts';
import type { WeightSite } from './weight-site.ts';

/** What GPTQ is steered by when the layers before are rounded already: x the input in the float model, x̂ as it will be. */
export interface Steering {
  /** `Σ x̂·x̂ᵀ`, `[cols, cols]` */
  readonly hessian: Float64Array;
  /** `Σ (x − x̂)·x̂ᵀ`, `[cols, cols]`: see `shiftWeights` */
  readonly cross: Float64Array;
}

/** Groups of inputs that are measured together: each costs a run of the data through the front parts of both models. */
const MOST_GROUPS = 24;

/**
 * The weights that GPTQ takes, in groups, first to last; what reads one value is in one group. A group's inputs are
 * measured when all before it is rounded.
 */
export class InTurn {
  private readonly context: PassContext;
  private readonly limit: number;
  private readonly groups: readonly (readonly WeightSite[])[];
  private readonly groupOf = new Map<Node, number>();
  private readonly measured = new Map<number, Promise<ReadonlyMap<string, Steering>>>();

  /** @param limit samples that are run */
  constructor(sites: readonly WeightSite[], context: PassContext, limit: number) {
    this.context = context;
    this.limit = limit;
    this.groups = grouped(sites.filter((site) => activationOf(site) !== undefined));
    for (const [index, group] of this.groups.entries()) for (const { node } of group) this.groupOf.set(node, index);
  }

  /** Whether all before a node has to be in the graph before its form is asked for. */
  opensGroup(node: Node): boolean {
    const group = this.groupOf.get(node);
    return group !== undefined && !this.measured.has(group);
  }

  /** @param graph with the groups before in their new form */
  async steering(graph: Graph, site: WeightSite): Promise<Steering | undefined> {
    const index = this.groupOf.get(site.node);
    if (index === undefined) return undefined;
    const found = this.measured.get(index) ?? this.measure(graph, this.groups[index] ?? []);
    this.measured.set(index, found);
    return (await found).get(activationOf(site) ?? '');
  }

  private async measure(graph: Graph, sites: readonly WeightSite[]): Promise<ReadonlyMap<string, Steering>> {
    const { context, limit } = this;
    const { floats, rounded, products } = probesOf(context.floatModel, graph.model, sites);
    const sums = new Map<string, Float64Array>();
    const sessions: Session[] = [];
    try {
      for (const model of [floats, rounded]) sessions.push(await context.open(model, { optimization: 'basic' }));
      const [before, after] = sessions;
      let count = 0;
      for await (const feeds of context.samples?.() ?? []) {
        context.signal?.throwIfAborted();
        const values = (await before?.run(feeds)) ?? {};
        const given: Tensors = Object.fromEntries(Object.entries(values).map(([name, of]) => [floatName(name), of]));
        const grams = (await after?.run({ ...feeds, ...given })) ?? {};
        for (const name of Object.keys(grams)) addTo(sums, name, grams[name]);
        if (++count === limit) break;
      }
    } finally {
      for (const session of sessions) await session.close();
    }
    const found = new Map<string, Steering>();
    for (const { value, gram, change } of products) {
      const [hessian, cross] = [sums.get(gram), sums.get(change)];
      if (hessian && cross) found.set(value, { hessian, cross });
    }
    return found;
  }
}

function grouped(sites: readonly WeightSite[]): readonly (readonly WeightSite[])[] {
  const readers = new Map<string, WeightSite[]>();
  for (const site of sites) {
    const value = activationOf(site) ?? '';
    readers.set(value, [...(readers.get(value) ?? []), site]);
  }
  const all = [...readers.values()];
  const size = Math.ceil(all.length / MOST_GROUPS);
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size).flat());
}

/** What a value of the float model is called where it enters the rounded one. */
function floatName(value: string): string {
  return `${value}_float`;
}

interface Probes {
  /** Gives the values that the other takes. */
  readonly floats: Model;
  readonly rounded: Model;
  /** Outputs of `rounded`, for each value that is looked at. */
  readonly products: readonly { readonly value: string; readonly gram: string; readonly change: string }[];
}

/** The products are made inside the engine: what leaves it has a fixed size, whatever the samples' is. */
function probesOf(floatModel: Model, current: Model, sites: readonly WeightSite[]): Probes {
  const floats = cloneModel(floatModel);
  const rounded = cloneModel(current);
  const { graph } = rounded;
  const firsts = new Map(sites.map((site) => [activationOf(site) ?? '', site] as const));
  const products = [...firsts].map(([value, { node, tensor, axis }]) => {
    const cols = tensor.dims[axis] ?? 0;
    const rows = addRows(graph, value, node, cols);
    const lost = graph.uniqueName('gram_lost');
    graph.addNode({ opType: 'Sub', inputs: [addRows(graph, floatName(value), node, cols), rows], outputs: [lost] });
    return { value, gram: addGram(graph, rows, rows), change: addGram(graph, lost, rows) };
  });
  const type = { dtype: 'float32' as const, dims: undefined };
  graph.setInputs([...graph.inputs, ...products.map(({ value }) => ({ name: floatName(value), type }))]);
  graph.setOutputs(products.flatMap(({ gram, change }) => [gram, change]).map((name) => ({ name, type: undefined })));
  floats.graph.setOutputs(products.map(({ value }) => ({ name: value, type: undefined })));
  for (const model of [floats, rounded]) model.graph.removeDead();
  return { floats, rounded, products };
}
