import type { ActivationReport } from '../analyze/activations.ts';
import type { CompileReport } from '../compile/options.ts';
import type { NodeError } from '../debug/compare-nodes.ts';
import type { TensorReport } from '../inspect/inspect.ts';

/** Everything that report.html shows. The page is a function of it: the same data gives the same bytes. */
export interface ReportData {
  readonly report: CompileReport;
  readonly machine: string;
  readonly board: string;
  /** What the activations were watched on and the nodes compared on. */
  readonly observedOn: string;
  /** For activations. */
  readonly samples: number;
  /** For the error by node. */
  readonly nodeSamples: number;
  readonly activations: readonly ActivationPicture[];
  readonly weights: readonly WeightPicture[];
  /** Of weights whose first rows only were looked at. */
  readonly sampledBytes: number;
  /** In the graph's order. */
  readonly nodes: readonly NodeError[];
  /** Own error under which a node stands out. */
  readonly floorDb: number;
  /** Null where latency was not measured. */
  readonly times: { readonly fp32: readonly NodeTime[]; readonly quantized: readonly NodeTime[] } | null;
}

export type ActivationPicture = Pick<
  ActivationReport,
  'name' | 'node' | 'op' | 'min' | 'max' | 'kurtosis' | 'outliers' | 'farthest' | 'histogram' | 'sqnrDb'
> & { readonly range: { readonly min: number; readonly max: number } | null };

export type WeightPicture = Pick<
  TensorReport,
  'name' | 'node' | 'shape' | 'min' | 'max' | 'kurtosis' | 'outliers' | 'farthest' | 'histogram' | 'sqnrDb'
>;

export interface NodeTime {
  readonly name: string;
  readonly op: string;
  readonly us: number;
}
