import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';

import { AbortError, DbssError } from '../index.mjs';
import {
  addReport,
  fault,
  instanceId,
  isPrompt,
  newClient,
  pdf,
  report,
  silent,
  temporary,
} from './mock.mjs';

async function sum(stream) {
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk);
  return hash.digest('hex');
}

test('a report is a Readable with its facts', async (t) => {
  const client = newClient(t);
  const stream = await client.open({ ...report, locale: 'zh-cn' });
  assert.equal(stream.size, pdf.sizes['zh-cn']);
  assert.deepEqual([stream.format, stream.contentType], ['pdf', 'application/pdf']);
  assert.match(stream.filename, /\.pdf$/);
  assert.match(stream.requestId, /^[0-9a-f]{32}$/);
  assert.equal(await sum(stream), pdf.sha256['zh-cn']);
  assert.equal(stream.destroyed, true);
});

test('the events of a stream keep the context of its caller', async (t) => {
  const client = newClient(t);
  const storage = new AsyncLocalStorage();
  const seen = {};
  const names = ['data', 'end', 'close'];
  await storage.run('mine', async () => {
    const stream = await client.open(report);
    for (const name of names) stream.on(name, () => (seen[name] = storage.getStore()));
    await new Promise((resolve) => stream.once('close', resolve));
  });
  assert.deepEqual(seen, Object.fromEntries(names.map((name) => [name, 'mine'])));
});

test('a report is piped to a file', async (t) => {
  const client = newClient(t);
  const large = await addReport({ format: 'pdf', size: 5_000_000 });
  const file = path.join(temporary(t), 'report');
  let result;
  const onResult = (one) => (result = one);
  await pipeline(await client.open({ ...large, onResult }), createWriteStream(file));
  assert.equal(await sum(createReadStream(file)), large.sha256['en-us']);
  assert.equal(result.received, 5_000_000);
});

test('nothing is read ahead of the high-water mark', async (t) => {
  const client = newClient(t);
  const large = await addReport({ format: 'pdf', size: 64 << 20 });
  let received = 0;
  const onProgress = (progress) => (received = progress.received);
  const stream = await client.open({ ...large, highWaterMark: 64 << 10, onProgress });
  const chunk = await new Promise((resolve) => stream.once('readable', () => resolve(stream.read())));
  assert.ok(chunk.length > 0);
  await delay(100);
  assert.ok(stream.readableLength <= 128 << 10);
  assert.ok(received < 32 << 20);
  stream.destroy();
});

test('parts that come at once are read at once, and others as they come', async (t) => {
  const client = newClient(t, { stallTimeoutMs: 60_000 });
  // The first bytes, and then whole parts of libdbss, of which the stream waits for the next one.
  const reach = 512 + (64 << 10);
  for (const [stall, wanted] of [
    [1000, 1000],
    [reach + 1000, reach + 1000],
    [reach, 512],
  ]) {
    const large = await addReport({ format: 'pdf', size: 1 << 20 });
    await fault(large.reportId, { stall_after: stall });
    const controller = new AbortController();
    const stream = await client.open({ ...large, signal: controller.signal });
    let length = 0;
    stream.on('data', (chunk) => (length += chunk.length));
    const closed = once(stream, 'close').catch((error) => error);
    while (length < wanted) await delay(1);
    controller.abort();
    assert.ok((await closed) instanceof AbortError);
  }
  const large = await addReport({ format: 'pdf', size: 8 << 20 });
  let chunks = 0;
  for await (const chunk of await client.open(large)) chunks += Number(chunk.length > 0);
  assert.ok(chunks < 129, `${chunks} chunks`);
});

test('what has arrived is read before a failure', async (t) => {
  const client = newClient(t, { maxAttempts: 1 });
  const large = await addReport({ format: 'pdf', size: 500_000 });
  await fault(large.reportId, { cut_after: 40_000 });
  const stream = await client.open(large);
  let length = 0;
  await assert.rejects(
    async () => {
      for await (const chunk of stream) length += chunk.length;
    },
    { code: 'DBSS_ERR_TRUNCATED' },
  );
  assert.equal(length, 40_000);
});

test('reads of a fixed size end with a failure', async (t) => {
  const client = newClient(t, { maxAttempts: 1 });
  const large = await addReport({ format: 'pdf', size: 500_000 });
  await fault(large.reportId, { cut_after: 40_000 });
  for (const size of [16_384, 50_000]) {
    const stream = await client.open(large);
    let length = 0;
    stream.on('readable', () => {
      for (let chunk; (chunk = stream.read(size)) !== null;) length += chunk.length;
    });
    const [error] = await once(stream, 'error');
    assert.equal(error.code, 'DBSS_ERR_TRUNCATED');
    assert.equal(length, 40_000 - (40_000 % size));
  }
});

