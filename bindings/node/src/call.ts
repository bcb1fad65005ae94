// One call: its options, its signal, its progress, and its error.

import { AsyncResource } from 'node:async_hooks';

import { checkFunction, checkSignal, pairs, type Text } from './check.js';
import { AbortError, makeError, type Failure, type SystemPath } from './errors.js';
import type { OperationFields, OperationHandle } from './generated/abi.js';
import { OPTIONS, type CallSettings } from './generated/options.js';
import { STATUSES } from './generated/statuses.js';
import {
  CANCELLED,
  flagsOfCaller,
  native,
  newId,
  onDone,
  stopWatching,
  throwLater,
  WITH_OPERATION,
  WITH_PROGRESS,
  WITH_RESULT,
  type Settings,
  type Started,
} from './native.js';

/** The progress of a call. */
export interface Progress {
  /** The bytes that have arrived, including those before a resumption. */
  received: number;
  /** The size of the report in bytes, if it is known. */
  total: number | undefined;
  /** The bytes that a resumption saved. */
  resumed: number;
  /** The number of requests so far. */
  attempts: number;
  /** The percentage of a report that is generated, or of the reports of a mirror; if it is known. */
  percent: number | undefined;
}

/** What a call found out. What is not known, or not yet, is undefined. */
export interface CallResult extends Progress {
  /** Where the report was saved. */
  path: SystemPath | undefined;
  /** A safe form of the report's own name. */
  filename: string | undefined;
  /** The header Content-Type. */
  contentType: string | undefined;
  /** The service's id of the request. */
  requestId: string | undefined;
  /** The format of the report, by its first bytes. */
  format: 'pdf' | 'zip' | 'unknown';
}

/** The options of any call. */
export interface CallOptions extends CallSettings {
  /** The id of the project, instead of the client's: 32 to 64 ASCII letters, digits, "-" and "_". */
  projectId?: string | undefined;
  /** Aborts the call, within 250 ms: it rejects with an {@link AbortError}. */
  signal?: AbortSignal | undefined;
  /**
   * Is called on the event loop when the call starts, about ten times a second while it
   * runs, and near its end; no call waits for it. If it throws, or returns a promise that
   * rejects, the call is cancelled, and rejects with that as the cause; if the call has
   * succeeded already, it resolves, and the exception is an uncaught one.
   */
  onProgress?: ((progress: Progress) => void | Promise<void>) | undefined;
  /** Is called when the call is over, also if it failed; for a stream, when it is closed. */
  onResult?: ((result: CallResult) => void) | undefined;
  /** Other options by their keys in libdbss, as in {@link ClientOptions.settings}. */
  settings?: Iterable<readonly [key: string, value: string | Uint8Array]> | undefined;
}

function progressOf({ received, total, resumed, attempts, percent }: OperationFields): Progress {
  return { received, total, resumed, attempts, percent };
}

export function resultOf(fields: OperationFields): CallResult {
  const { path, filename, contentType, requestId, format } = fields;
  return { ...progressOf(fields), path, filename, contentType, requestId, format };
}

// A signal gets one listener for all calls: many would look like a leak. It does not keep the
// calls: who forgets a stream may have a signal that lives on.
const aborting = new WeakMap<AbortSignal, Set<Listener>>();
const forgotten = new FinalizationRegistry<{ signal: AbortSignal; listener: Listener }>(
  ({ signal, listener }) => removeListener(signal, listener),
);

/** A function that its owner keeps. */
export type Listener = WeakRef<() => void>;

function runAll(this: AbortSignal): void {
  for (const listener of [...(aborting.get(this) ?? [])]) listener.deref()?.();
}

/** Calls a function when a signal aborts, until it is removed, or nobody has it any more. */
export function addListener(signal: AbortSignal, run: () => void): Listener {
  const listener = new WeakRef(run);
  let listeners = aborting.get(signal);
  if (!listeners) {
    listeners = new Set();
    aborting.set(signal, listeners);
    signal.addEventListener('abort', runAll);
  }
  listeners.add(listener);
  forgotten.register(run, { signal, listener }, listener);
  return listener;
}

