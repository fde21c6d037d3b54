/**
 * Whether a YAML text may be nested deeper than any of our files is. To be asked before the parser sees it: at about
 * 1,000 levels the parser leaves so little stack that V8, compiling a regular expression there, aborts the process; no
 * exception reports it. Counted generously, strings and comments included.
 */
export function isDeepYaml(text: string): boolean {
  const opened = text.match(/[[{]/g)?.length ?? 0;
  return opened > 64 || /(?:[-?:]\s+){8}/.test(text) || /^ {33}/m.test(text);
}
