import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { ArgumentError, Client } from '../index.mjs';
import {
  addReport,
  fault,
  instanceId,
  mock,
  newClient,
  options,
  pdf,
  report,
  requests,
  temporary,
} from './mock.mjs';

const spec = {
  templateId: 'template-0123456789',
  startTime: '2026-11-23 00:00:00',
  endTime: '2026-11-24 00:00:00',
};

/** Compares the error of a call, or of making a client, which sends nothing. */
async function refused(call, code, parameter, message) {
  const error = await (async () => call())().catch((thrown) => thrown);
  assert.ok(error instanceof ArgumentError, String(error));
  assert.deepEqual([error.code, error.parameter], [`DBSS_ERR_${code}`, parameter], error.message);
  assert.match(error.message, message);
  assert.doesNotMatch(error.message, /secret-|NULL|\b(ctx|[a-z]+_(ms|id|file|attempts|size))\b/);
}

test('arguments are named as in JavaScript', async (t) => {
  const client = newClient(t);
  const short = 'short';
  for (const [given, code, parameter, message] of [
    [{ instanceId }, 'NULL_ARGUMENT', 'reportId', /^reportId: must not be undefined$/],
    [{ instanceId, reportId: null }, 'NULL_ARGUMENT', 'reportId', /^reportId: must not be null$/],
    [{ instanceId, reportId: short }, 'INVALID_ID', 'reportId', /^reportId: must have 16 to 64/],
    [{ instanceId, reportId: 'a\0b-0123456789abcdef' }, 'INVALID_ID', 'reportId', /^reportId: .*NUL/],
    [{ instanceId, reportId: 7 }, 'INVALID_ID', 'reportId', /^reportId: must be a string, but is 7$/],
    [{ instanceId, reportId: Buffer.from(pdf.id) }, 'INVALID_UTF8', 'reportId', /a string, .*\(Buffer\)$/],
    [{ ...report, locale: 5n }, 'INVALID_LOCALE', 'locale', /^locale: must be a string, but is 5n$/],
    [{ reportId: pdf.id }, 'NULL_ARGUMENT', 'instanceId', /^instanceId: must not be undefined$/],
    [{ ...report, projectId: short }, 'INVALID_ID', 'projectId', /^projectId: must have 32/],
    [{ ...report, projectId: null }, 'NULL_ARGUMENT', 'projectId', /^projectId: must not be null$/],
    [{ ...report, locale: 'fr' }, 'INVALID_LOCALE', 'locale', /^locale: /],
    [{ ...report, file: null }, 'NULL_ARGUMENT', 'file', /^file: must not be null$/],
    [{ ...report, file: 7 }, 'INVALID_VALUE', 'file', /^file: must be a string, .* is 7$/],
    [{ ...report, directory: new URL('http://x/') }, 'INVALID_VALUE', 'directory', /local file/],
    [{ ...report, fd: '1' }, 'INVALID_VALUE', 'fd', /^fd: must be a number, .* but is a string$/],
    [{ ...report, fd: NaN }, 'INVALID_VALUE', 'fd', /^fd: must be a number, .* but is NaN$/],
    [{ ...report, replace: true }, 'ARGUMENT', 'replace', /^replace: is only for file and directory$/],
    [{ ...report, file: 'x', replace: 'yes' }, 'INVALID_VALUE', 'replace', /^replace: must be true/],
    [{ ...report, signal: {} }, 'INVALID_VALUE', 'signal', /^signal: must be an AbortSignal/],
    [
      { ...report, signal: { aborted: false, addEventListener() {} } },
      ...['INVALID_VALUE', 'signal', /^signal: must be an AbortSignal/],
    ],
    [{ ...report, onProgress: 'x' }, 'INVALID_VALUE', 'onProgress', /^onProgress: must be a function/],
    [{ ...report, onResult: null }, 'NULL_ARGUMENT', 'onResult', /^onResult: must not be null$/],
    [{ ...report, settings: { max_attempts: '3' } }, 'INVALID_VALUE', 'settings', /^settings: .*\[\[/],
    [{ ...report, settings: 'x' }, 'INVALID_VALUE', 'settings', /^settings: .*but is a string$/],
    [{ ...report, settings: [['max_attempts', 3]] }, 'INVALID_VALUE', 'settings', /'3'.*but is 3$/],
    [{ ...report, settings: [['no_such', '1']] }, 'UNKNOWN_KEY', 'settings', /no option "no_such"$/],
  ]) {
    if (parameter === 'settings' && code === 'INVALID_VALUE') {
      const error = await client.download(given).catch((thrown) => thrown);
      assert.deepEqual([error.code, error.parameter], [`DBSS_ERR_${code}`, parameter]);
      assert.match(error.message, message);
    } else await refused(() => client.download(given), code, parameter, message);
  }
  await refused(() => client.setToken('a b'), 'INVALID_TOKEN', 'token', /^token: /);
  await refused(() => client.setToken(7), 'INVALID_TOKEN', 'token', /^token: must be a string, but is 7$/);
  await refused(() => client.mirror({}), 'NULL_ARGUMENT', 'directory', /./);
  for (const highWaterMark of [0, -1, 0.5, NaN, '5', 2 ** 40])
    await refused(
      () => client.open({ ...report, highWaterMark }),
      'INVALID_VALUE',
      'highWaterMark',
      /^highWaterMark: must be a whole number of bytes from 1 to 1073741824, but is /,
    );
  for (const fd of [-1, 1.9, 2 ** 32 + 1])
    await assert.rejects(client.download({ ...report, fd }), { name: 'ArgumentError', parameter: 'fd' });
  client.close();
  await refused(() => client.download(report), 'CLOSED', 'client', /^client: is closed$/);
});

test('values of options are refused as they were given', async (t) => {
  const client = newClient(t);
  for (const [given, parameter, message] of [
    [{ maxAttempts: 0 }, 'maxAttempts', /a whole number from 1 to 1000, but is 0$/],
    [{ maxAttempts: Infinity }, 'maxAttempts', /but is Infinity$/],
    [{ maxAttempts: {} }, 'maxAttempts', /must be a number, but is an object$/],
    [
      { stallTimeoutMs: 1.5 },
      'stallTimeoutMs',
      /^stallTimeoutMs: must be a whole number from 1 to 86400000, or Infinity/,
    ],
    [{ stallTimeoutMs: NaN }, 'stallTimeoutMs', /Infinity for no limit, but is NaN$/],
    [{ totalTimeoutMs: -1 }, 'totalTimeoutMs', /Infinity for no limit, but is -1$/],
    [{ totalTimeoutMs: -5 }, 'totalTimeoutMs', /Infinity for no limit, but is -5$/],
    [{ totalTimeoutMs: '5000' }, 'totalTimeoutMs', /must be a number, .* but is a string$/],
    [{ totalTimeoutMs: 10n }, 'totalTimeoutMs', /must be a number, .* but is 10n$/],
    [{ fileMode: 600 }, 'fileMode', /must be an octal number such as 0o640, but is 600$/],
    [{ fileMode: 0o400 }, 'fileMode', /must be from 0o600 to 0o777, such as 0o640, but is 0o400$/],
    [{ fileMode: '640' }, 'fileMode', /must be an octal number such as 0o640, but is a string$/],
    [{ maxMemoryBytes: -1n }, 'maxMemoryBytes', /but is -1$/],
  ])
    await refused(() => client.download({ ...report, ...given }), 'INVALID_VALUE', parameter, message);
  const pages = [
    [-1, /from 0 to 1000, but is -1$/],
    [1.5, /but is 1.5$/],
    ['10', /but is a string$/],
    [2 ** 32 + 1, /from 0 to 1000, but is 4294967297$/],
    [1001, /from 0 to 1000, but is 1001$/],
  ];
  for (const [pageSize, message] of pages)
    await refused(() => client.instances({ pageSize }).toArray(), 'INVALID_VALUE', 'pageSize', message);
});

test('a name that is no option has a hint', async (t) => {
  const client = newClient(t);
  for (const [given, name, message] of [
    [{ stallTimeout: 3000 }, 'stallTimeout', /no option "stallTimeout"; did you mean stallTimeoutMs\?$/],
    [{ maxAtempts: 3 }, 'maxAtempts', /did you mean maxAttempts\?$/],
    [{ instance: 'x' }, 'instance', /did you mean instanceId\?$/],
    [{ reportID: 'x' }, 'reportID', /did you mean reportId\?$/],
    [{ region: 'x' }, 'region', /"region"; it is an option of a client, not of one call$/],
    [{ pageSize: 1 }, 'pageSize', /no option "pageSize"$/],
    [{ log() {} }, 'log', /"log"; it is an option of a client, not of one call$/],
    [{ endpoint: 'x' }, 'endpoint', /"endpoint"; it is an option of a client, not of one call$/],
    [{ locle: 'x' }, 'locle', /did you mean locale\?$/],
    [{ direcotry: 'x' }, 'direcotry', /did you mean directory\?$/],
    [{ singal: 'x' }, 'singal', /did you mean signal\?$/],
    [{ 'a\0b': 1 }, 'a\0b', /^options: there is no option "a\\u0000b"$/],
    [{ instanceId: undefined, elsewhere: 1 }, 'elsewhere', /^options: there is no option "elsewhere"$/],
    [{ elsewhere: 1 }, 'elsewhere', /^options: there is no option "elsewhere"$/],
  ])
    await refused(() => client.download({ ...report, ...given }), 'UNKNOWN_KEY', name, message);
  // Names of C are none here, and those in settings are of C.
  const messageOf = (given) => client.download({ ...report, ...given }).catch(({ message }) => message);
  const key = 'total_timeout_ms';
  assert.equal(
    await messageOf({ [key]: '1' }),
    `options: there is no option "${key}"; did you mean totalTimeoutMs?`,
  );
  assert.equal(
    await messageOf({ settings: [['totalTimeout', '1']] }),
    `settings: there is no option "totalTimeout"; did you mean ${key}?`,
  );
  await refused(() => new Client({ ...options, logger: 1 }), 'UNKNOWN_KEY', 'logger', /no option "logger"/);
  await refused(() => new Client({ endpont: 'x' }), 'UNKNOWN_KEY', 'endpont', /did you mean endpoint\?$/);
  const wrong = { ...spec, template: 'x' };
  for (const call of [client.create, client.generate])
    await refused(
      () => call.call(client, { instanceId, spec: wrong }),
      ...['UNKNOWN_KEY', 'template', /^spec: there is no option "template"; did you mean templateId\?$/],
    );
  await refused(
    () => client.updateSchedule({ instanceId, templateId: spec.templateId, changes: { dbids: '' } }),
    ...['UNKNOWN_KEY', 'dbids', /^changes: there is no option "dbids"; did you mean dbIds\?$/],
  );
  await refused(() => client.mirror({ dir: 'x' }), 'UNKNOWN_KEY', 'dir', /did you mean directory\?$/);
  await refused(() => client.findCredentials({ projectId: 5 }), 'UNKNOWN_KEY', 'projectId', /"projectId"/);
  for (const name of ['signal', 'onProgress', 'instanceId'])
    await refused(
      () => new Client({ ...options, [name]: 1 }),
      ...['UNKNOWN_KEY', name, /it is an option of a call, not of a client$/],
    );
  // Undefined is left out, whatever its name is.
  await client.download({ ...report, elsewhere: undefined });
  await refused(() => client.mirror({ directory: 'x', delete: true }), 'UNKNOWN_KEY', 'delete', /"delete"/);
});

test('calls without their options are refused', async (t) => {
  const client = newClient(t);
  const { download, open, wait, schedule, check } = client;
  for (const call of [download, open, wait, schedule])
    await refused(
      () => call.call(client),
      'NULL_ARGUMENT',
      'instanceId',
      /^instanceId: must not be undefined$/,
    );
  await refused(() => client.reports().toArray(), 'NULL_ARGUMENT', 'instanceId', /must not be undefined$/);
  for (const call of [download, check]) {
    await refused(
      () => call.call(client, instanceId, pdf.id),
      'INVALID_VALUE',
      'options',
      /an object such as/,
    );
    await refused(() => call.call(client, null), 'NULL_ARGUMENT', 'options', /must not be null$/);
  }
  await refused(() => client.reports(instanceId), 'INVALID_VALUE', 'options', /\{ instanceId \}/);
  await refused(() => new Client(mock.http), 'INVALID_VALUE', 'options', /an object such as/);
  await refused(() => new Client(), 'NOT_CONFIGURED', undefined, /region/);
  for (const call of [client.create, client.generate])
    await refused(() => call.call(client, { instanceId }), 'NULL_ARGUMENT', 'spec', /templateId, /);
  await refused(
    () => client.create({ instanceId, ...spec }),
    ...['UNKNOWN_KEY', 'templateId', /"templateId"; it is an option of spec$/],
  );
  await refused(
    () => client.updateSchedule({ instanceId, templateId: 'template-0123456789' }),
    ...[
      'NULL_ARGUMENT',
      'changes',
      /^changes: must be an object such as \{ status: 'OFF' \}, but is undefined$/,
    ],
  );
});

test('options of a client are of their types', async () => {
  for (const [given, code, parameter, message] of [
    [{ endpoint: null }, 'NULL_ARGUMENT', 'endpoint', /must not be null$/],
    [{ endpoint: [undefined] }, 'NULL_ARGUMENT', 'endpoint', /but is undefined$/],
    [{ endpoint: [null] }, 'NULL_ARGUMENT', 'endpoint', /must not be null$/],
    [{ log: console }, 'INVALID_VALUE', 'log', /must be a function, but is an object/],
    [{ log: true }, 'INVALID_VALUE', 'log', /must be a function, but is true$/],
    [{ token: undefined, tokenProvider: 'secret-x' }, 'INVALID_VALUE', 'tokenProvider', /a string$/],
    [{ token: undefined, passcodeProvider: {} }, 'INVALID_VALUE', 'passcodeProvider', /a function/],
    [{ token: null }, 'NULL_ARGUMENT', 'token', /must not be null$/],
    [{ token: 7 }, 'INVALID_VALUE', 'token', /must be a string, but is 7$/],
    [{ totalTimeoutMs: null }, 'NULL_ARGUMENT', 'totalTimeoutMs', /must not be null$/],
    [{ caFile: new URL('http://x/') }, 'INVALID_VALUE', 'caFile', /local file/],
    [{ allowPlaintext: 'yes' }, 'INVALID_VALUE', 'allowPlaintext', /must be true or false/],
    [{ connectTimeoutMs: -5 }, 'INVALID_VALUE', 'connectTimeoutMs', /but is -5$/],
    [{ token: undefined, accessKey: 'a' }, 'NOT_CONFIGURED', 'secretKey', /accessKey is configured/],
    [{ endpoint: 'http://192.0.2.1' }, 'PLAINTEXT_REFUSED', 'endpoint', /set allowPlaintext$/],
  ])
    await refused(() => new Client({ ...options, ...given }), code, parameter, message);
});

test('URLs are options', (t) => {
  const file = path.join(temporary(t), 'ca file.pem');
  writeFileSync(file, '');
  assert.throws(() => new Client({ ...options, caFile: pathToFileURL(file) }), { parameter: 'caFile' });
  new Client({
    ...options,
    proxy: new URL('http://user:password@127.0.0.1:3128'),
    iamEndpoint: new URL(mock.http),
  }).close();
});

test('a Date is no time of a report spec, and no day of a mirror', async (t) => {
  const client = newClient(t);
  const wrong = { ...spec, startTime: new Date(0) };
  const message = /^startTime: must be a string, but is an object \(Date\)$/;
  for (const call of [client.create, client.generate])
    await refused(
      () => call.call(client, { instanceId, spec: wrong }),
      'INVALID_VALUE',
      'startTime',
      message,
    );
  assert.deepEqual((await requests('@reports.create')).length, 0);
  const directory = path.join(temporary(t), 'archive');
  for (const since of [new Date(), new Date(NaN), 20261124])
    await refused(() => client.mirror({ directory, since }), 'INVALID_VALUE', 'since', /a day as text/);
  await refused(
    () => client.mirror({ directory, instanceId: 'x' }),
    'INVALID_ID',
    'instanceId',
    /^instanceId: /,
  );
  await refused(() => client.mirror({ directory, parallel: '2' }), 'INVALID_VALUE', 'parallel', /a number/);
  await refused(
    () => client.mirror({ directory, templateType: '' }),
    'INVALID_VALUE',
    'templateType',
    /bytes/,
  );
});

test('advice has the names of options here', async (t) => {
  const client = newClient(t);
  const file = path.join(temporary(t), 'max_attempts');
  await client.download({ ...report, file });
  await assert.rejects(client.download({ ...report, file }), {
    code: 'DBSS_ERR_FILE_EXISTS',
    message: `${file} exists already; set replace: true, or choose another name`,
  });
  await assert.rejects(client.download({ ...report, maxMemoryBytes: 10 }), /maxMemoryBytes is 10; raise/);
  const { endpoint, token } = options;
  const without = new Client({ endpoint, token });
  t.after(() => without.close());
  await assert.rejects(without.download(report), /^ArgumentError: projectId: .*; set projectId or region$/);
});

test('a timeout names its option, and the text of the service stays', async (t) => {
  const log = [];
  const client = newClient(t, { log: (record) => log.push(record) });
  const waiting = await addReport({ format: 'pdf', percentum: 50, status: 'RUNNING' });
  await assert.rejects(client.wait({ ...report, reportId: waiting.reportId, waitTimeoutMs: 1 }), {
    code: 'DBSS_ERR_NOT_READY',
    message: /waitTimeoutMs/,
  });
  const refusing = await addReport();
  const told = 'ctx: set total_timeout_ms to -1 or NULL, or allow replacing it';
  await fault(refusing.reportId, { status: 403, json: { error_code: 'DBSS.1', error_msg: told } });
  const error = await client.download(refusing).catch((thrown) => thrown);
  assert.ok(error.message.includes(told), error.message);
  while (log.filter((one) => one.error).length < 2) await new Promise(setImmediate);
  for (const [record, text] of [
    [log.find((one) => one.error?.code === 'DBSS_ERR_NOT_READY'), 'waitTimeoutMs'],
    [log.findLast((one) => one.error), told],
  ]) {
    assert.ok(record.error.message.includes(text) && record.message.includes(record.error.message));
    assert.equal('parts' in record.error, false);
  }
});

test('what a provider returns is checked', async (t) => {
  const failure = async (given) => {
    const client = newClient(t, { token: undefined, tokenProvider: () => given });
    const error = await client.check().catch((thrown) => thrown);
    assert.equal(error.code, 'DBSS_ERR_NO_TOKEN');
    return error;
  };
  for (const [given, message] of [
    [undefined, /must return a string, or a token as \{ token, expiresAt \}, but returned undefined/],
    [null, /but returned null/],
    [{ value: 'x' }, /but returned an object/],
    [{ token: 7 }, /but returned an object/],
    [{ token: mock.token, expiresAt: '2030-01-01' }, /expiresAt: must be a valid Date, or a number/],
    [{ token: mock.token, expiresAt: new Date(NaN) }, /expiresAt: must be a valid Date, or a number/],
  ]) {
    const error = await failure(given);
    assert.match(error.message, message);
    assert.ok(error.cause instanceof TypeError);
  }
  const { endpoint, projectId } = options;
  const login = { iamEndpoint: mock.iam, iamUser: mock.user, iamPassword: 'x', iamDomain: mock.domain };
  const client = new Client({
    ...{ endpoint, projectId, ...login, iamUserId: mock.user_id },
    passcodeProvider: () => ({ token: '123456' }),
  });
  t.after(() => client.close());
  await assert.rejects(client.check(), /it must return a string, but returned an object$/);
  const past = await failure({ token: mock.token, expiresAt: Date.now() / 1000 });
  assert.match(
    past.message,
    /expiresAt: is in the past, in 1970, so the token has expired; are these seconds/,
  );
});

test('a passcode that cannot be one is a wrong passcode', async (t) => {
  const { endpoint, projectId } = options;
  const login = { iamEndpoint: mock.iam, iamUser: mock.user, iamPassword: 'x', iamDomain: mock.domain };
  const given = { endpoint, projectId, ...login };
  for (const passcode of ['', 'a b']) {
    const client = new Client({ ...given, iamUserId: mock.user_id, passcodeProvider: () => passcode });
    t.after(() => client.close());
    const error = await client.check().catch((thrown) => thrown);
    assert.match(error.message, /^the passcode provider failed: passcode: /);
    assert.deepEqual([error.cause.parameter, error.cause.name], ['passcode', 'ArgumentError']);
  }
  const parameter = 'passcodeProvider';
  await refused(
    () => new Client({ ...given, passcodeProvider: () => '1' }),
    ...['NOT_CONFIGURED', parameter, /^passcodeProvider: needs iamUser, and iamUserId/],
  );
});

test('the value of a setting that is missing names its option', async (t) => {
  const client = newClient(t);
  for (const value of [undefined, null]) {
    const settings = [['max_attempts', value]];
    await refused(
      () => client.download({ ...report, settings }),
      ...['NULL_ARGUMENT', 'maxAttempts', new RegExp(`^maxAttempts: must not be ${value}$`)],
    );
  }
});

test('options are those of their own, each read once', async (t) => {
  const client = newClient(t);
  const inherited = Object.create({ reportId: pdf.id, instanceId });
  await refused(() => client.download(inherited), 'NULL_ARGUMENT', 'instanceId', /undefined$/);
  let reads = 0;
  const given = {
    instanceId,
    get reportId() {
      reads++;
      return pdf.id;
    },
  };
  await client.download(given);
  assert.equal(reads, 1);
});

test('the fields of an error are there, with undefined for none', async () => {
  const error = await (async () => new Client({}))().catch((thrown) => thrown);
  for (const name of ['httpStatus', 'serviceCode', 'requestId', 'path', 'osCode', 'cancelledBy', 'result'])
    assert.ok(Object.hasOwn(error, name) && error[name] === undefined, name);
});
