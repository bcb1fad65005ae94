import { AsyncResource } from 'node:async_hooks';
import { Readable } from 'node:stream';

import type { Call } from './call.js';
import type { Failure } from './errors.js';
import type { ReportStreamFields, ReportStreamHandle } from './generated/abi.js';
import { STATUSES } from './generated/statuses.js';
import { flagsOfCaller, native, newId, onDone } from './native.js';

/**
 * A report that is read in parts. Nothing is read ahead of `highWaterMark` bytes. Its end
 * comes only when the report is complete; everything less is an error. Without reading it to
 * the end, destroy it.
 */
export class ReportStream extends Readable {
  /** The size in bytes that the service announced. */
  readonly size: number | undefined;
  /** The format of the report, by its first bytes. */
  readonly format: 'pdf' | 'zip' | 'unknown';
  /** A safe form of the report's own name. */
  readonly filename: string;
  /** The header Content-Type. */
  readonly contentType: string | undefined;
  /** The service's id of the request. */
  readonly requestId: string | undefined;

  readonly #stream: ReportStreamHandle;
  readonly #call: Call;
  // The events have the context of the caller of open, such as that of AsyncLocalStorage.
  readonly #resource = new AsyncResource('DbssReportStream');
  #reading = false;
  #failure: Error | undefined;
  #closed: (() => void) | undefined;
  readonly #onReading: (reading: boolean) => void;

  /** @internal */
  constructor(
    stream: ReportStreamHandle,
    call: Call,
    highWaterMark: number,
    onReading: (reading: boolean) => void,
  ) {
    super({ highWaterMark });
    const fields = native.readFields(stream) as ReportStreamFields;
    this.size = fields.size;
    this.format = fields.format;
    this.filename = fields.filename;
    this.contentType = fields.contentType;
    this.requestId = fields.requestId;
    this.#stream = stream;
    this.#call = call;
    this.#onReading = onReading;
    call.onStop = () => this.destroy(call.errorOf(call.stopped));
  }

  /** @internal */
  override _read(): void {
    if (this.#reading) return;
    this.#reading = true;
    const id = newId();
    try {
      native.reportStreamRead(id, flagsOfCaller(), undefined, this.#stream, this.readableHighWaterMark);
    } catch (error) {
      this.#reading = false;
      this.destroy(error as Error);
      return;
    }
    this.#onReading(true);
    onDone(id, (failure, chunk) => {
      try {
        this.#resource.runInAsyncScope(() => this.#onRead(failure, chunk as Buffer));
      } finally {
        this.#onReading(false);
      }
    });
  }

  #onRead(failure: Failure | undefined, chunk: Buffer): void {
    this.#reading = false;
    if (this.#closed) this.#closed();
    else if (failure) this.#fail(failure);
    else if (chunk.length > 0) this.push(chunk);
    else this.push(null);
  }

  /** What has arrived before a failure is read before it, unless the call was cancelled. */
  #fail(failure: Failure): void {
    this.#failure = this.#call.errorOf(failure);
    if (this.readableLength === 0 || failure.status === STATUSES.DBSS_ERR_CANCELLED)
      this.destroy(this.#failure);
    // Who waits for more than is left reads in vain now, and learns of the failure by that.
    else this.emit('readable');
  }

  /** @internal */
  override read(size?: number): unknown {
    const chunk: unknown = super.read(size);
    if (this.#failure && (this.readableLength === 0 || (chunk === null && size !== 0)))
      process.nextTick(() => this.destroy(this.#failure));
    return chunk;
  }

  /** @internal */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    native.reportStreamClose(this.#stream);
    // The call is over when no read runs any more.
    this.#closed = () => {
      native.release(this.#stream);
      this.#call.end(undefined);
      this.#call.settle();
      callback(error);
    };
    if (!this.#reading) this.#closed();
  }
}
