/** Where in its source the engine gave up, which tells a user nothing: `/onnxruntime_src/….h:46 void f(…) `. */
const PLACE = /\S*onnxruntime\S*\.(?:h|cc|cpp):\d+ .*?\) (?=\S)/g;
const NO_KERNEL = /not a registered function|Could not find an implementation|No Op registered|No opset import/;

/** What ONNX Runtime says, in one line, without its own file's name (`load` has it) and its source's; and how to mend it. */
export function engineWords(cause: unknown): string {
  const text = (cause instanceof Error ? cause.message : String(cause)).replace(/\s+/g, ' ').trim();
  const plain = text.replace(/^Load model from .*? failed: ?/, '').replace(PLACE, '');
  const mend = NO_KERNEL.test(plain) ? '; the engine has no kernel for it: export the model without that operator' : '';
  return `${plain.slice(0, 500)}${mend}`;
}
