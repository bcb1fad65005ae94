import { setMaxListeners } from 'node:events';
import { types } from 'node:util';

import {
  Call,
  limitOf,
  resultOf,
  Stops,
  type Begin,
  type CallOptions,
  type CallResult,
  type Owner,
} from './call.js';
import {
  checkFunction,
  mustBe,
  OF_CALLS,
  OF_CLIENTS,
  optionsOf,
  pairs,
  pathOf,
  refuse,
  settingsOf,
  shown,
  type Table,
  type Text,
} from './check.js';
import {
  AbortError,
  codeOf,
  DbssError,
  makeError,
  setProperty,
  type Failure,
  type SystemPath,
} from './errors.js';
import {
  FILE_REPLACE,
  type ContextHandle,
  type CredentialsFields,
  type CursorHandle,
  type LogRecordFields,
  type MirrorResultFields,
  type MirrorResultHandle,
  type OperationFields,
  type PageHandle,
  type ReportStreamHandle,
  type TokenRequestHandle,
} from './generated/abi.js';
import {
  toDatabase,
  toInstance,
  toReport,
  toSchedule,
  toTemplate,
  type Database,
  type Instance,
  type MirrorCounts,
  type Report,
  type Schedule,
  type Template,
} from './generated/items.js';
import {
  OPTIONS,
  type ClientSettings,
  type MirrorOptions,
  type ReportSpec,
  type ScheduleChanges,
} from './generated/options.js';
import { STATUSES, type StatusCode } from './generated/statuses.js';
import { List, readPage, type Fields } from './lists.js';
import {
  addReceiver,
  native,
  provide,
  throwLater,
  WITH_RESULT,
  type Receiver,
  type Started,
} from './native.js';
import { ReportStream } from './stream.js';
import { inOwnWords } from './words.js';

/** A token, and when it expires, by the clock of this machine. */
export interface Token {
  /** 1 to 98304 visible ASCII characters. */
  token: string;
  /**
   * A date, or milliseconds since 1970, at most 8.64e15. Infinity if it never expires; without
   * it, it is not known.
   */
  expiresAt?: Date | number | undefined;
}

/** What a provider is asked for. */
export interface ProviderRequest {
  /** Whether the service rejected the last token, or IAM the last passcode. */
  readonly refused: boolean;
  /** Aborts when the client is closed. */
  readonly signal: AbortSignal;
}

/** A log record. No record has a secret. */
export interface LogRecord extends Omit<LogRecordFields, 'status'> {
  /** The code of the failed call, or of the failure that caused another attempt. */
  code?: StatusCode | 'DBSS_ERR_UNKNOWN';
  /** The failure that the record is about. */
  error?: DbssError;
  /** How many records before this one were dropped, because 1000 waited already. */
  dropped?: number;
}

/** The options of a client. */
export interface ClientOptions extends ClientSettings {
  /**
   * The URL of the service, or up to 16 in the order of preference: if one cannot be reached,
   * the next one is tried, and used from then on. It takes precedence over the region's. Without
   * a scheme it is https.
   */
  endpoint?: string | URL | readonly (string | URL)[] | undefined;
  /**
   * Gets the log records, `logLevel` and above. It is called on the event loop a moment
   * later; no call waits for it. What it throws is an uncaught exception.
   */
  log?: ((record: LogRecord) => void) | undefined;
  /**
   * Provides tokens, instead of other credentials: when the first call needs one, before it
   * expires, and when the service has rejected it. It runs once for all calls that wait. Its
   * exception is the cause of their `DBSS_ERR_NO_TOKEN`. It may use another client, whose
   * calls get threads of their own, but not this one, whose calls wait for it.
   */
  tokenProvider?: ((request: ProviderRequest) => string | Token | Promise<string | Token>) | undefined;
  /**
   * Provides passcodes of the MFA device of the user, one before each login. It needs `iamUser`
   * and `iamUserId`. It may use another client, but not this one.
   */
  passcodeProvider?: ((request: ProviderRequest) => string | Promise<string>) | undefined;
  /**
   * Other options by their keys in libdbss and values as text, for those that are newer than
   * this package. They are set last, in this order.
   */
  settings?: Iterable<readonly [key: string, value: string | Uint8Array]> | undefined;
}

/** The result of a download to a file. */
export interface SavedReport extends CallResult {
  /** Where the report was saved. */
  path: SystemPath;
  /** A safe form of the report's own name. */
  filename: string;
}

/** The options of calls about an instance. */
export interface InstanceOptions extends CallOptions {
  /** The id of the audit instance: 32 to 64 ASCII letters, digits, "-" and "_". */
  instanceId: string;
}

