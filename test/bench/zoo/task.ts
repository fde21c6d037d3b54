import type { LoadedSession, SessionInput, Tensors } from '@flotilla/runtime';

/** How many samples of each kind a run takes. */
export interface ZooSizes {
  readonly calibrateLines: number;
  readonly lines: number;
  readonly calibratePages: number;
  readonly pages: number;
  readonly angles: number;
  /** Clips of sound that judge. */
  readonly clips: number;
  /** Lines of text that judge. */
  readonly textLines: number;
  /** Of each model in each of five rounds. */
  readonly speedSeconds: number;
}

/** A model under judgement: loaded, and where it lies (a pack, or an `.onnx` beside what its task needs). */
export interface Candidate {
  readonly path: string;
  readonly session: LoadedSession;
}

/** What a model said to the judging samples. */
export interface Answers {
  /** One a sample or frame: a text, a class, yes or no. */
  readonly marks: readonly string[];
  /** What is right, where that is known. */
  readonly truth?: readonly string[] | undefined;
  /** Of the first samples, for the signal-to-noise ratio. */
  readonly outputs: readonly Float32Array[];
  /** A metric that is not a count of marks: F1 against fp32's boxes, perplexity. */
  readonly value?: number | undefined;
}

/** One zoo model with its data: never that which anything was chosen on. */
export interface Task {
  readonly model: string;
  /** An `.onnx` file, or a folder in Hugging Face layout. */
  readonly path: string;
  readonly onnxPath: string;
  /** What is counted, in words. */
  readonly metric: string;
  readonly lowerIsBetter?: boolean;
  /** Writes calibration samples under `dir`. @returns the path for `--data` */
  calibrate(dir: string): Promise<string>;
  /** Where `calibrate` writes text: the same as arrays. */
  arrays?(dir: string): Promise<string>;
  judge(candidate: Candidate): Promise<Answers>;
  /** Inputs that speed is measured on. */
  feeds(inputs: readonly SessionInput[]): readonly Tensors[];
}

/** Runs sessions over samples and keeps the first outputs. */
export async function eachOutput(
  { session }: Candidate,
  feeds: readonly Tensors[],
  mark: (output: Float32Array) => string,
  kept = 16,
): Promise<Answers> {
  const [marks, outputs]: [string[], Float32Array[]] = [[], []];
  for (const [i, one] of feeds.entries()) {
    const output = firstFloats(await session.run(one));
    marks.push(mark(output));
    if (i < kept) outputs.push(output);
  }
  return { marks, outputs };
}

export function firstFloats(outputs: Tensors): Float32Array {
  const found = Object.values(outputs).find(({ dtype }) => dtype === 'float32');
  if (found?.dtype !== 'float32') throw new Error('no output of float32');
  return found.data;
}

export function floats(dims: readonly number[], data: Float32Array): Tensors[string] {
  return { dtype: 'float32', dims, data };
}
