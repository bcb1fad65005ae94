// The errors of libdbss in the words of this package: what libdbss calls parameters, options
// and values in C becomes what is written here.

import { OPTIONS } from './generated/options.js';

// The names of parameters. Those of options are in their table.
const NAMES = new Map<string, string>([
  ['ctx', 'client'],
  ['cursor', 'list'],
  ['expires_ms', 'expiresAt'],
  ['flags', 'replace'],
  ['id', 'reportId'],
  ['instance', 'instanceId'],
  ['key', 'settings'],
  ['page_size', 'pageSize'],
  ['path', 'file'],
  ['project', 'projectId'],
]);
for (const table of Object.values(OPTIONS))
  for (const [name, { key }] of Object.entries<{ key: string }>(table)) NAMES.set(key, name);

// A word with an underscore is no other word; it may be a part of a path or a URL.
const KEYS = [...NAMES.keys()].filter((key) => key.includes('_')).join('|');
const KEY = new RegExp(`(?<![\\w./-])(?:${KEYS})(?![\\w/-]|\\.\\w)`, 'g');
// Before the service's own words: only where libdbss certainly names an option.
const ADVICE = new RegExp(`(?<=\\b(?:without |within |has no "))(?:${KEYS})\\b`, 'g');
const QUOTED = /("[^"]*")/;

const nameOf = (name: string): string => NAMES.get(name) ?? name;

const WORDS = [
  [/must not be NULL/, 'is missing'],
  [/-1 for no limit/, 'Infinity for no limit'],
  [/; use -1 if/, '; leave it out if'],
  [/an? [a-z ]+ has no option/, 'there is no option'],
  [/allow replacing it/, 'set replace: true'],
  [/set the project's id/, 'set projectId'],
  // Numbers come to libdbss as text.
  [/octal digits from (\d+) to (\d+), such as (\d+)/, 'from 0o$1 to 0o$2, such as 0o$3'],
  [/(?<=0o\d+, but is )"(\d+)"$/, '0o$1'],
  [/(?<=, but is )"(-?\d[\d.e+]*|NaN|-?Infinity)"$/, '$1'],
] as const;

/** The parameter and the message of an error of libdbss, with the names and words here. */
export function inOwnWords<T extends { status: number; message?: string; parameter?: string }>(
  failure: T,
): T {
  const { status, parameter } = failure;
  let { message = '' } = failure;
  if (status >= 200 && status < 300) message = message.replace(ADVICE, nameOf);
  else {
    if (parameter !== undefined && message.startsWith(`${parameter}: `)) {
      const rest = message.slice(parameter.length + 2);
      message = parameter === 'ctx' ? rest : `${nameOf(parameter)}: ${rest}`;
    }
    for (const [found, own] of WORDS) message = message.replace(found, own);
    const parts = message.split(QUOTED);
    message = parts.map((part, index) => (index % 2 ? part : part.replace(KEY, nameOf))).join('');
  }
  return { ...failure, message, ...(parameter !== undefined && { parameter: nameOf(parameter) }) };
}