/** The options of calls about a report. */
export interface ReportOptions extends InstanceOptions {
  /** The id of the report: 16 to 64 ASCII letters, digits, "-" and "_". */
  reportId: string;
}

/** The options of a download. */
export interface DownloadOptions extends ReportOptions {
  /** The language of the report: `en-us`, which is the default, or `zh-cn`. */
  locale?: 'en-us' | 'zh-cn' | undefined;
}

/** The options of a download to a file. */
export interface SaveOptions extends DownloadOptions {
  /** Whether an existing file may be replaced, when the new one is complete. */
  replace?: boolean | undefined;
}

/** The options of a stream. */
export interface OpenOptions extends DownloadOptions {
  /** How many bytes are read ahead at most, 1 to 1 GiB: 256 KiB by default. */
  highWaterMark?: number | undefined;
}

/** The options of calls about a template. */
export interface TemplateOptions extends InstanceOptions {
  /** The id of the template: 16 to 64 ASCII letters, digits, "-" and "_". */
  templateId: string;
}

/** The options of lists. */
export interface PageOptions {
  /**
   * How many items a request fetches: 1 to 1000, of databases 1 to 10000. The default, also as
   * 0, is 100.
   */
  pageSize?: number | undefined;
}

/** A path as text, as bytes, which need not be UTF-8, or as a URL of the scheme file. */
export type PathLike = string | Buffer | URL;

/** The credentials of a client, without secrets. */
export interface Credentials {
  /** `token`, `access_key`, `token_provider`, `iam_user`, `profile` and so on. */
  source: string;
  /** The same in words, with the variable, file or address. */
  description: string;
  /** The user's name, or the access key with its middle masked. */
  name: string | undefined;
  /** The default project of calls, if it is known without a look-up. */
  projectId: string | undefined;
  /** When they expire, if they do and it is known. */
  expiresAt: Date | undefined;
}

/** A report, or a list of reports, that a mirror failed to get. */
export interface MirrorFailure {
  /** The id of the instance. */
  instanceId: string;
  /** The id of the report; undefined if the list of the instance's reports failed. */
  reportId: string | undefined;
  /** Why it failed. */
  error: DbssError;
}

/** A day, week or month without a report. */
export interface Gap {
  /** The id of the instance. */
  instanceId: string;
  /** The type of the report that is missing. */
  type: string;
  /** The first day of the period, such as `2026-11-24`. */
  period: string;
}

/** The result of a mirror. */
export interface MirrorResult extends MirrorCounts {
  /** The reports, and lists of reports, that failed. */
  failures: MirrorFailure[];
  /** The days, weeks and months without a report. */
  gaps: Gap[];
}

// Which options are which credentials.
const CREDENTIALS: Readonly<Record<string, string>> = {
  token: 'token',
  accessKey: 'accessKey',
  secretKey: 'accessKey',
  securityToken: 'accessKey',
  iamUser: 'iamUser',
  iamPassword: 'iamUser',
  iamDomain: 'iamUser',
  iamUserId: 'iamUser',
  passcodeProvider: 'iamUser',
  credentials: 'credentials',
  tokenProvider: 'tokenProvider',
};

const IDS = '{ instanceId, reportId }';
// The names of the options of calls.
const OF_INSTANCES = [...OF_CALLS, 'instanceId'];
const OF_REPORTS = [...OF_INSTANCES, 'reportId'];
const OF_TEMPLATES = [...OF_INSTANCES, 'templateId'];
const OF_DOWNLOADS = [...OF_REPORTS, 'locale'];
const OF_SAVES = [...OF_DOWNLOADS, 'file', 'directory', 'fd', 'replace'];
const SPEC = "{ templateId, startTime: '2026-11-23 00:00:00', endTime: '2026-11-24 00:00:00' }";

function integerOf(name: string, number: unknown, least: number, most: number, of = ''): number {
  if (typeof number !== 'number' || !Number.isInteger(number) || number < least || number > most)
    mustBe(name, `a whole number${of} from ${least} to ${most}`, number);
  return number;
}

/** A descriptor; libdbss checks whether it is open. */
function descriptorOf(fd: unknown): number {
  if (typeof fd !== 'number' || !Number.isInteger(fd) || Math.abs(fd) >= 2 ** 31)
    mustBe('fd', "a number, such as a FileHandle's fd", fd);
  return fd;
}

const pageSizeOf = (size = 0, most = 1000): number => integerOf('pageSize', size, 0, most);

