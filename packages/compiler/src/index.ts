export { CompilerError, type CompilerErrorCode } from './errors.ts';
export type { Calibration } from './calibrate/calibration.ts';
export type { Note, Outcome, Pass, PassContext, Stage } from './pass.ts';
export { definePass } from './pass.ts';
export { builtInRecipe, formatRecipe, parseRecipe, type Recipe, type RecipeStep } from './recipe.ts';
export { type Applied, type ApplyOptions, applyRecipe, type CalibrationData, type Progress } from './runner.ts';
export type { BudgetReport } from './budget/budget-report.ts';
export { compile } from './compile/compile.ts';
export type { CompileOptions, CompileReport, LoraSource, Verdict } from './compile/options.ts';
export { recipeOf } from './compile/recipe-of.ts';
export type { DataInput, DataSet, Sample, TextSample } from './data/data-set.ts';
export { openData } from './data/open-data.ts';
export { COMBINATIONS, type Combination } from './lora/combine.ts';
export { type MergedModule, type MergeOptions, mergeLora, type WeightedAdapter } from './lora/merge.ts';
export { type EvalOptions, type EvalReport, evaluate } from './evaluate/evaluate.ts';
export type { ActivationReport } from './analyze/activations.ts';
export type { Distribution } from './analyze/distribution.ts';
export type { Outlier } from './analyze/far-values.ts';
export {
  inspect,
  type InspectOptions,
  type InspectReport,
  type PlanEntry,
  type Port,
  type TensorReport,
} from './inspect/inspect.ts';
export { loadModel, quantize, type QuantizeOptions } from './quantize.ts';
export {
  type ComparedSide,
  compare,
  type CompareOptions,
  type CompareReport,
  type WeightChange,
} from './compare/compare.ts';
export { debug, type DebugOptions, type DebugReport } from './debug/debug.ts';
export type { NodeError } from './debug/compare-nodes.ts';
export { compareLatency, type LatencyReport } from './compile/latency.ts';
