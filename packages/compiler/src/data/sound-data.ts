import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import { checkInputs } from './check-inputs.ts';
import { constantInputs, filledInput } from './constant-inputs.ts';
import type { DataInput, DataSet } from './data-set.ts';
import { logMel } from './log-mel.ts';
import type { Preprocess, SoundRules } from './preprocess.ts';
import { readWav, resample } from './read-wav.ts';

/** Windows of `.wav` files by the rules of a preprocess file, one a sample; a rest shorter than a window is dropped. */
export function soundData(
  path: string,
  files: readonly string[],
  inputs: readonly DataInput[],
  {
    preprocess,
    limit,
  }: { readonly preprocess: Preprocess & { readonly sound: SoundRules }; readonly limit?: number | undefined },
): DataSet {
  const { sound, constants } = preprocess;
  const target = filledInput(inputs, sound.input, path);
  const rest = constantInputs(inputs, target, constants, path);
  const hop = sound.hop ?? sound.window;
  return {
    kind: 'tensor',
    path,
    length: undefined,
    async *samples() {
      let count = 0;
      for (const file of files) {
        const samples = resample(readWav(await readFile(file), file), sound.rate);
        for (let at = 0; at + sound.window <= samples.length; at += hop) {
          if (count === limit) return;
          const feeds = { ...rest, [target.name]: features(samples.subarray(at, at + sound.window), sound, target) };
          checkInputs(feeds, inputs, `${file} at ${at}`);
          yield { name: `${basename(file)}@${at}`, inputs: feeds };
          count += 1;
        }
      }
      if (count === 0)
        throw new CompilerError(
          'compiler/data',
          `${path}: no file is as long as the window of ${sound.window} samples`,
          {
            where: path,
          },
        );
    },
  };
}

/** `[1, window]`, or `[1, frames, bands]`; ones are put in where the model's input has more dimensions. */
function features(window: Float32Array, { features: what, rate, scale }: SoundRules, { dims }: DataInput): TensorValue {
  const scaled = window.map((value) => value * scale);
  if (what === 'samples') return shaped(scaled, [1, scaled.length], dims.length);
  const data = logMel(scaled, { rate, ...what });
  return shaped(data, [1, data.length / what.bands, what.bands], dims.length);
}

function shaped(data: Float32Array, dims: readonly number[], rank: number): TensorValue {
  const ones = Array.from({ length: Math.max(0, rank - dims.length) }, () => 1);
  return { dtype: 'float32', dims: [...dims, ...ones], data };
}