function urlsOf(endpoint: unknown): string {
  const urls: unknown[] = Array.isArray(endpoint) ? endpoint : [endpoint];
  const texts = urls.map((url) => {
    if (typeof url !== 'string' && !(url instanceof URL))
      mustBe('endpoint', 'a string or a URL, or an array of them', url);
    return String(url);
  });
  if (texts.length > 1 && texts.some((url) => url.includes(',')))
    refuse('endpoint', 'a URL must not have a comma', STATUSES.DBSS_ERR_INVALID_ENDPOINT);
  return texts.join(',');
}

/** When a token expires, as libdbss takes it: -1 if that is not known, or never. */
function expiryOf(expiresAt: unknown): number {
  if (expiresAt === undefined || expiresAt === Infinity) return -1;
  const expires =
    types.isDate(expiresAt) || typeof expiresAt === 'number' ? Math.ceil(Number(expiresAt)) : NaN;
  // The last moment that a Date can have.
  if (!(expires <= 8.64e15))
    throw new TypeError(
      'expiresAt: must be a valid Date, or a number of milliseconds since 1970 up to 8.64e15, or Infinity',
    );
  return Math.max(0, expires);
}

/** What a provider has thrown, which may be anything, in words. */
function reasonOf(error: unknown): string {
  let reason: unknown;
  try {
    reason = error instanceof Error ? error.message : String(error);
  } catch {
    // It has no text.
  }
  if (typeof reason !== 'string') return 'it failed without a message';
  // Of what libdbss repeats, 512 bytes, and without control characters.
  const message = Buffer.from(reason.replace(/[\p{C}\0]/gu, ' '))
    .subarray(0, 500)
    .toString()
    .replace(/\ufffd+$/, '')
    .trim();
  return message || 'it failed without a message';
}

/** Makes an object of options, uses it and releases it. */
function filled<H, R>(
  handle: H,
  set: (handle: H, key: Text, value: Text) => void,
  options: object,
  table: Table,
  use: (handle: H) => R,
): R {
  try {
    const texts = pairs(options, table);
    for (let i = 0; i < texts.length; i += 2) set(handle, texts[i]!, texts[i + 1]!);
    return use(handle);
  } finally {
    native.release(handle);
  }
}

/**
 * A client of the service, with its credentials and its connections, which stay open between
 * calls. Make one and share it. The collector frees one that is not closed.
 */
