// What is checked before libdbss is asked: the names of options and the types of their values.

import { fileURLToPath } from 'node:url';
import { types } from 'node:util';

import { makeError } from './errors.js';
import { OPTIONS } from './generated/options.js';
import { STATUSES } from './generated/statuses.js';
import { inOwnWords } from './words.js';

/** Text for libdbss: a string, or bytes that need not be UTF-8. */
export type Text = string | Uint8Array;

/** The options of libdbss for something, by their names here. */
export type Table = Readonly<Record<string, { readonly key: string; readonly kind: Kind }>>;
type Kind = 'text' | 'url' | 'path' | 'number' | 'limit' | 'bytes' | 'mode' | 'day' | 'boolean';

/** The options that only this package has: of any call, of some, and of a client. */
export const OF_CALLS = ['projectId', 'signal', 'onProgress', 'onResult', 'settings'];
const OF_SOME = ['instanceId', 'reportId', 'templateId', 'locale', 'file', 'directory', 'fd', 'replace'];
OF_SOME.push('highWaterMark', 'pageSize', 'name', 'status', 'spec', 'changes');
export const OF_CLIENTS = ['endpoint', 'log', 'tokenProvider', 'passcodeProvider', 'settings'];

// Those that are text, with the status of what is none.
const { DBSS_ERR_INVALID_ID, DBSS_ERR_INVALID_LOCALE, DBSS_ERR_INVALID_VALUE } = STATUSES;
const TEXTS: Readonly<Record<string, number>> = {
  projectId: DBSS_ERR_INVALID_ID,
  instanceId: DBSS_ERR_INVALID_ID,
  reportId: DBSS_ERR_INVALID_ID,
  templateId: DBSS_ERR_INVALID_ID,
  locale: DBSS_ERR_INVALID_LOCALE,
  name: DBSS_ERR_INVALID_VALUE,
  status: DBSS_ERR_INVALID_VALUE,
};

/** Throws the error for an argument. */
export function refuse(parameter: string, what: string, status: number = DBSS_ERR_INVALID_VALUE): never {
  throw makeError({ status, parameter, message: `${parameter}: ${what}` });
}

/** What a value is, for an error. A text may be a secret. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return 'a string';
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object' || value === null) return String(value);
  const { name } = (value as { constructor?: { name?: string } }).constructor ?? {};
  return `an object${name && name !== 'Object' ? ` (${name})` : ''}`;
}

/** Throws the error for a value that is not what it must be. */
export function mustBe(
  parameter: string,
  what: string,
  value: unknown,
  status: number = DBSS_ERR_INVALID_VALUE,
): never {
  if (value === null) refuse(parameter, 'must not be null', STATUSES.DBSS_ERR_NULL_ARGUMENT);
  if (value === undefined) status = STATUSES.DBSS_ERR_NULL_ARGUMENT;
  refuse(parameter, `must be ${what}, but is ${shown(value)}`, status);
}

/** A string: bytes may not be UTF-8. */
function stringOf(name: string, value: unknown, status?: number): string {
  if (types.isUint8Array(value)) status = STATUSES.DBSS_ERR_INVALID_UTF8;
  return typeof value === 'string' ? value : mustBe(name, 'a string', value, status);
}

/** In how many letters two names differ. */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 0; i < one.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < other.length; j++)
      next.push(Math.min(row[j + 1]! + 1, next[j]! + 1, row[j]! + Number(one[i] !== other[j])));
    row = next;
  }
  return row.at(-1)!;
}

/** What was perhaps meant by a name. */
function nearest(name: string, known: readonly string[]): string | undefined {
  const plain = name.toLowerCase().replaceAll('_', '');
  // Of names that differ more in length, no letter is compared.
  const far = (one: string): number =>
    Math.abs(one.length - plain.length) > 2 ? 3 : distance(plain, one.toLowerCase());
  const most = Math.min(2, Math.floor(plain.length / 3));
  return (
    known.find((one) => one.toLowerCase() === plain) ??
    known.find((one) => plain.length > 2 && one.toLowerCase().startsWith(plain)) ??
    known.find((one) => far(one) <= Math.min(1, most)) ??
    known.find((one) => far(one) <= most)
  );
}

/** Refuses a name that is no option. */
function refuseName(name: string, known: readonly string[], what: string): never {
  const near = nearest(name, known);
  const nested = [
    ['spec', OPTIONS.reportSpec],
    ['changes', OPTIONS.schedule],
  ] as const;
  const place = nested.find(([one, table]) => known.includes(one) && Object.hasOwn(table, name));
  const isOfClient = Object.hasOwn(OPTIONS.config, name) || OF_CLIENTS.includes(name);
  const isOfCall = [...OF_CALLS, ...OF_SOME].includes(name);
  const ofCall = known.includes('onResult');
  let hint = near && `did you mean ${near}?`;
  if (place) hint = `it is an option of ${place[0]}`;
  else if (isOfClient && ofCall) hint = 'it is an option of a client, not of one call';
  else if (isOfCall && known.includes('log')) hint = 'it is an option of a call, not of a client';
  const message = `${what}: there is no option ${JSON.stringify(name)}${hint ? `; ${hint}` : ''}`;
  throw makeError({ status: STATUSES.DBSS_ERR_UNKNOWN_KEY, parameter: name, message });
}

