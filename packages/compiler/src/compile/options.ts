import type { PrivateKey } from '@flotilla/pack';
import type { BudgetReport } from '../budget/budget-report.ts';
import type { LanguageError } from '../evaluate/language-error.ts';
import type { Combination } from '../lora/combine.ts';
import type { Requantization } from '../lora/requantization.ts';
import type { Analysis } from '../analyze/weight-facts.ts';
import type { Note } from '../pass.ts';
import type { SplitSizes } from '../splits/split-data.ts';
import type { Interval } from '../statistics/interval.ts';
import type { LatencyReport } from './latency.ts';

export interface LoraSource {
  /** A PEFT adapter's folder. */
  readonly dir: string;
  /** Multiplies the adapter's own scale. Default 1. */
  readonly weight?: number | undefined;
}

export interface CompileOptions {
  /** 'int8', 'int4', 'nf4', 'fp4', 'fp16' or 'fp32' (clean-up alone). Default 'int8'. */
  readonly weights?: string | undefined;
  /** 'int8', 'dynamic' or 'none'. Default: what the weights' recipe has. */
  readonly activations?: string | undefined;
  /** Weights that share a scale, for int4, nf4 and fp4. Default: the recipe's. */
  readonly block?: number | undefined;
  /** How int4 is found: 'rtn', 'hqq', 'gptq' or 'awq'. Default 'auto': gptq where there is calibration data, else rtn. */
  readonly method?: string | undefined;
  /** The last layer's weights beside int4 ones: 'int8' or 'int4'. Default 'int8'. */
  readonly head?: string | undefined;
  /** 'int8': the KV cache of a language model, calibrated. Default 'fp32'. */
  readonly kvCache?: string | undefined;
  /** Fixed lengths for inputs, by name: what depends on them is folded. */
  readonly fixShapes?: { readonly [input: string]: readonly number[] } | undefined;
  /** A recipe file in place of a built-in one. */
  readonly recipe?: string | undefined;
  /** Calibration samples, as `openData` reads them; without `eval` a part of them is kept for the verdict (`splitData`). */
  readonly data?: string | undefined;
  /** Rules for folders of pictures or sound. */
  readonly preprocess?: string | undefined;
  /** Evaluation samples for the verdict; what was calibrated on is left out of them. */
  readonly eval?: string | undefined;
  /** A metric's name or `.mjs` file. Default: by the data. */
  readonly metric?: string | undefined;
  /** Characters that the classes stand for, one a line; goes into the pack. */
  readonly keys?: string | undefined;
  /** Searches for a recipe: 'size=4MB', 'accuracy=0.98', 'latency=12ms'; several hold together. Default: none. */
  readonly budget?: readonly string[] | undefined;
  /** Share of fp32's score that must be kept. Default: the accuracy that a budget asks for, else 0.98. */
  readonly floor?: number | undefined;
  /**
   * Weights in the place of the graph's own, before adapters are merged: `.safetensors`, its index, or the folder that has
   * one; 4-bit ones of bitsandbytes too.
   */
  readonly base?: string | undefined;
  /** Adapters, merged before anything is quantized. */
  readonly lora?: readonly LoraSource[] | undefined;
  /**
   * 'merge': before anything is quantized. 'branch': the base is quantized alone and the adapters lie beside it in the
   * pack, one in use at a time. 'rebuild': one adapter is merged into the quantized model of `basePack`, as every device
   * that has it can do by itself. Without adapters the last two make a base for such packs. Default 'merge'.
   */
  readonly loraMode?: string | undefined;
  /** The pack that the fleet holds, for 'rebuild'. */
  readonly basePack?: string | undefined;
  /** How several adapters become one. Default: one after the other. */
  readonly loraCombine?: Combination | undefined;
  /** A file that says where modules lie in the graph. */
  readonly loraMap?: string | undefined;
  /** Merge adapters that name another base model. Default false. */
  readonly loraAnyBase?: boolean | undefined;
  /** Boards that the pack is for: named in it, and lowered for as a check. Default: all known ones. */
  readonly boards?: readonly string[] | undefined;
  /** 'pack', or 'transformers': a folder that transformers.js opens. Default 'pack'. */
  readonly layout?: string | undefined;
  /** Signs the pack. */
  readonly key?: PrivateKey | undefined;
  /** What the pack is called. Default: the model's folder or file. */
  readonly name?: string | undefined;
  /** Upper bound of the median run in microseconds, by board; '*' for any other. */
  readonly latencyBudgetUs?: { readonly [board: string]: number } | undefined;
  /** For evaluation and latency, default 1; for converting weights, default: all cores. */
  readonly threads?: number | undefined;
  /** Of each model in each of five rounds; 0: latency is not measured. Default 0.2. */
  readonly latencySeconds?: number | undefined;
  /** Whether the cleaned fp32 model is measured, too. Default true. */
  readonly cleanupLatency?: boolean | undefined;
  /** Ships a graph with nodes that would run on a generic path on a board; they become warnings. */
  readonly force?: boolean | undefined;
  /** Writes report.html here: verdict, distributions, error and time by node. Takes a closer look, so some seconds. */
  readonly reportHtml?: string | undefined;
  /**
   * Takes the weights that an earlier, killed run with the same inputs and recipe had finished, and keeps this one's
   * beside the output if it fails. Default false.
   */
  readonly resume?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface Progress {
  /** 'load', 'merge', the name of a pass, 'evaluate', 'golden', 'latency', 'pack'. */
  readonly step: string;
  readonly done: number;
  readonly total: number | undefined;
  /** What is counted; default: things of the step. */
  readonly unit?: 'bytes' | undefined;
}

export interface Verdict {
  readonly metric: string;
  readonly samples: number;
  readonly fp32: number;
  readonly quantized: number;
  /** quantized / fp32; fp32 / quantized where less is better. */
  readonly kept: number;
  /** Of `kept`, at 95 %; see `keptInterval`. Null where the samples cannot tell. */
  readonly interval: Interval | null;
  readonly floor: number;
  readonly ok: boolean;
  /** Recipes that were compared before this one was taken; none of them on the judging split. */
  readonly candidates: number;
  readonly splits: SplitSizes;
  /** Of the float output that is worst off; null: every output is equal. */
  readonly sqnrDb: number | null;
  /** Of a language model alone. */
  readonly language?: LanguageError;
}

export interface MemoryFigures {
  readonly weightsBytes: number;
  /** Of the process that held the model through judging and measuring. */
  readonly peakRssBytes: number;
}

/** An adapter beside the base, judged against the float model that it is merged into. */
export interface AdapterReport {
  readonly name: string;
  readonly modules: number;
  readonly rank: number;
  /** Of its file in the pack. */
  readonly bytes: number;
  readonly verdict: Verdict | null;
}

/** What a device needs to make the model of the one that it has. */
export interface RebuildReport {
  /** Digest of the base's model. */
  readonly base: string;
  readonly modules: number;
  readonly rank: number;
  /** Of the factors. */
  readonly bytes: number;
}

/** What `flotilla compile --json` prints. */
export interface CompileReport {
  readonly model: { readonly path: string; readonly bytes: number; readonly parameters: number };
  /** `digest` is null for a bare `.onnx`. */
  readonly pack: {
    readonly path: string;
    readonly digest: string | null;
    readonly bytes: number;
    readonly modelBytes: number;
  };
  /** modelBytes / model.bytes. */
  readonly ratio: number;
  /** What `--base` gave; null without it. */
  readonly base: { readonly path: string; readonly tensors: number; readonly fourBit: number } | null;
  /** What quantizing took from weights that adapters were merged into; null without `--base` and `--lora`. */
  readonly requantization: Requantization | null;
  readonly recipe: string;
  readonly nodes: { readonly quantized: number; readonly float: number };
  readonly float: readonly { readonly node: string; readonly op: string; readonly reason: string }[];
  readonly notes: readonly Note[];
  /** What is remarkable about the weights; absent where the recipe has no pass `analyze`. */
  readonly analysis?: Analysis;
  readonly warnings: readonly string[];
  /** Null where there was nothing to evaluate on. */
  readonly verdict: Verdict | null;
  /** Adapters beside the base; absent where none is. `verdict` above is then the worst of theirs. */
  readonly adapters?: readonly AdapterReport[];
  /** Absent where devices cannot rebuild the model. */
  readonly rebuild?: RebuildReport;
  readonly latency: LatencyReport | null;
  /** Null where the models were not run. */
  readonly memory: { readonly fp32: MemoryFigures; readonly quantized: MemoryFigures } | null;
  /** What a search for a budget found; absent without one. */
  readonly budget?: BudgetReport;
  /** Why it should not be shipped as it is: under the floor, nothing to judge on, slower. Empty: nothing is against it. */
  readonly objections: readonly string[];
  readonly seconds: number;
  /** Of the converted weights, what was finished by an earlier run. */
  readonly resumedBytes: number;
  /** Of this process and, where models were run, of theirs: the sum of the peaks. */
  readonly peakRssBytes: number;
}
