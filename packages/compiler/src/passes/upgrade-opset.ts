import { z } from 'zod';
import { definePass } from '../pass.ts';
import { NEWEST_OPSET, raiseOpset } from './opset/raise.ts';

/**
 * Raises ai.onnx to the version that quantized operators need (per-axis QuantizeLinear: 13; blocked int4: 21) by the
 * rules of ONNX's version converter: attributes that became inputs, defaults that changed, operators that were renamed.
 * Other domains stay. A model already there stays as it is.
 * @throws {CompilerError} `compiler/opset` for a version below 7, or an operator whose old meaning has no new spelling
 */
export const upgradeOpset = definePass({
  name: 'upgrade-opset',
  stage: 'rewrite',
  options: z.strictObject({ to: z.int().min(13).max(NEWEST_OPSET).default(NEWEST_OPSET) }),
  run(graph, _context, { to }) {
    raiseOpset(graph, to);
    return graph;
  },
});
