import assert from 'node:assert/strict';
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { createHash } from 'node:crypto';
import { existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { pathToFileURL } from 'node:url';

import * as dbss from '../index.mjs';
import {
  addReport,
  control,
  fault,
  holdUntilRequested,
  instanceId,
  isPrompt,
  mock,
  newClient,
  options,
  pdf,
  report,
  requests,
  silent,
  temporary,
} from './mock.mjs';

const { Client } = dbss;
const sum = (bytes) => createHash('sha256').update(bytes).digest('hex');

test('a report is downloaded into memory', async (t) => {
  const client = newClient(t);
  const bytes = await client.download(report);
  assert.ok(Buffer.isBuffer(bytes));
  assert.equal(sum(bytes), pdf.sha256['en-us']);
  assert.equal(sum(await client.download({ ...report, locale: 'zh-cn' })), pdf.sha256['zh-cn']);
  const large = await addReport({ format: 'zip', size: 5_000_000 });
  assert.equal(sum(await client.download(large)), large.sha256['en-us']);
});

test('a report is saved to a file, a directory, a URL and a descriptor', async (t) => {
  const client = newClient(t);
  const directory = temporary(t);
  const file = path.join(directory, 'report.pdf');
  const saved = await client.download({ ...report, file });
  assert.equal(saved.path, file);
  assert.equal(saved.format, 'pdf');
  assert.equal(saved.received, readFileSync(file).length);
  await assert.rejects(client.download({ ...report, file: pathToFileURL(file) }), (error) => {
    assert.ok(error instanceof dbss.FileError);
    assert.equal(error.code, 'DBSS_ERR_FILE_EXISTS');
    assert.equal(error.path, file);
    return true;
  });
  await client.download({ ...report, file: Buffer.from(file), replace: true });
  const named = await client.download({ ...report, directory });
  assert.equal(named.path, path.join(directory, named.filename));
  const fd = openSync(path.join(directory, 'other'), 'w');
  const { received } = await client.download({ ...report, fd });
  assert.equal(readFileSync(path.join(directory, 'other')).length, received);
  await assert.rejects(client.download({ ...report, file, fd }), { code: 'DBSS_ERR_ARGUMENT' });
});

test('a path that is not UTF-8 is bytes', async (t) => {
  const client = newClient(t);
  const file = Buffer.concat([Buffer.from(path.join(temporary(t), 'x')), Buffer.from([0xff, 0xc3])]);
  const saved = await client.download({ ...report, file });
  assert.deepEqual(saved.path, file);
  await assert.rejects(client.download({ ...report, file }), (error) => file.equals(error.path));
});

test('an error has the class of its group and all fields', async (t) => {
  const client = newClient(t);
  const reportId = 'missing-0123456789';
  const error = await client.download({ instanceId, reportId }).catch((thrown) => thrown);
  assert.ok(error instanceof dbss.ServiceError && error instanceof dbss.DbssError && error instanceof Error);
  assert.equal(error.name, 'ServiceError');
  assert.equal(error.code, 'DBSS_ERR_NOT_FOUND');
  assert.equal(error.codeNumber, 204);
  assert.ok(!('status' in error) && !('statusCode' in error));
  assert.equal(error.httpStatus, 404);
  assert.equal(error.serviceCode, 'DBSS.10021004');
  assert.match(error.requestId, /^[0-9a-f]{32}$/);
  assert.equal(error.attempts, 1);
  assert.equal(error.retryable, false);
  assert.deepEqual(error.candidates, []);
  assert.match(String(error), /no such report/);
  error.name = 'Mine';
  assert.match(String(error), /^Mine: /);
  await fault(reportId, { status: 429, headers: [['Retry-After', '99']], times: 1 });
  const throttled = await client.download({ instanceId, reportId, maxAttempts: 1 }).catch((thrown) => thrown);
  assert.equal(throttled.code, 'DBSS_ERR_THROTTLED');
  assert.equal(throttled.retryAfterMs, 99_000);
  assert.equal(throttled.retryable, true);
});

test('the stack of an error has the caller', async (t) => {
  const client = newClient(t);
  const given = { instanceId, reportId: 'missing-0123456789' };
  const callers = {
    downloads: async () => client.download(given),
    opens: async () => {
      await client.open(given);
    },
    lists: async () => {
      await client.reports({ instanceId: '0'.repeat(32) }).toArray();
    },
  };
  for (const [name, caller] of Object.entries(callers)) {
    const wrapped = { [name]: async () => void (await caller()) }[name];
    await assert.rejects(wrapped(), (error) => error.stack.includes(`at async ${name}`));
  }
});

test('onProgress and onResult keep the context of their caller', async (t) => {
  const client = newClient(t);
  const storage = new AsyncLocalStorage();
  const seen = [];
  const onProgress = () => seen.push(storage.getStore());
  await storage.run('mine', () => client.download({ ...report, onProgress, onResult: onProgress }));
  assert.ok(seen.length > 1);
  assert.deepEqual([...new Set(seen)], ['mine']);
});

test('an error without a response is of the network', async () => {
  const client = new Client({ ...options, endpoint: 'http://127.0.0.1:1', maxAttempts: 1 });
  await assert.rejects(client.check(), (error) => error instanceof dbss.NetworkError && error.osCode === 111);
});

test('options of a client are checked when it is made', () => {
  assert.throws(() => new Client({}), { code: 'DBSS_ERR_NOT_CONFIGURED' });
  assert.throws(() => new Client({ ...options, token: 'a\0b' }), {
    code: 'DBSS_ERR_INVALID_TOKEN',
    parameter: 'token',
  });
  assert.throws(() => new Client({ ...options, accessKey: 'a', secretKey: 'b' }), /exclude each other/);
  assert.throws(
    () => new Client({ ...options, endpoint: ['http://127.0.0.1:1,http://127.0.0.1:2', mock.http] }),
    /comma/,
  );
  new Client({
    ...options,
    endpoint: [new URL(mock.http), mock.http],
    totalTimeoutMs: Infinity,
    fileMode: 0o640,
  }).close();
});

test('what has secrets prints none', async (t) => {
  const secret = 'secret-0123456789';
  const client = newClient(t, { token: undefined, tokenProvider: () => secret });
  const error = await client.check().catch((thrown) => thrown);
  assert.equal(error.code, 'DBSS_ERR_UNAUTHENTICATED');
  const printed = inspect([client, error], { depth: 9, showHidden: true }) + JSON.stringify([client, error]);
  assert.ok(!printed.includes('secret-'));
});

test('options of one call override the client', async (t) => {
  const client = newClient(t, { maxMemoryBytes: 10 });
  await assert.rejects(client.download(report), (error) => error instanceof dbss.ResourceError);
  await client.download({ ...report, maxMemoryBytes: 2n ** 63n - 1n });
  const file = path.join(temporary(t), 'report');
  await client.download({ ...report, file, fileMode: 0o644 });
  assert.equal(existsSync(file), true);
});

test('progress and result are told', async (t) => {
  const client = newClient(t);
  const large = await addReport({ format: 'pdf', size: 3 << 20 });
  const told = [];
  let result;
  await client.download({ ...large, onProgress: (one) => told.push(one), onResult: (one) => (result = one) });
  assert.equal(told[0].received, 0);
  assert.deepEqual(told.at(-1), {
    received: 3 << 20,
    total: 3 << 20,
    resumed: 0,
    attempts: 1,
    percent: undefined,
  });
  assert.equal(result.received, 3 << 20);
  await client
    .download({ instanceId, reportId: 'missing-0123456789', onResult: (one) => (result = one) })
    .catch(() => {});
  assert.equal(result.attempts, 1);
});

test('an exception of onProgress, or its rejection, ends the call', async (t) => {
  const client = newClient(t);
  const mine = new Error('mine');
  const fails = () => {
    throw mine;
  };
  for (const onProgress of [fails, async () => fails()]) {
    for (const call of [client.download, client.open]) {
      const error = await call.call(client, { ...(await silent()), onProgress }).catch((thrown) => thrown);
      assert.equal(error.code, 'DBSS_ERR_CANCELLED');
      assert.equal(error.cancelledBy, 'callback');
      assert.equal(error.cause, mine);
    }
  }
});

test('an exception of onProgress after a success is an uncaught exception', async (t) => {
  const client = newClient(t);
  const listeners = process.listeners('uncaughtException');
  const uncaught = new Promise((resolve) => {
    process.removeAllListeners('uncaughtException').once('uncaughtException', resolve);
  });
  t.after(() => listeners.forEach((one) => process.on('uncaughtException', one)));
  const large = await addReport({ format: 'pdf', size: 3 << 20 });
  const file = path.join(temporary(t), 'report');
  const mine = new Error('mine');
  const onProgress = ({ received, total }) => {
    // While the event loop is busy, the download ends.
    while (!existsSync(file));
    if (received === total) throw mine;
  };
  const saved = await client.download({ ...large, file, onProgress });
  assert.equal(saved.path, file);
  assert.equal(await uncaught, mine);
});

test('a rejection of onProgress after the call is nothing', async (t) => {
  let reject;
  const onProgress = () => new Promise((_, fail) => (reject = fail));
  await newClient(t).download({ ...report, onProgress });
  reject(new Error('late'));
  await new Promise(setImmediate);
});

test('a signal aborts a call within 250 ms', async (t) => {
  const client = newClient(t);
  const lost = await silent();
  for (const call of [client.download, client.open]) {
    const measure = async () => {
      const controller = new AbortController();
      const running = call.call(client, { ...lost, signal: controller.signal }).catch((thrown) => thrown);
      while ((await requests(lost.reportId)).length === 0);
      await control('DELETE', '/requests');
      const started = performance.now();
      controller.abort(new Error('why'));
      const error = await running;
      const took = performance.now() - started;
      assert.ok(error instanceof dbss.AbortError);
      assert.deepEqual([error.name, error.code, error.reason.message], ['AbortError', 'ABORT_ERR', 'why']);
      assert.ok(error.cause instanceof dbss.CancelledError);
      assert.equal(error.cause.cancelledBy, 'signal');
      return took;
    };
    assert.ok(await isPrompt(measure));
  }
});

test('a signal that is aborted already makes no request', async (t) => {
  const client = newClient(t);
  const reportId = 'never-0123456789abcdef';
  const given = { instanceId, reportId, signal: AbortSignal.abort() };
  await assert.rejects(client.download(given), { name: 'AbortError' });
  await assert.rejects(client.open(given), { name: 'AbortError' });
  await assert.rejects(client.reports({ instanceId, signal: given.signal }).toArray(), {
    name: 'AbortError',
  });
  assert.deepEqual(await requests(reportId), []);
});

test('one signal serves many calls, without a warning', async (t) => {
  const client = newClient(t);
  const warnings = [];
  process.on('warning', (warning) => warnings.push(warning));
  const { signal } = new AbortController();
  await Promise.all(Array.from({ length: 50 }, () => client.download({ ...report, signal })));
  await new Promise(setImmediate);
  assert.deepEqual(warnings, []);
});

test('closing ends calls, and later ones fail', async (t) => {
  const client = newClient(t);
  const lost = await silent();
  const running = client.download(lost).catch((thrown) => thrown);
  while ((await requests(lost.reportId)).length === 0);
  client.close();
  client.close();
  assert.equal((await running).code, 'DBSS_ERR_CANCELLED');
  assert.equal((await running).cancelledBy, 'close');
  await assert.rejects(client.download(report), { code: 'DBSS_ERR_CLOSED', parameter: 'client' });
  assert.throws(() => client.setToken('x'), { code: 'DBSS_ERR_CLOSED' });
  client.cancelAll();
});

test('calls that were made before they are stopped are cancelled', async (t) => {
  const lost = await silent();
  await fault('@reports.delete', { no_response: true });
  t.after(() => control('DELETE', '/faults'));
  for (let i = 0; i < 100; i++) {
    const client = newClient(t);
    const calls = () => [client.download, client.open, client.delete].map((call) => call.call(client, lost));
    for (const [how, by] of [
      ['cancelAll', 'client'],
      ['close', 'close'],
    ]) {
      const made = calls();
      client[how]();
      for (const { reason } of await Promise.allSettled(made))
        assert.deepEqual(
          [reason.code, reason.cancelledBy, reason.parameter],
          ['DBSS_ERR_CANCELLED', by, undefined],
        );
    }
    for (const { reason } of await Promise.allSettled(calls()))
      assert.deepEqual([reason.code, reason.parameter], ['DBSS_ERR_CLOSED', 'client']);
  }
});

test('the limit of a whole call counts its wait for a thread', async (t) => {
  dbss.setMaxThreads(1);
  t.after(() => dbss.setMaxThreads(64));
  const records = [];
  const client = newClient(t, { log: (record) => records.push(record) });
  const lost = await silent();
  const controller = new AbortController();
  const running = client.download({ ...lost, signal: controller.signal }).catch(() => {});
  const limited = newClient(t, { totalTimeoutMs: 40 });
  const calls = [
    [client.download({ ...report, totalTimeoutMs: 50 }), 50],
    [client.download({ ...report, settings: [['total_timeout_ms', '60']] }), 60],
    [limited.open(report), 40],
  ];
  const rejections = calls.map(([call, limit]) =>
    assert.rejects(call, {
      name: 'NetworkError',
      code: 'DBSS_ERR_TOTAL_TIMEOUT',
      message: `the call took longer than totalTimeoutMs (${limit} ms)`,
      cancelledBy: undefined,
      retryable: true,
    }),
  );
  await Promise.all(rejections);
  const unlimited = limited.download({ ...report, totalTimeoutMs: Infinity });
  const late = client.download({ ...lost, totalTimeoutMs: 3000 });
  setTimeout(() => controller.abort(), 2700);
  await assert.rejects(late, { message: 'the call took longer than totalTimeoutMs (3000 ms)' });
  // libdbss got what the wait for the thread had left of it. It was 3000.
  for (const { message } of records.filter((one) => one.code === 'DBSS_ERR_TOTAL_TIMEOUT'))
    assert.ok(Number(/totalTimeoutMs \((\d+) ms\)/.exec(message)[1]) <= 301, message);
  await Promise.all([running, unlimited]);
});

test('a signal that fails ends its call', async (t) => {
  const client = newClient(t);
  const reportId = 'unsent-0123456789abcdef';
  const mine = new Error('mine');
  const fails = () => {
    throw mine;
  };
  const given = {
    instanceId,
    reportId,
    signal: { aborted: false, addEventListener: fails, removeEventListener() {} },
  };
  for (const call of [client.download, client.open])
    await assert.rejects(call.call(client, given), (error) => error === mine);
  assert.deepEqual(await requests(reportId), []);
  const listeners = process.listeners('uncaughtException');
  const uncaught = new Promise((resolve) => {
    process.removeAllListeners('uncaughtException').once('uncaughtException', resolve);
  });
  t.after(() => listeners.forEach((one) => process.on('uncaughtException', one)));
  await client.download({
    ...report,
    signal: { aborted: false, addEventListener() {}, removeEventListener: fails },
  });
  assert.equal(await uncaught, mine);
});

test('setters that all objects inherit are not run', async (t) => {
  const client = newClient(t);
  const names = ['received', 'attempts', 'requestId'];
  t.after(() => names.forEach((name) => delete Object.prototype[name]));
  for (const name of names)
    Object.defineProperty(Object.prototype, name, {
      configurable: true,
      set() {
        throw new Error(`${name} was set`);
      },
    });
  let result;
  await client.download({ ...report, onResult: (one) => (result = one) });
  assert.equal(result.attempts, 1);
  await assert.rejects(client.download({ instanceId, reportId: 'missing-0123456789' }), {
    code: 'DBSS_ERR_NOT_FOUND',
    attempts: 1,
  });
});

test('disposing of a client closes it', async () => {
  const client = new Client(options);
  client[Symbol.dispose]();
  await assert.rejects(client.check(), { code: 'DBSS_ERR_CLOSED' });
});

test('disposing of a client waits for its calls', async () => {
  const client = new Client(options);
  let ended = false;
  const running = client.download(await silent()).catch(() => (ended = true));
  await client[Symbol.asyncDispose]();
  await running;
  assert.equal(ended, true);
});

test('disposing of a client waits for the reads of its streams', async () => {
  const client = new Client(options);
  const large = await addReport({ format: 'pdf', size: 1 << 20 });
  await fault(large.reportId, { stall_after: 1000 });
  const stream = await client.open(large);
  let [length, ended] = [0, false];
  stream.on('error', () => (ended = true)).on('data', (chunk) => (length += chunk.length));
  while (length < 1000) await new Promise(setImmediate);
  await new Promise(setImmediate);
  await client[Symbol.asyncDispose]();
  assert.equal(ended, true);
});

test('cancelling all ends calls, and later ones work', async (t) => {
  const client = newClient(t);
  const lost = await silent();
  const running = client.download(lost).catch((thrown) => thrown);
  while ((await requests(lost.reportId)).length === 0);
  client.cancelAll();
  assert.equal((await running).cancelledBy, 'client');
  await client.download(report);
});

test('a call that is aborted before ends at once, also when the limit was lowered', async (t) => {
  t.after(() => dbss.setMaxThreads(64));
  const client = newClient(t);
  // The threads that are idle leave, some of them before the call is made and some after.
  for (let i = 0; i < 20; i++) {
    dbss.setMaxThreads(64);
    const lost = await silent();
    const busy = new AbortController();
    const running = [client, client].map((one) =>
      one.download({ ...lost, signal: busy.signal }).catch(() => {}),
    );
    while ((await requests(lost.reportId)).length < 2);
    await Promise.all(Array.from({ length: 6 }, () => client.download(report)));
    dbss.setMaxThreads(2);
    await assert.rejects(client.download({ ...report, signal: AbortSignal.abort() }), { name: 'AbortError' });
    busy.abort();
    await Promise.all(running);
  }
});

test('calls beyond the limit of threads wait, and can be cancelled', async (t) => {
  dbss.setMaxThreads(2);
  t.after(() => dbss.setMaxThreads(64));
  const client = newClient(t);
  const lost = await silent();
  const controller = new AbortController();
  t.after(() => controller.abort());
  const running = [client, client].map((one) =>
    one.download({ ...lost, signal: controller.signal }).catch((thrown) => thrown),
  );
  const alone = new AbortController();
  const waiting = client.download({ ...report, signal: alone.signal }).catch((thrown) => thrown);
  const closing = newClient(t);
  const closed = closing.download(report).catch((thrown) => thrown);
  alone.abort();
  assert.equal((await waiting).name, 'AbortError');
  closing.close();
  assert.equal((await closed).cancelledBy, 'close');
  const last = client.download(report);
  controller.abort();
  await Promise.all([...running, last]);
  for (const [count, shown] of [
    [0, '0'],
    [1025, '1025'],
    ['3', 'a string'],
    [NaN, 'NaN'],
    [1.9, '1.9'],
    [3n, '3n'],
  ])
    assert.throws(() => dbss.setMaxThreads(count), {
      name: 'ArgumentError',
      message: `count: must be a whole number from 1 to 1024, but is ${shown}`,
    });
});

test('lists and streams that wait for a thread can be cancelled', async (t) => {
  const client = newClient(t);
  const controller = new AbortController();
  const given = { ...(await addReport({ format: 'pdf', size: 5_000_000 })), signal: controller.signal };
  const streams = [await client.open(given), await client.open(given), await client.open(given)];
  const errors = streams.slice(1).map((stream) => new Promise((resolve) => stream.once('error', resolve)));
  dbss.setMaxThreads(1);
  const busy = new AbortController();
  const lost = await silent();
  t.after(() => {
    busy.abort();
    dbss.setMaxThreads(64);
  });
  const running = Array.from({ length: 64 }, () => client.download({ ...lost, signal: busy.signal }));
  const ended = Promise.all(running.map((one) => one.catch(() => {})));
  // One is read, one is destroyed, one is idle.
  streams[0].read();
  const closed = new Promise((resolve) => streams[0].once('close', resolve));
  streams[0].destroy();
  await closed;
  streams[1].read();
  controller.abort();
  for (const error of errors) assert.equal((await error).name, 'AbortError');
  const other = newClient(t);
  const listing = () =>
    other
      .reports({ instanceId })
      .nextPage()
      .catch((thrown) => thrown);
  const first = listing();
  other.cancelAll();
  assert.equal((await first).cancelledBy, 'client');
  const second = listing();
  other.close();
  assert.equal((await second).cancelledBy, 'close');
  busy.abort();
  await ended;
});

test('many calls that wait are aborted in a short time', async (t) => {
  dbss.setMaxThreads(1);
  t.after(() => dbss.setMaxThreads(64));
  const client = newClient(t);
  const lost = await silent();
  const time = async (count) => {
    const controller = new AbortController();
    const { signal } = controller;
    const calls = Array.from({ length: count }, () => client.download({ ...lost, signal }).catch(() => {}));
    // Not the time on the clock: the machine may be busy.
    const before = process.cpuUsage();
    controller.abort();
    const { user, system } = process.cpuUsage(before);
    await Promise.all(calls);
    return (user + system) / 1000;
  };
  await time(100);
  const few = await time(500);
  // The shortest of three, as the engine's own threads count, too. It was 100 times as long as `few`, for
  // a queue that each of them searched.
  const many = Math.min(await time(5000), await time(5000), await time(5000));
  assert.ok(many < 25 * few + 100, `${few} ms, then ${many} ms`);
});

test('the log gets records without secrets', async (t) => {
  const records = [];
  const client = newClient(t, { log: (record) => records.push(record) });
  const reportId = 'logged-0123456789';
  await client.download({ instanceId, reportId }).catch(() => {});
  assert.deepEqual([...new Set(records.map((one) => one.level))].sort(), ['debug', 'error']);
  const record = records.find((one) => one.level === 'error');
  assert.equal(record.code, 'DBSS_ERR_NOT_FOUND');
  assert.equal(record.reportId, reportId);
  assert.equal(record.error.code, 'DBSS_ERR_NOT_FOUND');
  assert.equal(record.attempt, 1);
  assert.equal(typeof record.durationMs, 'number');
  assert.ok(!JSON.stringify(records).includes(mock.token));
});

test('log records that nobody takes in time are dropped, and counted', async (t) => {
  const records = [];
  const client = newClient(t, { log: (record) => records.push(record) });
  await control('DELETE', '/requests');
  const calls = Array.from({ length: 1500 }, () => client.download(report));
  // Each has two records.
  holdUntilRequested(report.reportId, 1200);
  await Promise.all(calls);
  await client.download(report);
  const dropped = records.reduce((all, one) => all + (one.dropped ?? 0), 0);
  assert.ok(dropped > 0);
  assert.equal(records.length + dropped, 3002);
  assert.equal(
    records.findIndex((one) => one.dropped),
    1000,
  );
});

test('the log records of a client are not dropped for those of another', async (t) => {
  const [loud, quiet] = [[], []];
  const client = newClient(t, { log: (record) => loud.push(record) });
  const other = newClient(t, { log: (record) => quiet.push(record) });
  await control('DELETE', '/requests');
  const calls = Array.from({ length: 1000 }, () => client.download(report));
  calls.push(...Array.from({ length: 10 }, () => other.download(report)));
  holdUntilRequested(report.reportId, 1010);
  await Promise.all(calls);
  await other.download(report);
  assert.ok(loud.length < 2000);
  assert.equal(quiet.length, 22);
  assert.ok(quiet.every((one) => one.dropped === undefined));
});

const tokens = (t, tokenProvider) => newClient(t, { token: undefined, tokenProvider });

test('a token provider runs once for all calls', async (t) => {
  let calls = 0;
  const client = tokens(t, async ({ refused }) => {
    calls++;
    assert.equal(refused, false);
    return { token: mock.token, expiresAt: new Date(Date.now() + 3_600_000) };
  });
  await Promise.all(Array.from({ length: 20 }, () => client.check()));
  assert.equal(calls, 1);
  const found = await client.findCredentials();
  assert.equal(found.source, 'token_provider');
  assert.ok(found.expiresAt.getTime() - Date.now() > 3_500_000);
});

test('a token provider is asked again for a refused token', async (t) => {
  await tokens(t, ({ refused }) => (refused ? mock.token : 'old')).check();
});

test('a token provider may use another client, when all threads wait for it', async (t) => {
  dbss.setMaxThreads(1);
  t.after(() => dbss.setMaxThreads(64));
  const other = newClient(t);
  const client = tokens(t, async () => {
    await Promise.all([other.check(), other.check()]);
    await (await other.open(report)).toArray();
    return mock.token;
  });
  await Promise.all([client.check(), client.check(), client.check()]);
});

test('what a token provider leaves behind waits for a thread as others do', async (t) => {
  dbss.setMaxThreads(1);
  t.after(() => dbss.setMaxThreads(64));
  const other = newClient(t);
  let later;
  const client = tokens(t, () => {
    later = AsyncResource.bind(() => other.check({ totalTimeoutMs: 50 }));
    return mock.token;
  });
  await client.check();
  const controller = new AbortController();
  const running = client.download({ ...(await silent()), signal: controller.signal }).catch(() => {});
  await assert.rejects(later(), { code: 'DBSS_ERR_TOTAL_TIMEOUT' });
  controller.abort();
  await running;
});

test('the exception of a token provider is the cause', async (t) => {
  const mine = new Error('the vault\nis closed' + '\u00e9'.repeat(600));
  const client = tokens(t, async () => {
    throw mine;
  });
  const error = await client.check().catch((thrown) => thrown);
  assert.equal(error.code, 'DBSS_ERR_NO_TOKEN');
  assert.equal(error.cause, mine);
  await assert.rejects(
    tokens(t, () => 'a b').check(),
    (thrown) => thrown.code === 'DBSS_ERR_NO_TOKEN' && !thrown.message.includes('a b'),
  );
  await assert.rejects(tokens(t, () => 7).check(), { code: 'DBSS_ERR_NO_TOKEN' });
});

test('a token provider may throw anything', async (t) => {
  const unreadable = {
    get message() {
      throw new Error('no message');
    },
  };
  const wrong = [
    Object.create(null),
    Object.assign(new Error(), { message: {} }),
    new Error(''),
    Symbol('x'),
  ];
  wrong.push(Object.setPrototypeOf(unreadable, Error.prototype), new Error('see max_attempts'), undefined);
  for (const mine of wrong) {
    const client = tokens(t, () => {
      throw mine;
    });
    const error = await client.check().catch((thrown) => thrown);
    assert.equal(error.code, 'DBSS_ERR_NO_TOKEN');
    assert.ok(Object.hasOwn(error, 'cause') && error.cause === mine);
  }
});

test('a token expires at a valid time, or never', async (t) => {
  for (const expiresAt of [new Date(NaN), NaN, 2 ** 53, '1', null])
    await assert.rejects(
      tokens(t, () => ({ token: mock.token, expiresAt })).check(),
      (error) => error.code === 'DBSS_ERR_NO_TOKEN' && error.cause instanceof TypeError,
    );
  const client = tokens(t, () => ({ token: mock.token, expiresAt: Infinity }));
  assert.equal((await client.findCredentials()).expiresAt, undefined);
  await client.check();
  const last = tokens(t, () => ({ token: mock.token, expiresAt: 8.64e15 }));
  assert.equal((await last.findCredentials()).expiresAt?.getTime(), 8.64e15);
});

test('a signal ends a call that waits for a token provider', async (t) => {
  const client = tokens(
    t,
    ({ signal }) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('closed')))),
  );
  await assert.rejects(client.check({ signal: AbortSignal.timeout(50) }), { name: 'AbortError' });
  const running = client.check().catch((thrown) => thrown);
  client.close();
  assert.equal((await running).cancelledBy, 'close');
});

test('a passcode provider logs in', async (t) => {
  await control('POST', '/iam', { passcodes: ['123456'] });
  t.after(() => control('POST', '/iam', {}));
  const client = new Client({
    endpoint: mock.http,
    region: mock.region,
    iamEndpoint: mock.iam,
    iamUser: mock.user,
    iamPassword: mock.password,
    iamDomain: mock.domain,
    iamUserId: mock.user_id,
    passcodeProvider: async () => '123456',
  });
  await client.check();
  client.close();
});

test('ESM and CommonJS are the same package', () => {
  const required = createRequire(import.meta.url)('../dist/index.js');
  assert.equal(required.Client, Client);
  assert.deepEqual(Object.keys(required).sort(), Object.keys(dbss).sort());
  assert.ok(!('__esModule' in dbss));
  assert.match(dbss.version(), /^\d+\.\d+\.\d+$/);
  assert.ok('download' in dbss.features());
});

test('a file that is there stays after a failure', async (t) => {
  const client = newClient(t);
  const file = path.join(temporary(t), 'report');
  writeFileSync(file, 'mine');
  await client.download({ instanceId, reportId: 'missing-0123456789', file, replace: true }).catch(() => {});
  assert.equal(readFileSync(file, 'utf8'), 'mine');
});
