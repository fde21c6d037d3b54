import type { RecipeStep } from '../recipe.ts';
import { checkedStep } from '../recipe.ts';

/** What a node's weights can become in a mixed model. Activations stay float. */
export interface Format {
  readonly name: string;
  /** The pass that makes it of these nodes; undefined: they stay float. */
  step(only: readonly string[], method: 'auto' | 'rtn'): RecipeStep | undefined;
}

export const FLOAT: Format = { name: 'float', step: () => undefined };

const int8: Format = {
  name: 'int8',
  step: (only, method) => checkedStep('convert-int4', { only, int8: only, method }),
};

function int4(block: number, symmetric: boolean): Format {
  return {
    name: `int4 by ${block}${symmetric ? ' symmetric' : ''}`,
    step: (only, method) => checkedStep('convert-int4', { only, block, symmetric, method, head: 'int4' }),
  };
}

/** From exact to small. */
export const FORMATS: readonly Format[] = [FLOAT, int8, int4(32, false), int4(128, false), int4(128, true)];
