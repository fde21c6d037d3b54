/** `log Σ exp(x)` over `count` elements from `start`, the largest taken out first; −log softmax(x)ᵢ is this − xᵢ. */
export function logSumExp(logits: Float32Array, start: number, count: number): number {
  let most = -Infinity;
  for (let i = start; i < start + count; i++) most = Math.max(most, logits[i] ?? 0);
  let sum = 0;
  for (let i = start; i < start + count; i++) sum += Math.exp((logits[i] ?? 0) - most);
  return Math.log(sum) + most;
}
