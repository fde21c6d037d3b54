import { isConnectionFault } from '../db/open.ts';
import { ControllerError, type ControllerErrorCode } from '../errors.ts';

/** The body of every answer that is not 2xx. */
export interface ErrorBody {
  readonly error: {
    readonly code: ControllerErrorCode;
    readonly message: string;
    readonly where?: string | undefined;
    readonly hint?: string | undefined;
  };
}

const statuses: { readonly [C in ControllerErrorCode]?: number } = {
  'controller/request': 400,
  'controller/selection': 400,
  'controller/no-devices': 400,
  'controller/unauthorized': 401,
  'controller/forbidden': 403,
  'controller/not-found': 404,
  'controller/timeout': 408,
  'controller/conflict': 409,
  'controller/no-trusted-keys': 409,
  'controller/rollout-active': 409,
  'controller/rollout-ended': 409,
  'controller/device-offline': 409,
  'controller/too-large': 413,
  'controller/pack-refused': 422,
  'controller/device-error': 502,
  'controller/overloaded': 503,
  'controller/database': 503,
  'controller/data-dir': 507,
  'controller/device-silent': 504,
};

export const statusOf = (code: ControllerErrorCode): number => statuses[code] ?? 500;

/** What a client may see of an error: never a stack, a query or a path of the controller's. */
export function errorBody(error: unknown): ErrorBody {
  if (isConnectionFault(error))
    return {
      error: { code: 'controller/database', message: 'the database is away', hint: 'try again in a few seconds' },
    };
  if (!(error instanceof ControllerError) || statusOf(error.code) === 500)
    return { error: { code: 'controller/internal', message: 'the controller failed; its log says why' } };
  const { code, message, where, hint } = error;
  return { error: { code, message, where, hint } };
}