export function removeListener(signal: AbortSignal, listener: Listener): void {
  const listeners = aborting.get(signal);
  listeners?.delete(listener);
  forgotten.unregister(listener);
  if (listeners?.size === 0) {
    aborting.delete(signal);
    signal.removeEventListener('abort', runAll);
  }
}

/** What begins a call in the addon. */
export type Begin<T> = (
  id: number,
  flags: number,
  settings: Settings,
  project: string | undefined,
) => Started<T>;

/** A call that runs. It keeps its client. */
export class Call {
  readonly #client: object;
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: CallOptions['onProgress'];
  readonly #onResult: CallOptions['onResult'];
  readonly #id = newId();
  #operation: OperationHandle | undefined;
  #thrown: { error: unknown } | undefined;
  #told = false;
  #listener: Listener | undefined;

  constructor(client: object, { signal, onProgress, onResult }: CallOptions) {
    checkSignal(signal);
    checkFunction('onProgress', onProgress);
    checkFunction('onResult', onResult);
    this.#client = client;
    this.#signal = signal;
    // With the context of the caller, such as that of AsyncLocalStorage.
    this.#onProgress = onProgress && AsyncResource.bind(onProgress);
    this.#onResult = onResult && AsyncResource.bind(onResult);
  }

  get signal(): AbortSignal | undefined {
    return this.#signal;
  }

  /** Begins the call; `done` is called once. It throws if the call cannot begin. */
  begin<T>(
    begin: Begin<T>,
    { projectId, signal, onProgress, onResult, settings: more, ...rest }: CallOptions,
    flags: number,
    done: (failure: Failure | undefined, result: T | undefined, fields: OperationFields | undefined) => void,
  ): void {
    const settings: Text[] = pairs(rest, OPTIONS.operation, more);
    if (settings.length > 0) flags |= WITH_OPERATION;
    if (onProgress) flags |= WITH_PROGRESS | WITH_OPERATION;
    if (onResult) flags |= WITH_RESULT | WITH_OPERATION;
    if (signal) flags |= signal.aborted ? CANCELLED | WITH_OPERATION : WITH_OPERATION;
    this.#operation = begin(this.#id, flags | flagsOfCaller(), settings, projectId);
    if (signal) this.#listener = addListener(signal, this.cancel);
    onDone(this.#id, done as never, onProgress && this.#watch);
  }

  readonly #watch = (fields: OperationFields): void => {
    if (this.#thrown) return;
    const fail = (error: unknown): void => {
      this.#thrown ??= { error };
      this.cancel();
    };
    try {
      void Promise.resolve(this.#onProgress?.(progressOf(fields))).catch(fail);
    } catch (error) {
      fail(error);
    }
  };

  readonly cancel = (): void => {
    if (this.#operation) native.operationCancel(this.#operation);
  };

  /** The error with which the call rejects. */
  errorOf(failure: Failure | undefined): Error | undefined {
    if (this.#thrown) {
      this.#told = true;
      const own = { status: STATUSES.DBSS_ERR_CANCELLED, message: 'onProgress ended the call' };
      const attempts = failure?.attempts ?? 0;
      return makeError({ ...own, attempts, cancelledBy: 'callback' }, { cause: this.#thrown.error });
    }
    if (!failure) return undefined;
    const error = makeError(failure);
    const signal = this.#signal;
    return error.cancelledBy === 'signal' && signal?.aborted ? new AbortError(error, signal.reason) : error;
  }

  /** When no error of the call will come any more: what onProgress threw too late for it. */
  settle(): void {
    if (this.#thrown && !this.#told) throwLater(this.#thrown.error);
  }

  /** Ends what the call has; of a stream, when it is closed. */
  end(fields: OperationFields | undefined): void {
    if (this.#signal && this.#listener) removeListener(this.#signal, this.#listener);
    stopWatching(this.#id);
    try {
      const found = fields ?? (this.#operation && (native.readFields(this.#operation) as OperationFields));
      if (found) this.#onResult?.(resultOf(found));
    } catch (error) {
      throwLater(error);
    }
    if (this.#operation) native.release(this.#operation);
    this.#operation = undefined;
    void this.#client;
  }
}