/**
 * A copy of the options that are given, which may be none: those of their own, each read once.
 * `own` and `table` have the names that there are.
 */
export function optionsOf<T extends object>(
  options: T | undefined,
  example: string,
  own: readonly string[] = OF_CALLS,
  table: Table = OPTIONS.operation,
  what = 'options',
): T {
  if (options === undefined && what === 'options') return {} as T;
  if (Object(options) !== options || Array.isArray(options) || typeof options === 'function')
    mustBe(what, `an object such as ${example}`, options);
  const given = Object.entries(options!).filter(([, value]) => value !== undefined);
  for (const [name] of given)
    if (!own.includes(name) && !Object.hasOwn(table, name))
      refuseName(name, [...own, ...Object.keys(table)], what);
  for (const [name, value] of given)
    if (own.includes(name) && Object.hasOwn(TEXTS, name)) stringOf(name, value, TEXTS[name]);
  return Object.fromEntries(given) as T;
}

export function checkFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') mustBe(name, 'a function', value);
}

export function checkSignal(signal: unknown): void {
  if (signal === undefined) return;
  const { aborted, addEventListener, removeEventListener } = Object(signal) as Partial<AbortSignal>;
  const isTarget = typeof addEventListener === 'function' && typeof removeEventListener === 'function';
  if (typeof aborted !== 'boolean' || !isTarget) mustBe('signal', 'an AbortSignal', signal);
}

const isText = (value: unknown): value is Text => typeof value === 'string' || types.isUint8Array(value);

export function pathOf(name: string, path: unknown): Text {
  if (!(path instanceof URL))
    return isText(path) ? path : mustBe(name, 'a string, a Buffer or a file URL', path);
  try {
    return fileURLToPath(path);
  } catch (error) {
    refuse(name, `must be a URL of a local file: ${(error as Error).message}`);
  }
}

function textOf(name: string, kind: Kind, value: unknown): Text {
  switch (kind) {
    case 'boolean':
      return typeof value === 'boolean' ? String(value) : mustBe(name, 'true or false', value);
    case 'limit':
      // libdbss takes -1 for no limit.
      if (value === Infinity) return '-1';
      if (value === -1) mustBe(name, 'a whole number of milliseconds, or Infinity for no limit', value);
      return typeof value === 'number'
        ? String(value)
        : mustBe(name, 'a number, or Infinity for no limit', value);
    case 'number':
      return typeof value === 'number' ? String(value) : mustBe(name, 'a number', value);
    case 'bytes':
      if (typeof value === 'number' || typeof value === 'bigint') return String(value);
      return mustBe(name, 'a number or a bigint', value);
    case 'mode':
      if (Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 0o777)
        return Number(value).toString(8);
      return mustBe(name, 'an octal number such as 0o640', value);
    case 'day':
      // Not a Date, which is another day in another time zone.
      return typeof value === 'string' ? value : mustBe(name, "a day as text, such as '2026-11-24'", value);
    case 'path':
      return pathOf(name, value);
    case 'url':
      if (value instanceof URL) return value.href;
      return typeof value === 'string' ? value : mustBe(name, 'a string or a URL', value);
    case 'text':
      // A token may be the contents of a file.
      return name === 'token' && isText(value) ? value : stringOf(name, value);
  }
}

/** Other options by their keys in libdbss. */
export function settingsOf(settings: unknown): (readonly [string, Text])[] {
  if (settings === undefined) return [];
  const what = "pairs such as [['max_attempts', '3']]";
  const isIterable = typeof (Object(settings) as Iterable<unknown>)[Symbol.iterator] === 'function';
  if (!isIterable || isText(settings)) mustBe('settings', what, settings);
  return [...(settings as Iterable<unknown>)].map((pair) => {
    if (!Array.isArray(pair) || pair.length !== 2) mustBe('settings', what, pair);
    const [key, value] = pair as unknown[];
    if (typeof key !== 'string') mustBe('settings', what, key);
    const status = STATUSES.DBSS_ERR_NULL_ARGUMENT;
    if (value === undefined || value === null)
      throw makeError(inOwnWords({ status, parameter: key, message: `must not be ${String(value)}` }));
    return [key, isText(value) ? value : mustBe('settings', what, value)] as const;
  });
}

/** Options as libdbss takes them: keys and values in turn. */
export function pairs(options: object, table: Table, settings?: unknown): Text[] {
  const made: Text[] = [];
  for (const [name, value] of Object.entries(options)) {
    const { key, kind } = table[name]!;
    made.push(key, textOf(name, kind, value));
  }
  for (const [key, value] of settingsOf(settings)) made.push(key, value);
  return made;
}
