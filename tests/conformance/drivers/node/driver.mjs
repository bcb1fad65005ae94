// The conformance driver for the Node package; ../../README.md describes the protocol.

import { appendFileSync, closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { AbortError, Client, DbssError } from '../../../../bindings/node/index.mjs';

const FIELDS = [
  'message',
  'parameter',
  'http_status',
  'service_code',
  'service_message',
  'request_id',
  'details',
  'cancelled_by',
  'encoded_authorization_message',
  'candidates',
  'redirect_target',
  'path',
  'os_code',
  'retryable',
  'retry_after_ms',
  'attempts',
];
const LOGGED = [
  'level',
  'message',
  'attempt',
  'request_id',
  'report_id',
  'bytes',
  'duration_ms',
  'offset',
  'retry_delay_ms',
  'http_status',
];
const RESULT = [
  'received',
  'total',
  'resumed',
  'attempts',
  'percent',
  'path',
  'filename',
  'request_id',
  'content_type',
  'format',
];
const STREAM = ['size', 'format', 'filename', 'content_type', 'request_id'];
const COUNTS = ['listed', 'downloaded', 'present', 'not_ready', 'vanished', 'failed', 'repaired'];
const LISTS = ['instances', 'reports', 'templates', 'databases'];

const clients = new Map();
const kept = new Map();
const controllers = new Map();
const running = new Set();
// For each request of a provider that is held, the function that answers it.
const held = [];

function put(line) {
  // The largest number of the package stands for all that are larger.
  writeSync(1, `${JSON.stringify(line).replaceAll('9007199254740991', '9223372036854775807')}\n`);
}

const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

/** A value as the harness has it: null for none, and the bytes of a text that is not UTF-8. */
function plain(value) {
  if (Buffer.isBuffer(value)) return { hex: value.toString('hex') };
  return value === 'unknown' ? null : (value ?? null);
}

const pick = (from, names) => Object.fromEntries(names.map((name) => [name, plain(from[camel(name)])]));

/** A value of a request as the package takes it. */
function text(value) {
  return value?.hex === undefined ? (value ?? undefined) : Buffer.from(value.hex, 'hex');
}

const pairs = (settings) => settings.map(([key, value]) => [text(key), value === null ? null : text(value)]);
const texts = (given) =>
  Object.fromEntries(Object.entries(given).map(([key, value]) => [camel(key), text(value)]));

const MIRROR_NAMES = { instance: 'instanceId', template: 'templateType' };
// Values that are no text.
const TYPED = { parallel: Number, verify: (value) => value === true || value === 'true' };

const mirrorOptions = (given = {}) =>
  Object.fromEntries(
    Object.entries(given).map(([key, value]) => [
      MIRROR_NAMES[key] ?? camel(key),
      (TYPED[key] ?? text)(value),
    ]),
  );

function errorFields(error) {
  const details = error.details.map(({ code, message }) => ({ code: plain(code), message: plain(message) }));
  const fields = pick(error, FIELDS);
  return {
    ...fields,
    details,
    cancelled_by: fields.cancelled_by === 'signal' ? 'operation' : fields.cancelled_by,
  };
}

/** The response for an error, or for a result. */
async function outcome(work) {
  try {
    return { status: 'DBSS_OK', result: await work() };
  } catch (thrown) {
    const error = thrown instanceof AbortError ? thrown.cause : thrown;
    if (!(error instanceof DbssError)) throw thrown;
    const result = error.result && { result: mirrorResult(error.result) };
    return { status: error.code, error: errorFields(error), ...result };
  }
}

/** Gives the answers in order, and the last one again and again. */
function provider(client, answers, key) {
  const rest = [...answers];
  return async ({ refused }) => {
    put({ event: 'asked', client, refused });
    let answer = rest.length > 1 ? rest.shift() : rest[0];
    if (answer.hold) answer = await new Promise((resolve) => held.push(resolve));
    if (answer.fail !== undefined) throw new Error(answer.fail);
    const lifetime = answer.expires_in_ms;
    const value = answer[key];
    return key === 'token'
      ? { token: value, expiresAt: lifetime == null ? undefined : Date.now() + lifetime }
      : value;
  };
}

async function configure({ client: name, settings, log, token_provider: tokens, passcodes }) {
  clients.get(name)?.close();
  clients.delete(name);
  const options = { settings: pairs(settings.filter(([key]) => key !== 'token' || !tokens)) };
  if (log) {
    options.logLevel = log;
    options.log = (record) =>
      put({ event: 'log', client: name, ...pick(record, LOGGED), status: plain(record.code) });
  }
  if (tokens) options.tokenProvider = provider(name, tokens, 'token');
  if (passcodes) options.passcodeProvider = provider(name, passcodes, 'passcode');
  try {
    clients.set(name, new Client(options));
  } finally {
    // Its log records, if it has some, are those of this step. The first comes before the
    // event loop looks for what was posted.
    await new Promise((resolve) => setImmediate(setImmediate, resolve));
  }
}

async function call(client, request) {
  const { call: what, arguments: given, operation, id } = request;
  const options = { signal: controllers.get(id).signal };
  // What is left out is undefined; null is passed on.
  for (const [name, key] of [
    ['projectId', 'project'],
    ['instanceId', 'instance'],
    ['reportId', 'id'],
    ['templateId', 'template'],
  ]) {
    // No project is none here; an id that is null is refused.
    if (key in given && !(key === 'project' && given[key] === null))
      options[name] = given[key] === null ? null : text(given[key]);
  }
  for (const key of ['locale', 'replace', 'name', 'status'])
    if (given[key] != null) options[key] = text(given[key]);
  if (!operation) return outcome(() => perform(client, what, given, options));
  options.settings = pairs(operation.settings);
  if (operation.cancelled) controllers.get(id).abort();
  if (operation.progress) {
    options.onProgress = (progress) => {
      put({ event: 'progress', of: id, ...pick(progress, ['received', 'total', 'percent']) });
      if (progress.received >= operation.progress.stop_after) throw new Error('enough');
    };
  }
  let after = { received: 0, resumed: 0, attempts: 0 };
  options.onResult = (result) => (after = result);
  const response = await outcome(() => perform(client, what, given, options));
  return { ...response, operation: pick(after, RESULT) };
}

async function perform(client, what, given, options) {
  const path = (name) => (given[name] === null ? null : text(given[name]));
  if (LISTS.includes(what)) {
    const list = client[what]({
      ...options,
      ...(what !== 'templates' && { pageSize: given.page_size ?? 0 }),
    });
    if (!given.keep)
      return {
        items: (await list.toArray()).map((one) => itemFields(one, given.fields)),
        total: plain(list.total),
      };
    kept.set(given.as, list);
    return {};
  }
  switch (what) {
    case 'next_page':
      return nextPage(kept.get(given.list), given);
    case 'find_credentials': {
      const found = await client.findCredentials(options);
      return {
        ...pick(found, ['source', 'description', 'name']),
        project: plain(found.projectId),
        expires_ms: plain(found.expiresAt?.getTime()),
      };
    }
    case 'set_token':
      return (client.setToken(text(given.token)), {});
    case 'download':
    case 'download_to_memory':
      return (writeFileSync(given.into, await client.download(options)), {});
    case 'download_to_file':
      return pick(await client.download({ ...options, file: path('path') }), ['path']);
    case 'download_to_directory':
      return pick(await client.download({ ...options, directory: path('directory') }), ['path']);
    case 'download_to_descriptor': {
      const { path: name, mode, offset } = given.open ?? { path: given.into, mode: 'w' };
      const fd = openSync(text(name), mode);
      try {
        // Node has no other way to seek.
        if (offset) readSync(fd, Buffer.alloc(offset));
        return (await client.download({ ...options, fd }), {});
      } finally {
        closeSync(fd);
      }
    }
    case 'download_to_callback':
      return (await save(await client.open(options), given.into), {});
    case 'open_report': {
      const stream = await client.open({ ...options, highWaterMark: given.read_size });
      if (given.keep) {
        // A step reads the error.
        stream.on('error', () => {});
        kept.set(given.as, {
          stream,
          rest: Buffer.alloc(0),
          chunks: stream.iterator({ destroyOnReturn: false }),
        });
      } else await save(stream, given.into);
      return pick(stream, STREAM);
    }
    case 'read_stream':
      return readStream(kept.get(given.stream), given);
    case 'close_stream':
      return (kept.get(given.stream).stream.destroy(), {});
    case 'schedule':
      return itemFields(await client.schedule(options), given.fields);
    case 'update_schedule':
      return (await client.updateSchedule({ ...options, changes: texts(given.changes) }), {});
    case 'generate':
    case 'create': {
      const id = await client[what]({ ...options, spec: texts(given.spec) });
      return what === 'generate' ? { id } : {};
    }
    case 'mirror':
      return mirrorResult(
        await client.mirror({ ...options, directory: path('directory'), ...mirrorOptions(given.options) }),
      );
    default:
      return (await client[what](options), {});
  }
}

async function save(stream, into) {
  writeFileSync(into, '');
  for await (const chunk of stream) appendFileSync(into, chunk);
}

async function readStream(stream, { size, into }) {
  let atEnd = false;
  if (stream.stream.errored) throw stream.stream.errored;
  while (!atEnd && (size == null || stream.rest.length < size)) {
    const { done, value } = await stream.chunks.next();
    if (done) atEnd = true;
    else stream.rest = Buffer.concat([stream.rest, value]);
  }
  const end = size ?? stream.rest.length;
  writeFileSync(into, stream.rest.subarray(0, end));
  stream.rest = stream.rest.subarray(end);
  return { at_end: atEnd };
}

async function nextPage(list, { fields }) {
  const page = await list.nextPage();
  return {
    items: page.map((one) => itemFields(one, fields)),
    total: plain(list.total),
    at_end: page.length === 0,
  };
}

/** Fields of an item as text, by their names at the service. */
function itemFields(item, names) {
  return Object.fromEntries(
    names.map((name) => {
      const value = camel(name) in item ? item[camel(name)] : item.raw[name];
      const isText = value == null || typeof value === 'string';
      return [
        name,
        isText ? plain(value) : typeof value === 'bigint' ? String(value) : JSON.stringify(value),
      ];
    }),
  );
}

function mirrorResult({ failures, gaps, ...counts }) {
  return {
    ...pick(counts, COUNTS),
    failures: failures.map(({ instanceId, reportId, error }) => ({
      instance: instanceId,
      id: plain(reportId),
      error: { ...errorFields(error), status: error.code },
    })),
    gaps: gaps.map(({ instanceId, type, period }) => ({ instance: instanceId, type, period })),
  };
}

async function serve(request) {
  const client = clients.get(request.client);
  switch (request.do) {
    case 'configure':
      return outcome(() => configure(request));
    case 'call':
      controllers.set(request.id, new AbortController());
      return call(client, request);
    case 'cancel':
      return (controllers.get(request.of).abort(), { status: 'DBSS_OK' });
    case 'answer':
      return (held.shift()(request.answer), { status: 'DBSS_OK' });
    case 'cancel_all':
      return (client.cancelAll(), { status: 'DBSS_OK' });
    case 'close':
    case 'free':
      return (client.close(), { status: 'DBSS_OK' });
    default:
      return { unsupported: request.do };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const work = serve(request)
    .catch((error) => ({ unsupported: String(error.stack) }))
    .then((response) => put({ id: request.id, ...response }));
  running.add(work);
  void work.finally(() => running.delete(work));
  if (request.do === 'configure') await work;
}
for (const client of clients.values()) client.close();
await Promise.all(running);
process.exit();
