import type { Pass } from './pass.ts';
import { adaround } from './passes/adaround.ts';
import { analyze } from './passes/analyze.ts';
import { calibrate } from './passes/calibrate.ts';
import { checkAttention } from './passes/check-attention.ts';
import { convertCodebook } from './passes/convert-codebook.ts';
import { convertInt8 } from './passes/convert-int8.ts';
import { convertFp16 } from './passes/convert-fp16.ts';
import { cancelTransposes } from './passes/cancel-transposes.ts';
import { convertInt4 } from './passes/convert-int4.ts';
import { correctBias } from './passes/correct-bias.ts';
import { divideToMultiply } from './passes/divide-to-multiply.ts';
import { einsumToMatMul } from './passes/einsum-to-matmul.ts';
import { equalize } from './passes/equalize.ts';
import { eliminateIdentity } from './passes/eliminate-identity.ts';
import { factorGate } from './passes/factor-gate.ts';
import { fixShape } from './passes/fix-shape.ts';
import { foldAffine } from './passes/fold-affine.ts';
import { foldBatchNorm } from './passes/fold-batch-norm.ts';
import { foldConstants } from './passes/fold-constants.ts';
import { fuseHardSwish } from './passes/fuse-hard-swish.ts';
import { fuseMatMulAdd } from './passes/fuse-matmul-add.ts';
import { inlineOwnFunctions } from './passes/inline-functions.ts';
import { joinUpsampling } from './passes/join-upsampling.ts';
import { mergeDuplicates } from './passes/merge-duplicates.ts';
import { quantizeInt8Dynamic } from './passes/quantize-int8-dynamic.ts';
import { quantizeInt8Static } from './passes/quantize-int8-static.ts';
import { quantizeKvCache } from './passes/quantize-kv-cache.ts';
import { refineWeights } from './passes/refine-weights.ts';
import { rotateResidual } from './passes/rotate-residual.ts';
import { removeDead } from './passes/remove-dead.ts';
import { splitFused } from './passes/split-fused.ts';
import { smoothQuant } from './passes/smooth-quant.ts';
import { simplifyShapes } from './passes/simplify-shapes.ts';
import { scaleChannels } from './passes/scale-channels.ts';
import { upgradeOpset } from './passes/upgrade-opset.ts';

/** Every pass that a recipe can name. A new pass is a file under passes/ and a line here. */
const passes: readonly Pass[] = [
  inlineOwnFunctions,
  upgradeOpset,
  splitFused,
  fixShape,
  mergeDuplicates,
  simplifyShapes,
  foldConstants,
  einsumToMatMul,
  cancelTransposes,
  eliminateIdentity,
  fuseHardSwish,
  factorGate,
  divideToMultiply,
  foldBatchNorm,
  foldAffine,
  fuseMatMulAdd,
  joinUpsampling,
  removeDead,
  equalize,
  smoothQuant,
  rotateResidual,
  scaleChannels,
  checkAttention,
  analyze,
  calibrate,
  quantizeInt8Static,
  refineWeights,
  adaround,
  correctBias,
  quantizeInt8Dynamic,
  convertInt4,
  convertInt8,
  quantizeKvCache,
  convertCodebook,
  convertFp16,
];

export function findPass(name: string): Pass | undefined {
  return passes.find((pass) => pass.name === name);
}

export function passNames(): readonly string[] {
  return passes.map(({ name }) => name);
}
