// What is checked before libdbss is asked: the names of options and the types of their values.

import { fileURLToPath } from 'node:url';
import { types } from 'node:util';

import { makeError } from './errors.js';
import { OPTIONS } from './generated/options.js';
import { STATUSES } from './generated/statuses.js';
import { NO_OPTION } from './words.js';

/** Text for libdbss: a string, or bytes that need not be UTF-8. */
export type Text = string | Uint8Array;

/** The options of libdbss for something, by their names here. */
export type Table = Readonly<Record<string, { readonly key: string; readonly kind: Kind }>>;
type Kind = 'text' | 'url' | 'path' | 'number' | 'limit' | 'bytes' | 'mode' | 'day' | 'boolean';

// What is no option of libdbss, for the hints to a name that is wrong.
const PARAMETERS = [
  ...['instanceId', 'reportId', 'templateId', 'projectId', 'pageSize', 'directory', 'replace'],
  ...['highWaterMark', 'signal', 'onProgress', 'onResult', 'settings'],
];

/** Throws the error for an argument. */
export function refuse(
  parameter: string,
  what: string,
  status: number = STATUSES.DBSS_ERR_INVALID_VALUE,
): never {
  throw makeError({ status, parameter, message: `${parameter}: ${what}` });
}

/** What a value is, for an error. A text may be a secret. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return 'a string';
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null) return String(value);
  const { name } = (value as { constructor?: { name?: string } }).constructor ?? {};
  return `an object${name && name !== 'Object' ? ` (${name})` : ''}`;
}

/** Throws the error for a value that is not what it must be. */
export function mustBe(parameter: string, what: string, value: unknown): never {
  if (value === null) refuse(parameter, 'must not be null', STATUSES.DBSS_ERR_NULL_ARGUMENT);
  const { DBSS_ERR_NULL_ARGUMENT, DBSS_ERR_INVALID_VALUE } = STATUSES;
  const status = value === undefined ? DBSS_ERR_NULL_ARGUMENT : DBSS_ERR_INVALID_VALUE;
  refuse(parameter, `must be ${what}, but is ${shown(value)}`, status);
}

/** The options that are given, which may be none. */
export function optionsOf<T extends object>(options: T | undefined, example: string, name = 'options'): T {
  if (options === undefined && name === 'options') return {} as T;
  if (Object(options) !== options || Array.isArray(options) || typeof options === 'function')
    mustBe(name, `an object such as ${example}`, options);
  return options!;
}

export function checkFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') mustBe(name, 'a function', value);
}

export function checkSignal(signal: unknown): void {
  const { aborted, addEventListener } = Object(signal) as Partial<AbortSignal>;
  if (signal !== undefined && (typeof aborted !== 'boolean' || typeof addEventListener !== 'function'))
    mustBe('signal', 'an AbortSignal', signal);
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
      return isText(value) ? value : mustBe(name, "a day as text, such as '2026-11-24'", value);
    case 'path':
      return pathOf(name, value);
    case 'url':
      if (value instanceof URL) return value.href;
      return isText(value) ? value : mustBe(name, 'a string or a URL', value);
    case 'text':
      return isText(value) ? value : mustBe(name, 'a string', value);
  }
}

/** Refuses the name of an option of a client, or nearly of a parameter, given to one call. */
function refuseParameter(name: string): void {
  const plain = name.toLowerCase().replaceAll('_', '');
  const near = PARAMETERS.find((one) => one !== name && [plain, `${plain}id`].includes(one.toLowerCase()));
  const isOfClient = Object.hasOwn(OPTIONS.config, name);
  if (!near && !isOfClient) return;
  const hint = near ? `did you mean ${near}?` : 'it is an option of a client, not of one call';
  const message = `options: there is no option "${name}"; ${hint}`;
  throw makeError({ status: STATUSES.DBSS_ERR_UNKNOWN_KEY, parameter: name, message });
}

/** Other options by their keys in libdbss. */
export function settingsOf(settings: unknown): (readonly [string, Text])[] {
  if (settings === undefined) return [];
  const what = "pairs such as [['max_attempts', '3']]";
  const isIterable = typeof (Object(settings) as Iterable<unknown>)[Symbol.iterator] === 'function';
  if (!isIterable || isText(settings)) mustBe('settings', what, settings);
  const made = [...(settings as Iterable<unknown>)];
  for (const pair of made) {
    if (!Array.isArray(pair) || pair.length !== 2) mustBe('settings', what, pair);
    // The addon refuses null, with the key.
    for (const one of pair as unknown[]) if (!isText(one ?? '')) mustBe('settings', what, one);
  }
  return made as [string, Text][];
}

/** Options as libdbss takes them: keys and values in turn. */
export function pairs(options: object, table: Table, settings?: unknown): Text[] {
  const made: Text[] = [];
  for (const [name, value] of Object.entries(options)) {
    const known = Object.hasOwn(table, name) ? table[name] : undefined;
    if (!known && table === OPTIONS.operation) refuseParameter(name);
    // libdbss refuses what is no option, and finds what was perhaps meant.
    if (!known) made.push(NO_OPTION + name, '');
    else if (value !== undefined) made.push(known.key, textOf(name, known.kind, value));
  }
  for (const [key, value] of settingsOf(settings)) made.push(key, value);
  return made;
}
