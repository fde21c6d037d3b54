export { QuantError, type QuantErrorCode } from './errors.ts';
export { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half/half.ts';
export { packNibbles, unpackNibbles, unpackSignedNibbles } from './int4/nibbles.ts';
export { dequantizeInt4, type Int4Blocks, type Int4Options, quantizeInt4 } from './int4/quantize.ts';
export { type LoraFactors, loraDelta } from './lora/delta.ts';
