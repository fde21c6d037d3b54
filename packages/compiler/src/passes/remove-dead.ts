import { z } from 'zod';
import { definePass } from '../pass.ts';

/** Drops nodes and initializers that no output depends on. Graph inputs stay: they are API even if unused. */
export const removeDead = definePass({
  name: 'remove-dead',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph) {
    graph.removeDead();
    return graph;
  },
});
