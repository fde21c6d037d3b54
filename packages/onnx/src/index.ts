export { buildModel, type NewModel, tensorInfo } from './build-model.ts';
export { bitsOf, rawBytes } from './data-types.ts';
export { OnnxError, type OnnxErrorCode } from './errors.ts';
export { inferTypes } from './infer/infer-types.ts';
export { tensorFromFloats, tensorFromInts } from './new-tensor.ts';
export { elementCount, floats, integers, strings } from './numbers.ts';
export { cloneModel, decodeModel, openModel } from './open-model.ts';
export type * from './types.ts';
export { encodeModel, type ExternalData, writeModel } from './write-model.ts';
