export { type LoraAdapter, type LoraModule, openAdapter, type TrainedTokens, type WholeParameter } from './adapter.ts';
export type { AdapterConfig } from './adapter-config.ts';
export { type BaseTensor, type BaseWeights, openBaseWeights } from './base-weights.ts';
export { CheckpointError, type CheckpointErrorCode } from './errors.ts';
export { type ModelFolder, openModelFolder } from './model-folder.ts';
export { openSafetensors, type Safetensors, type SafetensorsInfo } from './safetensors.ts';
