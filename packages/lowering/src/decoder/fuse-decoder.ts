import { type Graph, inferTypes, type Node } from '@flotilla/onnx';
import type { Choice } from '../lower.ts';
import { type Attention, matchAttention } from './attention.ts';
import { GroupQueryAttentions } from './group-query-attention.ts';
import { keepLastLogits } from './last-logits.ts';
import { fuseRmsNorms } from './rms-norm.ts';

/**
 * How a step gives its keys and values. `full`: `present.*`, as the portable graph has it. `in-place`: into the buffers
 * that were fed, which are longer than what is in them.
 */
export type CacheForm = 'full' | 'in-place';

/**
 * A decoder with a KV cache as ONNX Runtime runs it fastest: RMSNorms fused, attention (with its rotary positions, where
 * their tables are constant) fused into GroupQueryAttention, logits of the last positions alone where they are asked for.
 * The graph is changed in place; one that is no such decoder stays as it is.
 */
export function fuseDecoder(graph: Graph, cache: CacheForm): readonly Choice[] {
  const caches = graph.inputs.filter(({ type }) => type?.dims?.length === 4);
  const softmaxes = graph.nodes.filter(({ opType, domain }) => opType === 'Softmax' && domain === '');
  if (caches.length === 0 || softmaxes.length === 0) return [];
  const attentions = attentionsOf(softmaxes, caches.length);
  const choices: Choice[] = [];
  if (typeof attentions === 'string') {
    choices.push({ node: softmaxes[0]?.name ?? '', op: 'Softmax', kernel: 'Softmax (fp32)', reason: attentions });
  } else {
    const form = vocabularyOf(graph) === undefined ? 'full' : cache;
    const fused = new GroupQueryAttentions(graph, inferTypes(graph), form);
    for (const attention of attentions) {
      const { name } = attention.node;
      choices.push({ node: name, op: 'Softmax', kernel: 'GroupQueryAttention', reason: fused.fuse(attention) });
    }
    fused.finish();
    if (form === 'in-place') keepLastLogits(graph);
    graph.removeDead();
  }
  choices.push(...fuseRmsNorms(graph));
  graph.removeDead();
  graph.model.setOpset('com.microsoft', 1);
  return choices;
}

/** Of the logits, where the model states it: who writes in place must know how much comes out. */
function vocabularyOf(graph: Graph): number | undefined {
  const size = graph.outputs.find(({ type }) => type?.dims?.length === 3)?.type?.dims?.[2];
  return typeof size === 'number' ? size : undefined;
}

/** All or none: two kinds of caches in one model would need two ways of keeping them. In words, why none. */
function attentionsOf(softmaxes: readonly Node[], caches: number): readonly Attention[] | string {
  const attentions: Attention[] = [];
  for (const softmax of softmaxes) {
    const found = matchAttention(softmax);
    if (typeof found === 'string') return `${found}; attention stays in plain operators`;
    attentions.push(found);
  }
  return attentions.length * 2 === caches ? attentions : `${attentions.length} attentions for ${caches} caches`;
}
