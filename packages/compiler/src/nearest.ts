import { nearest as nearestName } from '@flotilla/boards';

/** `, did you mean "x"?` for the known name nearest to a mistyped one, or ''. */
export function nearest(name: string, known: readonly string[]): string {
  const near = nearestName(name, known);
  return near === undefined ? '' : `, did you mean "${near}"?`;
}
