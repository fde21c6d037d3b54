import type { Board } from '@flotilla/boards';
import { CompilerError } from '../errors.ts';
import type { Cliff } from './find-cliffs.ts';

/**
 * Warnings for the cliffs of one board where `force` says so.
 * @throws {CompilerError} `compiler/cliff`, naming the first node, the reason and the mend
 */
export function refuseCliffs(cliffs: readonly Cliff[], board: Board, force: boolean): readonly string[] {
  const [first] = cliffs;
  if (!first) return [];
  const more = cliffs.length > 1 ? ` (and ${cliffs.length - 1} more)` : '';
  const message = `on ${board.name} ${first.op} ${first.node} would run on a generic path: ${first.reason}${more}`;
  if (!force) throw new CompilerError('compiler/cliff', message, { where: first.node, hint: first.mend });
  return [message];
}
