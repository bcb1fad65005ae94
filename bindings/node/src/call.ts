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
  /** The service's id of the request for a report that has begun to arrive. */
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
  /**
   * Is called when a call that has begun is over, also if it failed; for a stream, when it is
   * closed. A call whose options are refused does not begin.
   */
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

/** What stopped a call: its signal, its client, closing that, onProgress, or its limit of time. */
type By = 'operation' | 'context' | 'close' | 'callback' | 'limit';
type Stop = (by: By) => void;

const forgotten = new FinalizationRegistry<() => void>((remove) => remove());

/** What stops calls. It does not keep them: who forgets a stream may keep its client and its signal. */
export class Stops {
  readonly #all = new Set<WeakRef<Stop>>();
  readonly #whenEmpty: (() => void) | undefined;

  constructor(whenEmpty?: () => void) {
    this.#whenEmpty = whenEmpty;
  }

  /** Adds what stops a call; the result removes it. */
  add(stop: Stop): () => void {
    const one = new WeakRef(stop);
    const remove = (): void => {
      this.#all.delete(one);
      forgotten.unregister(one);
      if (this.#all.size === 0) this.#whenEmpty?.();
    };
    this.#all.add(one);
    forgotten.register(stop, remove, one);
    return remove;
  }

  run(by: By): void {
    for (const one of [...this.#all]) one.deref()?.(by);
  }
}

const ofSignals = new WeakMap<AbortSignal, Stops>();

/** A signal gets one listener for all calls: many would look like a leak. */
function stopsOf(signal: AbortSignal): Stops {
  const known = ofSignals.get(signal);
  if (known) return known;
  const run = (): void => stops.run('operation');
  const stops = new Stops(() => {
    ofSignals.delete(signal);
    signal.removeEventListener('abort', run);
  });
  signal.addEventListener('abort', run);
  ofSignals.set(signal, stops);
  return stops;
}

const TOTAL_TIMEOUT = 'total_timeout_ms';

/** The limit of whole calls that settings have: -1 for none, undefined if they do not set it. */
export function limitOf(settings: readonly Text[]): number | undefined {
  let limit: number | undefined;
  for (let i = 0; i < settings.length; i += 2)
    if (settings[i] === TOTAL_TIMEOUT) limit = Number(Buffer.from(settings[i + 1]!));
  return limit;
}

/** What a call has of its client, which it keeps. */
export interface Owner {
  readonly client: object;
  readonly stops: Stops;
  readonly limit: number | undefined;
}

/** What begins a call in the addon. */
export type Begin<T> = (
  id: number,
  flags: number,
  settings: Settings,
  project: string | undefined,
) => Started<T>;

/** What is called at the end of a call. */
export type Done<T> = (
  failure: Failure | undefined,
  result: T | undefined,
  fields: OperationFields | undefined,
) => void;

/** A call that runs. */
export class Call {
  /** Of a stream: what ends it when the call is stopped. */
  onStop: (() => void) | undefined;
  readonly #owner: Owner;
  readonly #options: CallOptions;
  readonly #onProgress: CallOptions['onProgress'];
  readonly #onResult: CallOptions['onResult'];
  readonly #id = newId();
  #operation: OperationHandle | undefined;
  #thrown: { error: unknown } | undefined;
  #told = false;
  #by: By | undefined;
  #limit = -1;
  #leave: (() => void)[] = [];

  constructor(owner: Owner, options: CallOptions) {
    const { signal, onProgress, onResult } = options;
    checkSignal(signal);
    checkFunction('onProgress', onProgress);
    checkFunction('onResult', onResult);
    this.#owner = owner;
    this.#options = options;
    // With the context of the caller, such as that of AsyncLocalStorage.
    this.#onProgress = onProgress && AsyncResource.bind(onProgress);
    this.#onResult = onResult && AsyncResource.bind(onResult);
  }

  /** Begins the call; `done` is called once. It throws if the call cannot begin. */
  begin<T>(begin: Begin<T>, flags: number, done: Done<T>): void {
    const { projectId, signal, onProgress, onResult, settings: more, ...rest } = this.#options;
    const settings = pairs(rest, OPTIONS.operation, more);
    const limit = limitOf(settings);
    this.#limit = limit ?? this.#owner.limit ?? -1;
    // The addon takes from it what the call waits for a thread.
    if (limit === undefined && this.#limit > 0) settings.push(TOTAL_TIMEOUT, String(this.#limit));
    if (onProgress) flags |= WITH_PROGRESS;
    if (onResult) flags |= WITH_RESULT;
    if (signal?.aborted) {
      flags |= CANCELLED;
      this.#by = 'operation';
    }
    for (const stops of [this.#owner.stops, signal && stopsOf(signal)])
      if (stops) this.#leave.push(stops.add(this.#stop));
    try {
      this.#operation = begin(this.#id, flags | flagsOfCaller(), settings, projectId);
    } catch (error) {
      this.#end();
      throw error;
    }
    const timer =
      this.#limit > 0 && this.#limit < 2 ** 31 ? setTimeout(this.#expire, this.#limit) : undefined;
    const atEnd: Done<T> = (...given) => {
      clearTimeout(timer);
      done(...given);
    };
    onDone(this.#id, atEnd as never, onProgress && this.#watch);
  }

  readonly #expire = (): void => {
    if (this.#operation && native.endWaiting(this.#operation)) this.#by ??= 'limit';
  };

  readonly #watch = (fields: OperationFields): void => {
    if (this.#thrown) return;
    const fail = (error: unknown): void => {
      this.#thrown ??= { error };
      this.#stop('callback');
    };
    try {
      void Promise.resolve(this.#onProgress?.(progressOf(fields))).catch(fail);
    } catch (error) {
      fail(error);
    }
  };

  readonly #stop: Stop = (by) => {
    this.#by ??= by;
    if (this.#operation) native.operationCancel(this.#operation);
    this.onStop?.();
  };

  /** The failure of a call that was stopped, although nothing of libdbss failed. */
  get stopped(): Failure | undefined {
    if (!this.#by) return undefined;
    const { attempts } = this.#fields() ?? {};
    return { status: STATUSES.DBSS_ERR_CANCELLED, ...(attempts !== undefined && { attempts }) };
  }

  /** The error with which the call rejects. */
  errorOf(failure: Failure | undefined): Error | undefined {
    const { DBSS_ERR_CANCELLED, DBSS_ERR_CLOSED, DBSS_ERR_TOTAL_TIMEOUT } = STATUSES;
    if (this.#thrown) {
      this.#told = true;
      const { attempts = 0, candidates = [] } = failure ?? {};
      const own = { status: DBSS_ERR_CANCELLED, message: 'onProgress ended the call', attempts, candidates };
      return makeError({ ...own, cancelledBy: 'callback' }, { cause: this.#thrown.error });
    }
    if (!failure) return undefined;
    const by = this.#by;
    const limit = `totalTimeoutMs (${this.#limit} ms)`;
    if (by === 'limit') {
      const message = `the call took longer than ${limit}`;
      return makeError({ status: DBSS_ERR_TOTAL_TIMEOUT, message, retryable: true });
    }
    const { status, parameter: _, ...rest } = failure;
    // libdbss tells what the wait for a thread has left of it.
    if (status === DBSS_ERR_TOTAL_TIMEOUT)
      return makeError({ ...failure, message: failure.message!.replace(/totalTimeoutMs \(\d+ ms\)/, limit) });
    // A call that was made before its client was closed may begin after that.
    if (!by || (status !== DBSS_ERR_CANCELLED && status !== DBSS_ERR_CLOSED)) return makeError(failure);
    const message = `the call was cancelled${by === 'close' ? ': its client was closed' : ''}`;
    const error = makeError({ ...rest, status: DBSS_ERR_CANCELLED, message, cancelledBy: by });
    return by === 'operation' ? new AbortError(error, this.#options.signal?.reason) : error;
  }

  /** When no error of the call will come any more: what onProgress threw too late for it. */
  settle(): void {
    if (this.#thrown && !this.#told) throwLater(this.#thrown.error);
  }

  /** Ends what the call has; of a stream, when it is closed. */
  end(fields: OperationFields | undefined): void {
    stopWatching(this.#id);
    try {
      const onResult = this.#onResult;
      const found = onResult && (fields ?? this.#fields());
      if (found) onResult(resultOf(found));
    } catch (error) {
      throwLater(error);
    }
    this.#end();
  }

  #fields(): OperationFields | undefined {
    return this.#operation && (native.readFields(this.#operation) as OperationFields);
  }

  #end(): void {
    try {
      for (const leave of this.#leave.splice(0)) leave();
    } catch (error) {
      throwLater(error);
    }
    if (this.#operation) native.release(this.#operation);
    this.#operation = undefined;
  }
}
