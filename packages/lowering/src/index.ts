export { addBranches, type Branch, BRANCH_PREFIX, branchInput } from './add-branches.ts';
export { IN_PLACE } from './decoder/group-query-attention.ts';
export { LoweringError, type LoweringErrorCode } from './errors.ts';
export {
  ATTENTION,
  type Choice,
  FLOAT_ACTIVATIONS,
  LOWERING_VERSION,
  type Lowered,
  lowerModel,
  MEMORY,
} from './lower.ts';
export { rebuildModel } from './rebuild.ts';
