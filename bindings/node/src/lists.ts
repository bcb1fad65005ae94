import { randomUUID } from 'node:crypto';

import { makeError } from './errors.js';
import type { CursorHandle, PageHandle } from './generated/abi.js';
import { STATUSES } from './generated/statuses.js';
import { native } from './native.js';

/** The fields of an item as the service sent them, by name. */
export type Fields = Readonly<Record<string, unknown>>;

// Fields of items, leniently: the service has changed types between its versions.

function value(raw: Fields, names: string[]): unknown {
  for (const name of names) {
    const found = raw[name];
    if (found !== undefined && found !== null) return found;
  }
  return undefined;
}

/** A text; of another value its JSON. */
export function text(raw: Fields, ...names: string[]): string | undefined {
  const found = value(raw, names);
  if (found === undefined || typeof found === 'string') return found;
  if (typeof found === 'bigint') return String(found);
  return JSON.stringify(found, (_, one: unknown) => (typeof one === 'bigint' ? Number(one) : one));
}

/** A number, also from a text or with a fraction. */
export function integer(raw: Fields, ...names: string[]): number | undefined {
  const found = value(raw, names);
  if (typeof found !== 'number' && typeof found !== 'bigint' && typeof found !== 'string') return undefined;
  const number = found === '' ? NaN : Math.trunc(Number(found));
  return Number.isFinite(number) ? number : undefined;
}

export function boolean(raw: Fields, ...names: string[]): boolean | undefined {
  const found = value(raw, names);
  return typeof found === 'boolean' ? found : undefined;
}

export function list(raw: Fields, ...names: string[]): unknown[] | undefined {
  const found = value(raw, names);
  return Array.isArray(found) ? found : undefined;
}

// What is escaped in a text, the quotes of texts, and whole numbers with fraction and exponent.
// A whole text as one token would need a stack as long as the text.
const TOKENS = /(?:\\.){1,99}|"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
// The only name in an object that stands for a large integer. No service can know it.
const MARK = randomUUID();

// A bigint is made in a time that grows with the square of its digits.
const MAX_DIGITS = 1000;

/** Parses JSON; an integer that a number cannot hold exactly becomes a bigint, a very long one text. */
export function parse(json: string): unknown {
  if (!/\d{16}/.test(json)) return JSON.parse(json);
  let inText = false;
  const marked = json.replace(TOKENS, (token) => {
    if (token === '"') inText = !inText;
    const isInteger = !inText && /^-?\d+$/.test(token);
    return isInteger && !Number.isSafeInteger(Number(token)) ? `{"${MARK}":"${token}"}` : token;
  });
  return JSON.parse(marked, (_, one: unknown) => {
    const digits = typeof one === 'object' && one !== null ? (one as Fields)[MARK] : undefined;
    if (typeof digits !== 'string') return one;
    return digits.length > MAX_DIGITS ? digits : BigInt(digits);
  });
}

/** The items of a page, which is released, unless that fails. */
export function readPage<T>(page: PageHandle, convert: (raw: Fields) => T): T[] {
  const json = native.pageJson(page);
  let items: T[];
  try {
    items = (parse(json.toString()) as { items: Fields[] }).items.map(convert);
  } catch (error) {
    const message = 'the list that the service sent cannot be read';
    throw makeError({ status: STATUSES.DBSS_ERR_UNEXPECTED_RESPONSE, message }, { cause: error });
  }
  native.release(page);
  return items;
}

/**
 * A list of the service, read page by page:
 *
 *     for await (const report of client.reports({ instanceId })) ...
 *
 * The list may change meanwhile: no item comes twice, and a deletion does not hide the items
 * that remain. After a failure, another loop continues with the same page; after a `break`,
 * with the next item.
 */
export class List<T> implements AsyncIterable<T> {
  readonly #open: () => CursorHandle;
  readonly #fetch: (cursor: CursorHandle) => Promise<PageHandle | undefined>;
  readonly #convert: (raw: Fields) => T;
  #cursor: CursorHandle | undefined;
  /** A page that could not be read. */
  #unread: PageHandle | undefined;
  #items: T[] = [];
  #atEnd = false;
  #total: number | undefined;
  /** The call that runs: libdbss has one of a list at a time. */
  #running: Promise<void> | undefined;

  /** @internal */
  constructor(
    open: () => CursorHandle,
    fetch: (cursor: CursorHandle) => Promise<PageHandle | undefined>,
    convert: (raw: Fields) => T,
  ) {
    this.#open = open;
    this.#fetch = fetch;
    this.#convert = convert;
  }

  /** The number of items in the whole list, as the service told with the last page. */
  get total(): number | undefined {
    return this.#total;
  }

  /**
   * The next page: the items that no loop has got yet; none at the end. Calls at the same time
   * get one page after the other.
   *
   * @throws {@link DbssError}; another call fetches the same page again.
   */
  async nextPage(): Promise<T[]> {
    while (this.#running) await this.#running;
    let end = (): void => {};
    this.#running = new Promise((resolve) => (end = resolve));
    try {
      return await this.#nextPage();
    } finally {
      this.#running = undefined;
      end();
    }
  }

  async #nextPage(): Promise<T[]> {
    if (this.#items.length === 0 && !this.#atEnd) {
      this.#cursor ??= this.#open();
      const page = this.#unread ?? (await this.#fetch(this.#cursor));
      if (page) {
        this.#unread = page;
        this.#total = (native.readFields(page) as { total?: number }).total;
        const items = readPage(page, this.#convert);
        this.#unread = undefined;
        return items;
      }
      this.#atEnd = true;
      native.release(this.#cursor);
    }
    return this.#items.splice(0);
  }

  /** Iterates over the items that remain, and fetches each page when it is needed. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const page = await this.nextPage();
      if (page.length === 0) return;
      this.#items = page;
      for (let item = page.shift(); item !== undefined; item = page.shift()) yield item;
    }
  }

  /** All items that remain. */
  async toArray(): Promise<T[]> {
    const items: T[] = [];
    for await (const item of this) items.push(item);
    return items;
  }
}
