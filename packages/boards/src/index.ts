export { type Arch, type Board, type BoardClass, boardClassOf, type IsaFeature } from './board.ts';
export { isDeepYaml } from './deep-yaml.ts';
export { detectHost, type Machine } from './detect.ts';
export { BoardError, type BoardErrorCode } from './errors.ts';
export { listBoards, loadBoard } from './load.ts';
export { nearest } from './nearest.ts';
export { parseBoard } from './parse.ts';
