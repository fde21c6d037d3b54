import { inferTypes } from '@flotilla/onnx';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { definePass } from '../pass.ts';
import { conversionOf } from './opset/conversions.ts';

/**
 * Raises ai.onnx to the version that quantized operators need (per-axis QuantizeLinear: 13; blocked int4: 21) by the
 * rules of ONNX's version converter: attributes that became inputs, defaults that changed, operators that were renamed.
 * Other domains stay. A model already there stays as it is.
 * @throws {CompilerError} `compiler/opset` for a version below 7, or an operator whose old meaning has no new spelling
 */
export const upgradeOpset = definePass({
  name: 'upgrade-opset',
  stage: 'rewrite',
  options: z.strictObject({ to: z.int().min(13).max(21).default(21) }),
  run(graph, _context, { to }) {
    const { model } = graph;
    const from = model.opset.get('');
    if (from === undefined || from >= to) return graph;
    if (from < 7)
      throw new CompilerError(
        'compiler/opset',
        `opset ${from} broadcasts and normalizes by rules that ended with opset 7`,
        {
          hint: 'export the model anew at opset 13 or later',
        },
      );
    // Before IR version 4 every initializer was also listed as an input; as one it could be overridden at run time.
    if (model.irVersion < 4) graph.setInputs(graph.inputs.filter(({ name }) => !graph.initializers.has(name)));
    const types = inferTypes(graph);
    for (const node of Array.from(graph.walk({ domain: '' }))) {
      for (const { since, convert } of conversionOf(node.opType)) {
        // Each rule speaks of one version; a node passes every one between its own and the target.
        if (since > from && since <= to && node.graph.nodes.includes(node)) convert(node, types);
      }
    }
    model.setOpset('', to);
    if (model.irVersion < irVersionFor(to)) model.setIrVersion(irVersionFor(to));
    return graph;
  },
});

/** The IR version that each opset came out with (ONNX `helper.OP_SET_ID_VERSION_MAP`). */
function irVersionFor(opset: number): number {
  if (opset >= 21) return 10;
  if (opset >= 19) return 9;
  return opset >= 15 ? 8 : 7;
}
