import type { ErrorFields } from './generated/abi.js';
import { STATUSES, type StatusCode } from './generated/statuses.js';
import type { MirrorResult } from './client.js';

const CODES = new Map<number, string>(Object.entries(STATUSES).map(([code, status]) => [status, code]));

/** The code of a status, such as `DBSS_ERR_NOT_FOUND`. */
export function codeOf(status: number): StatusCode | 'DBSS_ERR_UNKNOWN' {
  return (CODES.get(status) ?? 'DBSS_ERR_UNKNOWN') as StatusCode;
}

/**
 * A path as the system has it. It is text, unless it is not UTF-8.
 */
export type SystemPath = string | Buffer;

/** An entry of the "details" in a response of the service. */
export interface ErrorDetail {
  /** Its error code. */
  code?: string;
  /** Its message. */
  message?: string;
}

/** The fields of an error of libdbss, or of the addon. */
export type Failure = Partial<Omit<ErrorFields, 'status'>> & { status: number };

/**
 * The error of a call. Its class tells the group of its code. No text in it has a secret.
 */
export class DbssError extends Error {
  /** Why the call failed, such as `DBSS_ERR_NOT_FOUND`. */
  declare readonly code: StatusCode | 'DBSS_ERR_UNKNOWN';
  /** The number of the code in libdbss, also of one that is newer than this package. */
  declare readonly codeNumber: number;
  /** The parameter or option at fault, such as `maxAttempts`. */
  readonly parameter: string | undefined;
  /** The HTTP status of the response. */
  readonly httpStatus: number | undefined;
  /** The service's own code, such as `DBSS.10021004`. */
  readonly serviceCode: string | undefined;
  /** The service's own message. It may have control characters. */
  readonly serviceMessage: string | undefined;
  /** The service's id of the request, for its support. */
  readonly requestId: string | undefined;
  /** The encoded message that explains a refused authorization. */
  readonly encodedAuthorizationMessage: string | undefined;
  /** The entries of "details" in the response. */
  readonly details: readonly ErrorDetail[] = [];
  /** What cancelled the call, for `DBSS_ERR_CANCELLED`. Newer versions may add values. */
  readonly cancelledBy: 'signal' | 'client' | 'close' | 'callback' | undefined;
  /**
   * After {@link Client.generate} has failed, the ids of the reports that may be the created
   * one: one id if it is known, several with `DBSS_ERR_AMBIGUOUS`.
   */
  readonly candidates: readonly string[] = [];
  /** Where the service redirected to, for `DBSS_ERR_REDIRECTED`. */
  readonly redirectTarget: string | undefined;
  /** The file or directory at fault. */
  readonly path: SystemPath | undefined;
  /** The number (errno) of the operating system's error. */
  readonly osCode: number | undefined;
  /** Whether the cause is temporary, so that the same call may succeed later. */
  readonly retryable: boolean = false;
  /** The wait before the next attempt that the service requests, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** The number of requests before the call gave up. */
  readonly attempts: number = 0;
  /** What a mirror that failed has done. */
  readonly result: MirrorResult | undefined;

  /** @internal */
  constructor(failure: Failure, options?: ErrorOptions) {
    super(failure.message ?? codeOf(failure.status), options);
    const { message: _, status: codeNumber, cancelledBy: by, ...rest } = failure;
    const cancelledBy = by === 'operation' ? 'signal' : by === 'context' ? 'client' : by;
    Object.assign(this, { code: codeOf(failure.status), codeNumber }, rest, { cancelledBy });
  }

  /** The name of the class, unless it is set. */
  override get name(): string {
    return this.constructor.name;
  }

  /** Sets the name of this error alone. */
  override set name(value: string) {
    Object.defineProperty(this, 'name', { value, configurable: true, writable: true });
  }
}

/** An argument or an option is at fault (`DBSS_ERR_ARGUMENT` and its group). */
export class ArgumentError extends DbssError {}
/** The service responded, but not with the requested result (`DBSS_ERR_SERVICE`). */
export class ServiceError extends DbssError {}
/** The connection failed (`DBSS_ERR_NETWORK`). */
export class NetworkError extends DbssError {}
/** A file or the disk failed (`DBSS_ERR_FILE`). */
export class FileError extends DbssError {}
/** Memory, threads or descriptors are used up (`DBSS_ERR_RESOURCE`). */
export class ResourceError extends DbssError {}
/** The call was cancelled (`DBSS_ERR_CANCELLED`); if by its signal, see {@link AbortError}. */
export class CancelledError extends DbssError {}
/** A fault of libdbss (`DBSS_ERR_INTERNAL`). */
export class InternalError extends DbssError {}

const CLASSES = [
  InternalError,
  ArgumentError,
  ServiceError,
  NetworkError,
  FileError,
  ResourceError,
  CancelledError,
];

/** The error of the class that belongs to a status. */
export function makeError(failure: Failure, options?: ErrorOptions): DbssError {
  const group = CLASSES[Math.floor(failure.status / 100)] ?? InternalError;
  return new group(failure, options);
}

/**
 * The signal of the call aborted it. It is no {@link DbssError}, but its cause is one.
 */
export class AbortError extends Error {
  /** Always `AbortError`, as in Node.js, also if the signal is one of `AbortSignal.timeout`. */
  override readonly name = 'AbortError';
  /** Always `ABORT_ERR`, as in Node.js. */
  readonly code = 'ABORT_ERR';
  /** The error of libdbss, `DBSS_ERR_CANCELLED`. */
  declare readonly cause: DbssError;
  /** The reason of the signal; its `name` is `TimeoutError` for `AbortSignal.timeout`. */
  readonly reason: unknown;

  /** @internal */
  constructor(cause: DbssError, reason: unknown) {
    super('The operation was aborted', { cause });
    this.reason = reason;
  }

  /** See {@link DbssError.candidates}. */
  get candidates(): readonly string[] {
    return this.cause.candidates;
  }

  /** What a mirror has done before it was aborted. */
  get result(): MirrorResult | undefined {
    return this.cause.result;
  }
}

/** Sets a property that is known only later. */
export function setProperty(error: DbssError, name: 'cause' | 'result', value: unknown): void {
  const enumerable = name !== 'cause';
  Object.defineProperty(error, name, { value, enumerable, configurable: true, writable: true });
}
