import { zoo } from '../../models/zoo.ts';
import type { Task, ZooSizes } from './task.ts';
import { classifier } from './tasks/classifier.ts';
import { detector } from './tasks/detector.ts';
import { language } from './tasks/language.ts';
import { recogniser } from './tasks/recogniser.ts';
import { voice } from './tasks/voice.ts';
import { wakeWord } from './tasks/wake-word.ts';

type MakeTask = (model: string, path: string, sizes: ZooSizes, dir: string) => Task;

const keyword: MakeTask = (model, path, sizes) => wakeWord(model, path, 'keyword', sizes);

/** What each zoo model is judged by. */
const kinds: ReadonlyMap<string, MakeTask> = new Map([
  ['ch_PP-OCRv4_rec_infer', recogniser],
  ['ch_PP-OCRv4_det_infer', detector],
  ['ch_ppocr_mobile_v2.0_cls_infer', classifier],
  ['silero_vad_v5', voice],
  ['silero_vad', voice],
  ['melspectrogram', (model, path, sizes) => wakeWord(model, path, 'mel', sizes)],
  ['embedding_model', (model, path, sizes) => wakeWord(model, path, 'embedding', sizes)],
  ['alexa_v0.1', keyword],
  ['hey_jarvis_v0.1', keyword],
  ['timer_v0.1', keyword],
  ['wordnet-llama-4m', language],
]);

/** @param dir for judging data that must be files */
export function taskOf(model: string, sizes: ZooSizes, dir: string): Task {
  const [path, kind] = [zoo.get(model), kinds.get(model)];
  if (path === undefined || !kind) throw new Error(`no task for ${model}`);
  return kind(model, path, sizes, dir);
}
