const EMBEDDING = 'the embedding table is int8 there; int8 here leaves Gather in float';

/** Why a peer's result is not equalled, by `model tool method`: written by hand once the cause is known. */
export const reasons: ReadonlyMap<string, string> = new Map([
  ['wordnet-llama-4m onnxruntime dynamic', EMBEDDING],
  ['wordnet-llama-4m olive dynamic', EMBEDDING],
]);
