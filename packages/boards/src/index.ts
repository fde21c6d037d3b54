export { BoardError, type BoardErrorCode } from './errors.ts';
export type { Arch, Board, BoardClass, IsaFeature } from './board.ts';
