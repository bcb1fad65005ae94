// The errors of libdbss in the words of this package: what libdbss calls parameters, options
// and values in C becomes what is written here.

import type { Failure } from './errors.js';
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
const OBJECTS: Readonly<Record<string, string>> = { context: 'client', cursor: 'list' };

const nameOf = (name: string): string => NAMES.get(name) ?? name;

/** Numbers come to libdbss as text, which it shows in quotes. */
function valueOf(text: string, isMode: boolean): string {
  const plain = text.startsWith('"') ? text.slice(1, -1) : text;
  if (plain === '' || (plain !== 'NaN' && Number.isNaN(Number(plain)))) return text;
  return isMode ? `0o${plain}` : plain;
}

/** The parameter and the message of an error of libdbss, with the names and words here. */
export function inOwnWords({ parts, ...failure }: Failure): Failure {
  const { parameter, message = '' } = failure;
  if (!parts) {
    // Of the addon, without the name.
    if (parameter === undefined) return failure;
    return { ...failure, parameter: nameOf(parameter), message: `${nameOf(parameter)}: ${message}` };
  }
  const isMode = parts.some(({ kind }) => kind === 'mode');
  const isKey = parameter === 'key';
  const word = ({ kind, text = '' }: (typeof parts)[number]): string => {
    switch (kind) {
      case 'name':
        // What was perhaps meant is a key, too.
        return isKey && text !== 'key' ? text : nameOf(text);
      case 'value':
        return valueOf(text, isMode);
      case 'mode':
        return `0o${text}`;
      case 'notation':
        return isMode ? '' : text;
      case 'null':
      case 'unknown':
        return 'undefined';
      case 'no_limit':
        return 'Infinity';
      case 'replace':
        return 'set replace: true';
      case 'object':
        return OBJECTS[text] ?? text;
      default:
        return text;
    }
  };
  const own = parameter === undefined ? {} : { parameter: nameOf(parameter) };
  // libdbss has one function for the answers of both kinds of providers.
  const told = parts
    .map(word)
    .join('')
    .replace(/^(the passcode provider failed: )token:/, '$1passcode:');
  return { ...failure, ...own, message: told };
}
