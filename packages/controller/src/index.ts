export { ControllerError, type ControllerErrorCode } from './errors.ts';
