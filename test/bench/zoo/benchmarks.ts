import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from '../../tiers/run.ts';
import type { Machine } from '../machine.ts';
import { aheadSection } from '../peers/ahead.ts';
import type { Line } from './row.ts';
import { tableOf } from './table.ts';
import type { ZooSizes } from './task.ts';
import { SEED } from './tasks/recogniser.ts';

export interface Benchmarks {
  readonly machine: Machine;
  readonly sizes: ZooSizes;
  readonly load: number;
  readonly zoo: readonly Line[];
  readonly peers: readonly Line[];
}

/** Writes BENCHMARKS.md: nothing in it is written by hand. */
export async function writeBenchmarks(found: Benchmarks): Promise<string> {
  const path = join(root, 'BENCHMARKS.md');
  await writeFile(path, `${pageOf(found).join('\n')}\n`);
  return path;
}

function pageOf({ machine, sizes, load, zoo, peers }: Benchmarks): readonly string[] {
  const ram = `${(machine.ramBytes / 1e9).toFixed(1)} GB`;
  const recipes = new Set(zoo.map(({ recipe }) => recipe)).size;
  return [
    '# Benchmarks',
    '',
    '<!-- Written by scripts/bench zoo --write; do not edit. -->',
    '',
    `${machine.cpu}, ${machine.cores} cores, ${ram}, ${machine.boardClass} (${machine.features.join(' ')}); ${machine.system}, Node ${machine.node.slice(1)}, ONNX Runtime ${machine.onnxruntime}; load ${load.toFixed(1)} before.`,
    '',
    `Every built-in recipe as it comes, ${recipes} a model, all of them shown: none was chosen by these data, and no setting was changed for a model. Calibration and judging data have no text, voice, recording or line in common. What judges:`,
    '',
    `- recogniser: ${sizes.lines} rendered lines of the \`judge\` split of test/labels with seed ${SEED}, which nothing else uses; read exactly or not;`,
    `- detector: ${sizes.pages} rendered pages of such lines; its boxes against fp32's (F1 at an intersection over union of 0.5);`,
    `- angle classifier: ${sizes.angles} lines of another seed, half of them upside down;`,
    `- voice activity and wake words: up to ${sizes.clips} clips (espeak-ng in voices that did not calibrate, recordings of Debian's pocketsphinx-testdata, both in noise, noise, silence); decisions equal to fp32's frame by frame, each model with its own state. Models of the wake word chain stand in it one at a time, the others fp32;`,
    `- language model: perplexity of ${sizes.textLines} lines of its valid.txt behind the first 100, which calibrate. Whether int4 turns the residual stream was once looked at on this text.`,
    '',
    'Size: the portable file beside the source. Kept: of fp32’s score. SQNR: of the first outputs. Speed: lowered for this machine, beside the source file in ONNX Runtime, in turns, median of five rounds. Seconds and peak RSS: of compiling, two compilations at a time.',
    '',
    ...tableOf(zoo),
    ...(peers.length === 0 ? [] : ['', ...peersSection(peers), '', ...aheadSection(zoo, peers)]),
  ];
}

function peersSection(peers: readonly Line[]): readonly string[] {
  return [
    '## Peers',
    '',
    'The same source models, calibration samples, judging data and runtime; each tool as its documentation shows it, two at a time, with ten minutes for a model. Their files are run as they are, ours as lowered. AIMET without AdaRound, which takes minutes to hours for a model. What a tool could not do stands in its row, in its own words.',
    '',
    ...tableOf(peers),
  ];
}
