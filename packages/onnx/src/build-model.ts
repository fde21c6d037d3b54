import { onnx } from '../generated/onnx.js';
import { toLong } from './long.ts';
import { decodeModel } from './open-model.ts';
import { graphProperties } from './properties.ts';
import type { DataType, Dim, Model, NewGraph, ValueInfo } from './types.ts';

export interface NewModel extends NewGraph {
  /** Version of the standard operators. */
  readonly opset: number;
  /** Versions of other operator sets, by domain. */
  readonly domains?: { readonly [domain: string]: number } | undefined;
  /** 10 where it is left out, which holds opsets up to 21 and 4-bit types. */
  readonly irVersion?: number | undefined;
}

/** Builds a model from its parts; nothing is checked (`checkModel` does that). Nodes must stand in topological order. */
export function buildModel(model: NewModel): Model {
  const domains = Object.entries(model.domains ?? {});
  const bytes = onnx.ModelProto.encode({
    irVersion: toLong(model.irVersion ?? 10),
    producerName: 'flotilla',
    opsetImport: [['', model.opset] as const, ...domains].map(([domain, version]) => ({
      domain,
      version: toLong(version),
    })),
    graph: graphProperties(model),
  }).finish();
  return decodeModel(bytes, { name: model.name });
}

/** A graph input or output that is a tensor; a dimension may be a name, or undefined where it is not known. */
export function tensorInfo(name: string, dtype: DataType, dims: readonly Dim[] | undefined): ValueInfo {
  return { name, type: { dtype, dims } };
}
