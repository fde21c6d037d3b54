export { QuantError, type QuantErrorCode } from './errors.ts';
export { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half/half.ts';
export { packNibbles, unpackNibbles, unpackSignedNibbles } from './int4/nibbles.ts';
export { dequantizeInt4, type Int4Blocks, type Int4Options, prepareInt4, quantizeInt4 } from './int4/quantize.ts';
export { biasScale, leastWeightScale, quantizeBias } from './int8/bias.ts';
export { type FeedbackOptions, roundWithFeedback } from './int8/feedback.ts';
export { adaround, type AdaroundOptions } from './int8/adaround.ts';
export { chooseRange, type Observer, type ObserverOptions, observers } from './int8/observers.ts';
export { type PairLayout, pairPeaks, pairSafeScale } from './int8/pair-safe.ts';
export { hardSwishRange, type Range, symmetricUint8Range, type Uint8Range, uint8Range } from './int8/range.ts';
export { RangeHistogram, type Whole } from './int8/range-histogram.ts';
export { roundHalfEven } from './int8/round.ts';
export {
  channelPeaks,
  dequantizeInt8,
  type Int8Rows,
  type Int8RowsOptions,
  quantizeInt8,
  roundToInt8,
} from './int8/rows.ts';
export { addLowRank, type LayerShape, type LowRankChange } from './lora/add-low-rank.ts';
export { type CombineOptions, combineTensors } from './lora/combine.ts';
export { type Compressed, compressDelta, compressSum } from './lora/compress.ts';
export { type LoraFactors, loraDelta } from './lora/delta.ts';
export { gptqInt4, type GptqOptions } from './int4/gptq.ts';
export {
  dequantizeFourBit,
  type FourBitBlocks,
  type FourBitOptions,
  quantizeFourBit,
} from './nf4/blocks.ts';
export { type NestedAbsMax, nestAbsMax, unnestAbsMax } from './nf4/nested.ts';
export { factorHessian, type HessianFactor } from './linalg/hessian.ts';
export { shiftWeights } from './linalg/input-shift.ts';
export { scaleToMagnitude } from './lora/dora.ts';
export { fourBitLevels } from './nf4/levels.ts';
export { Rotation } from './linalg/rotation.ts';
