// The addon: finding it, starting calls, and passing its messages on.

import { AsyncLocalStorage } from 'node:async_hooks';
import { constants } from 'node:buffer';
import { createRequire } from 'node:module';
import * as path from 'node:path';

import type { Text } from './check.js';
import { makeError, type Failure } from './errors.js';
import type {
  Functions,
  LogRecordFields,
  OperationFields,
  OperationHandle,
  TokenRequestFields,
  TokenRequestHandle,
} from './generated/abi.js';
import { inOwnWords } from './words.js';

export type { Text };
/** Options of one call: keys and values in turn. */
export type Settings = readonly Text[] | undefined;
/** The operation of a call that has begun; T is the type of its result. */
export type Started<T> = (OperationHandle & { readonly result?: T }) | undefined;

export const WITH_PROGRESS = 1;
export const CANCELLED = 2;
export const WITH_RESULT = 4;
const BY_PROVIDER = 8;

const providing = new AsyncLocalStorage<{ active: boolean }>();

/** Runs a provider. What it leaves behind, such as timers, is not of it any more. */
export async function provide<T>(run: () => T): Promise<Awaited<T>> {
  const provider = { active: true };
  try {
    return await providing.run(provider, run);
  } finally {
    provider.active = false;
  }
}

/** The flags of a call that depend on who makes it. */
export function flagsOfCaller(): number {
  return providing.getStore()?.active ? BY_PROVIDER : 0;
}

type Done = (failure: Failure | undefined, result: unknown, fields: OperationFields | undefined) => void;

interface Native extends Functions {
  /** The number of the version of libdbss that the addon is for. */
  readonly builtFor: number;
  readFields(handle: unknown): unknown;
  release(handle: unknown): void;
  /** Ends the call of an operation if it waits for a thread. */
  endWaiting(operation: OperationHandle): boolean;
  setThreads(count: number): void;
}

interface Addon {
  /** The functions for this copy of the package: a thread may have several. */
  setUp(
    dispatch: (kind: number, id: number, a: never, b: never, c: never) => void,
    make: unknown,
    most: number,
  ): Native;
}

/** What receives the log records and token requests of a client. */
export interface Receiver {
  receiveLog(record: LogRecordFields, dropped: number, failure: Failure | undefined): void;
  receiveRequest(request: TokenRequestHandle, fields: TokenRequestFields): void;
}

function load(): Addon {
  const tried: string[] = [];
  const from = createRequire(__filename);
  const platform = `@dbss/${process.platform}-${process.arch}`;
  // The last one is that of the repository, which builds it there.
  const inRepository = path.join(__dirname, '../build/dbss.node');
  for (const name of [`${platform}-glibc`, `${platform}-musl`, inRepository]) {
    try {
      return from(name) as Addon;
    } catch (error) {
      tried.push(`${name}: ${(error as Error).message.split('\n')[0] ?? ''}`);
    }
  }
  throw new Error(
    'dbss: no prebuilt package for this platform is installed. There are packages for Linux on ' +
      'x64 and arm64, with glibc and musl; npm installs the right one unless it omits optional ' +
      `dependencies. Tried: ${tried.join('; ')}`,
  );
}

/** Refuses another libdbss than that of the package, unless it is newer and compatible. */
function checked(functions: Native): Native {
  const found = functions.versionNumber();
  const major = (number: number): number => Math.floor(number / 10_000);
  if (found >= functions.builtFor && major(found) === major(functions.builtFor)) return functions;
  const text = (number: number): string =>
    [major(number), Math.floor(number / 100) % 100, number % 100].join('.');
  throw new Error(
    `dbss: this process has loaded libdbss ${text(found)}, but the package needs ${text(functions.builtFor)}. ` +
      'Another libdbss.so.0 was loaded first, by LD_LIBRARY_PATH, LD_PRELOAD or another copy of the package',
  );
}

const calls = new Map<number, Done>();
const watchers = new Map<number, (fields: OperationFields) => void>();
const receivers = new Map<number, WeakRef<Receiver>>();
const collected = new FinalizationRegistry<number>((id) => receivers.delete(id));
let lastId = 0;

export function newId(): number {
  return ++lastId;
}

/** Registers a client, which is not kept by that. */
export function addReceiver(receiver: Receiver): number {
  const id = newId();
  receivers.set(id, new WeakRef(receiver));
  collected.register(receiver, id);
  return id;
}

/** Registers what is called at the end of the call that has begun with this id. */
export function onDone(id: number, done: Done, watcher?: (fields: OperationFields) => void): void {
  calls.set(id, done);
  if (watcher) watchers.set(id, watcher);
}

export function stopWatching(id: number): void {
  watchers.delete(id);
}

// The kinds of messages, by their numbers in addon.c.
const dispatchers = [
  (id: number, failure: Failure | undefined, result: unknown, fields: OperationFields | undefined) => {
    const done = calls.get(id);
    calls.delete(id);
    done?.(failure && inOwnWords(failure), result, fields);
  },
  (id: number, fields: OperationFields) => watchers.get(id)?.(fields),
  (id: number, record: LogRecordFields, dropped: number, failure: Failure | undefined) =>
    receivers.get(id)?.deref()?.receiveLog(record, dropped, failure),
  (id: number, request: TokenRequestHandle, fields: TokenRequestFields) => {
    const receiver = receivers.get(id)?.deref();
    if (receiver) receiver.receiveRequest(request, fields);
    else native.release(request);
  },
];

function dispatch(kind: number, id: number, a: never, b: never, c: never): void {
  dispatchers[kind]?.(id, a, b, c);
}

export const native = checked(
  load().setUp(dispatch, (failure: Failure) => makeError(inOwnWords(failure)), constants.MAX_LENGTH),
);

/** Lets an exception of a function of the user end like one in an event handler. */
export function throwLater(error: unknown): void {
  process.nextTick(() => {
    throw error;
  });
}
