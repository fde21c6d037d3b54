export { CompilerError, type CompilerErrorCode } from './errors.ts';