export class Client {
  readonly #context: ContextHandle;
  readonly #log: ClientOptions['log'];
  readonly #provide: ((request: ProviderRequest) => unknown) | undefined;
  readonly #closing = new AbortController();
  readonly #stops = new Stops();
  readonly #owner: Owner;
  // It lives as long as the client, which every call keeps.
  readonly #receiver: Receiver = {
    receiveLog: (record, dropped, failure) => this.#receiveLog(record, dropped, failure),
    receiveRequest: (request, { refused }) => void this.#answer(request, refused),
  };
  readonly #ofTokens: boolean;
  #failure: { message: string; error: unknown } | undefined;
  #running = 0;
  #whenIdle: (() => void)[] = [];

  /**
   * Sends no request, but reads files and the environment: the trusted certificates, the
   * endpoint of a region, and the credentials that `credentials` names.
   *
   * @throws {@link ArgumentError} such as `DBSS_ERR_NOT_CONFIGURED` without a region and an
   * endpoint; {@link FileError} if a file cannot be read.
   */
  constructor(options: ClientOptions) {
    const example = "{ region: 'cn-north-4', credentials: 'default' }";
    const given = optionsOf(options, example, OF_CLIENTS, OPTIONS.config);
    const { endpoint, log, tokenProvider, passcodeProvider, settings, ...rest } = given;
    checkFunction('log', log);
    checkFunction('tokenProvider', tokenProvider);
    checkFunction('passcodeProvider', passcodeProvider);
    const texts = pairs(rest, OPTIONS.config, settings);
    const kinds = new Set(
      Object.keys(given)
        .map((name) => CREDENTIALS[name])
        .filter(Boolean),
    );
    if (kinds.size > 1) {
      const message = `${[...kinds].join(' and ')} exclude each other; give one of them`;
      throw makeError({ status: STATUSES.DBSS_ERR_ARGUMENT, message });
    }
    if (passcodeProvider && !texts.includes('iam_user_id')) {
      const what = 'needs iamUser, and iamUserId, the id of the user whose passcodes it provides';
      refuse('passcodeProvider', what, STATUSES.DBSS_ERR_NOT_CONFIGURED);
    }
    this.#owner = { client: this, stops: this.#stops, limit: limitOf(texts) };
    this.#log = log;
    this.#provide = tokenProvider ?? passcodeProvider;
    this.#ofTokens = tokenProvider !== undefined;
    setMaxListeners(0, this.#closing.signal);
    const config = native.configNew();
    try {
      if (endpoint !== undefined) native.configSet(config, 'endpoint', urlsOf(endpoint));
      for (let i = 0; i < texts.length; i += 2) native.configSet(config, texts[i]!, texts[i + 1]!);
      const id = (log ?? this.#provide) ? addReceiver(this.#receiver) : undefined;
      if (log) native.configSetLog(config, id);
      if (tokenProvider) native.configSetTokenProvider(config, id);
      if (passcodeProvider) native.configSetPasscodeProvider(config, id);
      this.#context = native.contextNew(config);
    } finally {
      native.release(config);
    }
  }

  #receiveLog({ status, ...record }: LogRecordFields, dropped: number, failure?: Failure): void {
    const made: LogRecord = record;
    if (status) made.code = codeOf(status);
    if (failure) {
      const error = (made.error = makeError(inOwnWords(failure)));
      if (failure.message) made.message = made.message.replace(failure.message, () => error.message);
    }
    if (dropped) made.dropped = dropped;
    try {
      this.#log?.(made);
    } catch (error) {
      throwLater(error);
    }
  }

  async #answer(request: TokenRequestHandle, refused: boolean): Promise<void> {
    try {
      const given = await provide(() => this.#provide?.({ refused, signal: this.#closing.signal }));
      const isToken = this.#ofTokens && typeof given !== 'string';
      const { token, expiresAt } = (isToken ? Object(given) : { token: given }) as Token;
      if (typeof token !== 'string')
        throw new TypeError(
          `it must return a string${this.#ofTokens ? ', or a token as { token, expiresAt }' : ''}, ` +
            `but returned ${shown(given)}`,
        );
      this.#complete(request, token, expiryOf(expiresAt));
    } catch (error) {
      const message = reasonOf(error);
      this.#failure = { message, error };
      try {
        native.tokenRequestFail(request, message);
      } catch {
        // It was completed, by a wrong token.
      }
    } finally {
      native.release(request);
    }
  }

  #complete(request: TokenRequestHandle, token: string, expires: number): void {
    try {
      native.tokenRequestSet(request, token, expires);
    } catch (error) {
      if (this.#ofTokens || !(error instanceof DbssError)) throw error;
      // libdbss has one function for both.
      const message = error.message.replace('token', 'passcode');
      throw makeError({ status: error.codeNumber, parameter: 'passcode', message });
    }
  }

  /** Adds what the provider failed with, as the cause. */
  #explain(failure: Error): Error {
    const { message, error } = this.#failure ?? {};
    const isOfProvider = failure instanceof DbssError && failure.code === 'DBSS_ERR_NO_TOKEN';
    if (isOfProvider && message && failure.message.includes(message)) setProperty(failure, 'cause', error);
    return failure;
  }

  /** Runs a call. `collect` gets its result, also if it failed, and the operation's fields. */
  async #run<T>(
    options: CallOptions,
    begin: (context: ContextHandle, ...given: Parameters<Begin<T>>) => Started<T>,
    collect?: (result: T | undefined, fields: OperationFields) => void,
  ): Promise<T> {
    const call = new Call(this.#owner, options);
    const context = this.#context;
    const flags = collect ? WITH_RESULT : 0;
    // The error is made here, so that its stack has the caller.
    const { failure, result, fields } = await this.#begin<T>(
      call,
      (...given) => begin(context, ...given),
      flags,
      (got) => call.end(got),
    );
    if (fields) collect?.(result, fields);
    const error = failure && call.errorOf(failure);
    call.settle();
    if (error) throw this.#explain(error);
    return result as T;
  }

  #begin<T>(
    call: Call,
    begin: Begin<T>,
    flags: number,
    atEnd?: (fields: OperationFields | undefined) => void,
  ): Promise<{
    failure: Failure | undefined;
    result: T | undefined;
    fields: OperationFields | undefined;
  }> {
    return new Promise((resolve) => {
      call.begin<T>(begin, flags, (failure, result, fields) => {
        resolve({ failure, result, fields });
        this.#ended();
        atEnd?.(fields);
      });
      this.#running++;
    });
  }

  #ended(): void {
    if (--this.#running === 0) for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  /**
   * Downloads an audit report, a PDF or a ZIP file: into memory; or to `file`, or into
   * `directory`, which must exist, under a safe form of its own name, where it appears only when
   * it is complete and on the disk; or to the descriptor `fd`, as it arrives. Anything less than the whole
   * report is an error. A transfer that breaks is resumed or restarted.
   *
   * @throws {@link ArgumentError} before any request; {@link ServiceError} such as
   * `DBSS_ERR_NOT_FOUND`; {@link NetworkError}; {@link FileError} such as
   * `DBSS_ERR_FILE_EXISTS` without `replace`; {@link ResourceError} such as
   * `DBSS_ERR_LIMIT_EXCEEDED` above `maxMemoryBytes`; {@link AbortError}.
   */
  download(
    options: SaveOptions & { file: PathLike; directory?: undefined; fd?: undefined },
  ): Promise<SavedReport>;
  download(
    options: SaveOptions & { directory: PathLike; file?: undefined; fd?: undefined },
  ): Promise<SavedReport>;
  download(
    options: DownloadOptions & { fd: number; file?: undefined; directory?: undefined; replace?: undefined },
  ): Promise<CallResult>;
  download(
    options: DownloadOptions & {
      file?: undefined;
      directory?: undefined;
      fd?: undefined;
      replace?: undefined;
    },
  ): Promise<Buffer>;
  download(
    options: SaveOptions & { file: PathLike | undefined; directory?: undefined; fd?: undefined },
  ): Promise<SavedReport | Buffer>;
  download(
    options: SaveOptions & { directory: PathLike | undefined; file?: undefined; fd?: undefined },
  ): Promise<SavedReport | Buffer>;
  download(
    options: DownloadOptions & {
      fd: number | undefined;
      file?: undefined;
      directory?: undefined;
      replace?: undefined;
    },
  ): Promise<CallResult | Buffer>;
  async download(
    options: SaveOptions & {
      file?: PathLike | undefined;
      directory?: PathLike | undefined;
      fd?: number | undefined;
    },
  ): Promise<unknown> {
    const { instanceId, reportId, locale, file, directory, fd, replace, ...rest } = optionsOf(
      options,
      IDS,
      OF_SAVES,
    );
    if (replace !== undefined && typeof replace !== 'boolean') mustBe('replace', 'true or false', replace);
    if (replace && file === undefined && directory === undefined)
      refuse('replace', 'is only for file and directory', STATUSES.DBSS_ERR_ARGUMENT);
    if ([file, directory, fd].filter((one) => one !== undefined).length > 1) {
      const message = 'file, directory and fd exclude each other; give one of them';
      throw makeError({ status: STATUSES.DBSS_ERR_ARGUMENT, parameter: 'file', message });
    }
    let saved: CallResult | undefined;
    const save = (_: unknown, fields: OperationFields): void => void (saved = resultOf(fields));
    const flags = replace ? FILE_REPLACE : 0;
    if (file !== undefined || directory !== undefined) {
      const [download, name, path] =
        file !== undefined
          ? ([native.reportDownloadToFile, 'file', file] as const)
          : ([native.reportDownloadToDirectory, 'directory', directory] as const);
      await this.#run(
        rest,
        (context, id, how, settings, project) =>
          download(
            id,
            how,
            settings,
            context,
            project,
            instanceId,
            reportId,
            locale,
            pathOf(name, path),
            flags,
          ),
        save,
      );
    } else if (fd !== undefined) {
      await this.#run(
        rest,
        (context, id, how, settings, project) =>
          native.reportDownloadToFd(
            id,
            how,
            settings,
            context,
            project,
            instanceId,
            reportId,
            locale,
            descriptorOf(fd),
          ),
        save,
      );
    } else {
      return this.#run(rest, (context, id, how, settings, project) =>
        native.reportDownloadToMemory(id, how, settings, context, project, instanceId, reportId, locale),
      );
    }
    return saved;
  }

  /**
   * Opens a report for reading, when its first bytes have arrived. The signal counts until the
   * stream is closed.
   *
   * @throws as {@link Client.download}.
   */
  async open(options: OpenOptions): Promise<ReportStream> {
    const {
      instanceId,
      reportId,
      locale,
      highWaterMark = 256 << 10,
      ...rest
    } = optionsOf(options, IDS, [...OF_DOWNLOADS, 'highWaterMark']);
    // A stream may hold as much.
    integerOf('highWaterMark', highWaterMark, 1, 1 << 30, ' of bytes');
    const call = new Call(this.#owner, rest);
    const context = this.#context;
    const { failure, result: stream } = await this.#begin<ReportStreamHandle>(
      call,
      (id, how, settings, project) =>
        native.reportOpen(id, how, settings, context, project, instanceId, reportId, locale),
      0,
    );
    // What stopped the call after it was done would end the stream before anybody has it.
    const error = call.errorOf(failure ?? call.stopped);
    if (!error) {
      return new ReportStream(stream!, call, highWaterMark, (reading) => {
        if (reading) this.#running++;
        else this.#ended();
      });
    }
    if (stream) native.release(stream);
    call.end(undefined);
    throw this.#explain(error);
  }

  /**
   * Checks that the service accepts the credentials; it downloads and changes nothing.
   *
   * @throws {@link ServiceError}: `DBSS_ERR_UNAUTHENTICATED` if it rejects them,
   * `DBSS_ERR_FORBIDDEN` if they lack the permission; else as {@link Client.download}.
   */
  async check(options: CallOptions = {}): Promise<void> {
    await this.#run(optionsOf(options, '{ signal }'), (context, id, how, settings, project) =>
      native.contextCheck(id, how, settings, context, project),
    );
  }

  /**
   * Finds the credentials that a call would use now, as a call does.
   *
   * @throws {@link ArgumentError}: `DBSS_ERR_NOT_CONFIGURED` if there are none,
   * `DBSS_ERR_NO_TOKEN` if the provider failed; else as {@link Client.download}.
   */
  async findCredentials(options: Omit<CallOptions, 'projectId'> = {}): Promise<Credentials> {
    const names = OF_CALLS.filter((name) => name !== 'projectId');
    const found = await this.#run(optionsOf(options, '{ signal }', names), (context, id, how, settings) =>
      native.contextFindCredentials(id, how, settings, context),
    );
    const { source, description, name, project, expiresMs } = native.readFields(found) as CredentialsFields;
    native.release(found);
    const expiresAt = expiresMs === undefined ? undefined : new Date(expiresMs);
    return { source, description, name, projectId: project, expiresAt };
  }

  #list<T>(
    options: CallOptions,
    open: (context: ContextHandle, project: string | undefined) => CursorHandle,
    convert: (raw: Fields) => T,
  ): List<T> {
    const { projectId, settings, ...rest } = options;
    let kept: CallOptions = rest;
    return new List(
      () => {
        // Each page needs them again.
        kept = { ...rest, settings: settingsOf(settings) };
        return open(this.#context, projectId);
      },
      (cursor) =>
        this.#run<PageHandle>(kept, (_, id, how, settings) => native.cursorNext(id, how, settings, cursor)),
      convert,
    );
  }

  /**
   * Lists the audit instances of the project. The options are those of each page's call, which
   * rejects as {@link Client.download} does.
   *
   * @throws {@link ArgumentError} at once for an unknown option, or one of a wrong type; any
   * other error is that of the page, also of the first one.
   */
  instances(options: CallOptions & PageOptions = {}): List<Instance> {
    const { pageSize, ...rest } = optionsOf(options, '{ pageSize: 100 }', [...OF_CALLS, 'pageSize']);
    return this.#list(
      rest,
      (context, project) => native.instancesList(context, project, pageSizeOf(pageSize)),
      toInstance,
    );
  }

  /**
   * Lists the reports of an instance; with `name`, 1 to 256 bytes, only those whose names
   * contain it, as the service searches. See {@link Client.instances}.
   */
  reports(options: InstanceOptions & PageOptions & { name?: string | undefined }): List<Report> {
    const own = [...OF_INSTANCES, 'name', 'pageSize'];
    const { instanceId, name, pageSize, ...rest } = optionsOf(options, '{ instanceId }', own);
    return this.#list(
      rest,
      (context, project) => native.reportsList(context, project, instanceId, name, pageSizeOf(pageSize)),
      toReport,
    );
  }

  /** Lists the report templates of an instance; see {@link Client.instances}. */
  templates(options: InstanceOptions): List<Template> {
    const { instanceId, ...rest } = optionsOf(options, '{ instanceId }', OF_INSTANCES);
    return this.#list(
      rest,
      (context, project) => native.templatesList(context, project, instanceId),
      toTemplate,
    );
  }

  /**
   * Lists the databases that an instance audits; only those that are on or off, if given. See
   * {@link Client.instances}.
   */
  databases(options: InstanceOptions & PageOptions & { status?: 'ON' | 'OFF' | undefined }): List<Database> {
    const own = [...OF_INSTANCES, 'status', 'pageSize'];
    const { instanceId, status, pageSize, ...rest } = optionsOf(options, '{ instanceId }', own);
    return this.#list(
      rest,
      (context, project) =>
        native.databasesList(context, project, instanceId, status, pageSizeOf(pageSize, 10_000)),
      toDatabase,
    );
  }

  /**
   * Starts the creation of a report. The service returns no id: {@link Client.generate} finds
   * the new report and waits for it. The request is sent again only if it took no effect: if no
   * connection was made, or the response was 429 or 503.
   *
   * @throws {@link ArgumentError} such as `DBSS_ERR_NOT_CONFIGURED` without a required field of
   * `spec`; {@link ServiceError} such as `DBSS_ERR_REJECTED`; else as {@link Client.download}.
   */
  async create(options: InstanceOptions & { spec: ReportSpec }): Promise<void> {
    const own = [...OF_INSTANCES, 'spec'];
    const { instanceId, spec: given, ...rest } = optionsOf(options, '{ instanceId, spec }', own);
    const spec = optionsOf(given, SPEC, [], OPTIONS.reportSpec, 'spec');
    await this.#run(rest, (context, id, how, settings, project) =>
      filled(native.reportSpecNew(), native.reportSpecSet, spec, OPTIONS.reportSpec, (made) =>
        native.reportCreate(id, how, settings, context, project, instanceId, made),
      ),
    );
  }

  /**
   * Creates a report, waits until it is ready, and resolves to its id. If it fails, or is
   * aborted, when the id is known already, `candidates` of the error has that id: go on with
   * {@link Client.wait}, as another call would create another report.
   *
   * @throws as {@link Client.download}, and `DBSS_ERR_AMBIGUOUS`, `DBSS_ERR_NOT_READY` after
   * `waitTimeoutMs`, `DBSS_ERR_REJECTED`.
   */
  async generate(options: InstanceOptions & { spec: ReportSpec }): Promise<string> {
    const own = [...OF_INSTANCES, 'spec'];
    const { instanceId, spec: given, ...rest } = optionsOf(options, '{ instanceId, spec }', own);
    const spec = optionsOf(given, SPEC, [], OPTIONS.reportSpec, 'spec');
    return this.#run(rest, (context, id, how, settings, project) =>
      filled(native.reportSpecNew(), native.reportSpecSet, spec, OPTIONS.reportSpec, (made) =>
        native.reportGenerate(id, how, settings, context, project, instanceId, made),
      ),
    );
  }

  /**
   * Waits until a report can be downloaded.
   *
   * @throws {@link ServiceError}: `DBSS_ERR_NOT_READY` after `waitTimeoutMs`,
   * `DBSS_ERR_NOT_FOUND` also if it is deleted meanwhile; else as {@link Client.download}.
   */
  async wait(options: ReportOptions): Promise<void> {
    const { instanceId, reportId, ...rest } = optionsOf(options, IDS, OF_REPORTS);
    await this.#run(rest, (context, id, how, settings, project) =>
      native.reportWait(id, how, settings, context, project, instanceId, reportId),
    );
  }

  /**
   * Deletes a report at the service, permanently.
   *
   * @throws {@link ServiceError} such as `DBSS_ERR_NOT_FOUND` and `DBSS_ERR_REJECTED`; else as
   * {@link Client.download}.
   */
  async delete(options: ReportOptions): Promise<void> {
    const { instanceId, reportId, ...rest } = optionsOf(options, IDS, OF_REPORTS);
    await this.#run(rest, (context, id, how, settings, project) =>
      native.reportDelete(id, how, settings, context, project, instanceId, reportId),
    );
  }

  /**
   * The schedule on which the service generates reports from a template.
   *
   * @throws as {@link Client.download}.
   */
  async schedule(options: TemplateOptions): Promise<Schedule> {
    const { instanceId, templateId, ...rest } = optionsOf(
      options,
      '{ instanceId, templateId }',
      OF_TEMPLATES,
    );
    const page = await this.#run<PageHandle>(rest, (context, id, how, settings, project) =>
      native.scheduleShow(id, how, settings, context, project, instanceId, templateId),
    );
    return readPage(page, toSchedule)[0]!;
  }

  /**
   * Changes the schedule of a template. It gets the present one and sends all of it back with
   * the changes, so a change that somebody else makes in between is lost.
   *
   * @throws {@link ServiceError} such as `DBSS_ERR_REJECTED`, or `DBSS_ERR_UNEXPECTED_RESPONSE`
   * if the present schedule lacks a field that the service requires; else as
   * {@link Client.download}.
   */
  async updateSchedule(options: TemplateOptions & { changes: ScheduleChanges }): Promise<void> {
    const example = '{ instanceId, templateId, changes }';
    const { instanceId, templateId, ...all } = optionsOf(options, example, [...OF_TEMPLATES, 'changes']);
    const { changes: given, ...rest } = all;
    const changes = optionsOf(given, "{ status: 'OFF' }", [], OPTIONS.schedule, 'changes');
    await this.#run(rest, (context, id, how, settings, project) =>
      filled(native.scheduleChangesNew(), native.scheduleChangesSet, changes, OPTIONS.schedule, (made) =>
        native.scheduleUpdate(id, how, settings, context, project, instanceId, templateId, made),
      ),
    );
  }

  /**
   * Brings a local archive of reports up to date: downloads every report that is ready and not
   * there, several at once, into files `{instance}/{year}/{name}_{id}.pdf` or `.zip`, and
   * writes manifest.jsonl and SHA256SUMS. It deletes nothing. After a failure or an abort the
   * next call continues.
   *
   * @throws {@link DbssError} or {@link AbortError} with the partial `result`: `DBSS_ERR_PARTIAL`
   * if some reports failed and the others are there.
   */
  async mirror(options: CallOptions & MirrorOptions & { directory: PathLike }): Promise<MirrorResult> {
    const table = { ...OPTIONS.operation, ...OPTIONS.mirror };
    const given = optionsOf(options, '{ directory, instanceId }', [...OF_CALLS, 'directory'], table);
    const { directory, ...others } = given;
    const all = Object.entries(others);
    const isOwn = ([name]: [string, unknown]): boolean => Object.hasOwn(OPTIONS.mirror, name);
    const own = Object.fromEntries(all.filter(isOwn));
    const rest: CallOptions = Object.fromEntries(all.filter((one) => !isOwn(one)));
    let result: MirrorResult | undefined;
    try {
      await this.#run<MirrorResultHandle>(
        rest,
        (context, id, how, settings, project) =>
          filled(native.mirrorOptionsNew(), native.mirrorOptionsSet, own, OPTIONS.mirror, (made) =>
            native.reportsMirror(id, how, settings, context, project, pathOf('directory', directory), made),
          ),
        (handle) => void (result = handle && toMirrorResult(handle)),
      );
    } catch (error) {
      const failure = error instanceof AbortError ? error.cause : error;
      if (result && failure instanceof DbssError) setProperty(failure, 'result', result);
      throw error;
    }
    return result!;
  }

  /**
   * Replaces the credentials by a token, 1 to 98304 visible ASCII characters, for all requests
   * that start later, also those of running calls.
   *
   * @throws {@link ArgumentError}: `DBSS_ERR_INVALID_TOKEN`, `DBSS_ERR_CLOSED`.
   */
  setToken(token: string): void {
    if (typeof token !== 'string' && !types.isUint8Array(token))
      mustBe('token', 'a string', token, STATUSES.DBSS_ERR_INVALID_TOKEN);
    native.contextSetToken(this.#context, token);
  }

  /** Cancels all calls of the client that run, and its open streams; after `close`, nothing. */
  cancelAll(): void {
    if (this.#closing.signal.aborted) return;
    native.contextCancelAll(this.#context);
    this.#stops.run('context');
  }

  /**
   * Closes the client: calls that run, and open streams, end with `DBSS_ERR_CANCELLED`, and
   * later ones with `DBSS_ERR_CLOSED`. A stream emits 'error', also if nobody reads it. It does
   * not wait, and does nothing the second time.
   */
  close(): void {
    if (this.#closing.signal.aborted) return;
    native.contextClose(this.#context);
    native.release(this.#context);
    this.#closing.abort();
    this.#stops.run('close');
  }

  /** Closes the client, and does not wait, as {@link Client.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Closes the client, and waits until its calls, and reads of its streams, have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    if (this.#running > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
  }
}

function toMirrorResult(handle: MirrorResultHandle): MirrorResult {
  const { failures, gaps, ...counts } = native.readFields(handle) as MirrorResultFields;
  native.release(handle);
  return {
    ...counts,
    failures: failures.map(({ id, instance, error }) => ({
      instanceId: instance ?? '',
      reportId: id === '' ? undefined : id,
      error: makeError(inOwnWords(error!)),
    })),
    gaps: gaps.map(({ instance, type, period }) => ({
      instanceId: instance ?? '',
      type: type ?? '',
      period: period ?? '',
    })),
  };
}

/** The version of libdbss, such as `0.1.0`. */
export function version(): string {
  return native.version()!;
}

/** The features of libdbss, by name, with their descriptions. */
export function features(): Record<string, string> {
  const names = Array.from({ length: native.featureCount() }, (_, index) => index);
  return Object.fromEntries(names.map((index) => [native.featureName(index)!, native.featureHelp(index)!]));
}

/**
 * How many calls of this thread run at once: 1 to 1024, 64 at first. Others wait, which counts
 * to `totalTimeoutMs`, but to none of the other timeouts; a signal ends it.
 */
export function setMaxThreads(count: number): void {
  native.setThreads(integerOf('count', count, 1, 1024));
}
