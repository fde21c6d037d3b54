export { CompilerError, type CompilerErrorCode } from './errors.ts';
export type { Calibration } from './calibrate/calibration.ts';
export type { Note, Outcome, Pass, PassContext, Stage } from './pass.ts';
export { definePass } from './pass.ts';
export { builtInRecipe, formatRecipe, parseRecipe, type Recipe, type RecipeStep } from './recipe.ts';
export { type Applied, type ApplyOptions, applyRecipe, type CalibrationData, type Progress } from './runner.ts';