test('a signal aborts a stream, with a read and without', async (t) => {
  const client = newClient(t);
  const large = await addReport({ format: 'pdf', size: 1 << 20 });
  await fault(large.reportId, { stall_after: 1000 });
  for (const reads of [true, false]) {
    const measure = async () => {
      const controller = new AbortController();
      const stream = await client.open({ ...large, signal: controller.signal });
      if (reads) stream.resume();
      await delay(20);
      const ended = new Promise((resolve) => stream.once('error', resolve));
      const started = performance.now();
      controller.abort();
      const error = await ended;
      const took = performance.now() - started;
      assert.ok(error instanceof AbortError);
      assert.ok(error.cause instanceof DbssError);
      return took;
    };
    assert.ok(await isPrompt(measure));
  }
});

test('a stream is destroyed before its end, and while it is read', async (t) => {
  const client = newClient(t);
  const large = await addReport({ format: 'pdf', size: 1 << 20 });
  await fault(large.reportId, { stall_after: 1000 });
  for (const reads of [true, false]) {
    let result;
    const stream = await client.open({ ...large, onResult: (one) => (result = one) });
    if (reads) stream.resume();
    const closed = new Promise((resolve) => stream.once('close', resolve));
    stream.destroy();
    await closed;
    assert.ok(result.received < 1 << 20);
  }
});

test('closing the client ends a stream', async (t) => {
  const client = newClient(t);
  const large = await addReport({ format: 'pdf', size: 1 << 20 });
  await fault(large.reportId, { stall_after: 1000 });
  const stream = await client.open(large);
  setTimeout(() => client.close(), 20);
  await assert.rejects(sum(stream), { code: 'DBSS_ERR_CANCELLED', cancelledBy: 'close' });
});

test('closing the client, and cancelling all, end streams that nobody reads', async (t) => {
  const large = await addReport({ format: 'pdf', size: 1 << 20 });
  for (const [how, cancelledBy] of [
    ['close', 'close'],
    ['cancelAll', 'client'],
  ]) {
    const client = newClient(t);
    const results = [];
    const onResult = (one) => results.push(one);
    const [idle, paused, whole] = [
      await client.open({ ...large, onResult }),
      await client.open({ ...large, onResult }),
      await client.open({ ...report, onResult }),
    ];
    // One has read ahead as far as it may, one has read all.
    paused.once('readable', () => {});
    whole.once('readable', () => {});
    while (paused.readableLength < paused.readableHighWaterMark || whole.readableLength < pdf.sizes['en-us'])
      await delay(1);
    const ended = [idle, paused, whole].map((stream) => [once(stream, 'error'), once(stream, 'close')]);
    client[how]();
    for (const [error, closed] of ended) {
      const [{ name, code, cancelledBy: by }] = await error;
      assert.deepEqual([name, code, by], ['CancelledError', 'DBSS_ERR_CANCELLED', cancelledBy]);
      await closed.catch(() => {});
    }
    assert.equal(results.length, 3);
  }
});

test('a stream that is stopped before anybody has it is an error', async (t) => {
  const busy = (ms) => {
    const until = performance.now() + ms;
    while (performance.now() < until);
  };
  for (let i = 0; i < 5; i++) {
    const client = newClient(t);
    const controller = new AbortController();
    const stops = {
      signal: () => controller.abort(),
      client: () => client.cancelAll(),
      callback: () => {},
      close: () => client.close(),
    };
    for (const [by, stop] of Object.entries(stops)) {
      const onProgress = () => {
        busy(20);
        throw new Error('mine');
      };
      const given = { ...report, ...(by === 'signal' && { signal: controller.signal }) };
      if (by === 'callback') given.onProgress = onProgress;
      const opening = client.open(given).catch((thrown) => thrown);
      // It is open, but the event loop does not know.
      busy(20);
      stop();
      const error = await opening;
      assert.equal(error.name, by === 'signal' ? 'AbortError' : 'CancelledError');
      assert.equal((error instanceof AbortError ? error.cause : error).cancelledBy, by);
    }
  }
});

test('an exception of onProgress ends a stream', async (t) => {
  const client = newClient(t);
  const large = await addReport({ format: 'pdf', size: 1 << 20 });
  await fault(large.reportId, { stall_after: 1000 });
  let opened = false;
  const onProgress = () => {
    if (opened) throw new Error('mine');
  };
  const stream = await client.open({ ...large, onProgress });
  opened = true;
  await assert.rejects(
    sum(stream),
    (error) => error.cancelledBy === 'callback' && error.cause.message === 'mine',
  );
});

test('a report that cannot be opened is an error', async (t) => {
  const client = newClient(t);
  await assert.rejects(client.open({ instanceId, reportId: 'missing-0123456789' }), {
    code: 'DBSS_ERR_NOT_FOUND',
  });
  await assert.rejects(client.open({ ...(await silent()), totalTimeoutMs: 50 }), {
    code: 'DBSS_ERR_TOTAL_TIMEOUT',
  });
});
