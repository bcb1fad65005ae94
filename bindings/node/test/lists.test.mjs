import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';

import * as dbss from '../index.mjs';
import { addInstance, addReport, control, fault, instanceId, mock, newClient, temporary } from './mock.mjs';

const templateId = mock.templates[0].id;
const spec = { templateId, startTime: '2026-11-23 00:00:00', endTime: '2026-11-24 00:00:00' };

async function addReports(count, fields = {}) {
  const instance = await addInstance();
  const { ids } = await control('POST', '/reports', { format: 'pdf', count, instance, ...fields });
  return { instance, ids };
}

test('lists are read with for await', async (t) => {
  const client = newClient(t);
  const { instance, ids } = await addReports(5);
  const list = client.reports({ instanceId: instance, pageSize: 2 });
  const found = [];
  for await (const one of list) found.push(one.id);
  assert.deepEqual(found.sort(), ids.sort());
  assert.equal(list.total, 5);
  assert.deepEqual(await list.toArray(), []);
  const [first] = await client.instances().toArray();
  assert.equal(first.id, instanceId);
  assert.equal(typeof first.cpu, 'number');
  assert.equal(first.raw.id, instanceId);
  assert.equal((await client.templates({ instanceId }).toArray())[0].name, mock.templates[0].name);
  const off = await client.databases({ instanceId, status: 'OFF' }).toArray();
  assert.deepEqual(
    off.map((one) => one.status),
    ['OFF'],
  );
  await assert.rejects(client.databases({ instanceId, status: 'MAYBE' }).toArray(), { parameter: 'status' });
});

test('each page of a list has the options', async (t) => {
  const client = newClient(t);
  const { instance } = await addReports(5);
  function* settings() {
    yield ['max_attempts', '1'];
  }
  const list = client.reports({ instanceId: instance, pageSize: 2, settings: settings() });
  assert.equal((await list.nextPage()).length, 2);
  await fault('@reports.list', { status: 500, times: 1 });
  await assert.rejects(list.nextPage(), { code: 'DBSS_ERR_SERVER' });
  assert.equal((await list.toArray()).length, 3);
});

test('a list continues after a break and after a failure', async (t) => {
  const client = newClient(t);
  const { instance, ids } = await addReports(5);
  const list = client.reports({ instanceId: instance, pageSize: 2, maxAttempts: 1 });
  const found = [];
  for await (const one of list) {
    found.push(one.id);
    break;
  }
  await fault('@reports.list', { status: 500, times: 1 });
  await assert.rejects(
    async () => {
      for await (const one of list) found.push(one.id);
    },
    { code: 'DBSS_ERR_SERVER' },
  );
  assert.equal(found.length, 2);
  for await (const one of list) found.push(one.id);
  assert.deepEqual(found.sort(), ids.sort());
});

test('pages of a list at the same time come one after the other', async (t) => {
  const client = newClient(t);
  const { instance, ids } = await addReports(5);
  const list = client.reports({ instanceId: instance, pageSize: 2 });
  const pages = await Promise.all([list.nextPage(), list.nextPage(), list.nextPage(), list.nextPage()]);
  assert.deepEqual(
    pages.map((page) => page.length),
    [2, 2, 1, 0],
  );
  const again = client.reports({ instanceId: instance, pageSize: 2 });
  const found = (await Promise.all([again.toArray(), again.toArray()])).flat();
  assert.deepEqual(found.map((one) => one.id).sort(), ids.sort());
  // A failure is that of one call.
  await fault('@reports.list', { status: 500, times: 1 });
  const failing = client.reports({ instanceId: instance, maxAttempts: 1 });
  const [first, second] = await Promise.allSettled([failing.nextPage(), failing.nextPage()]);
  assert.deepEqual([first.status, second.status], ['rejected', 'fulfilled']);
});

test('long texts in a list need no stack', () => {
  const { parse } = createRequire(import.meta.url)('../dist/lists.js');
  for (const text of ['x', '\\"']) {
    const long = text.repeat(8_000_000);
    const read = parse(`{"long":${JSON.stringify(long)},"number":1234567890123456789}`);
    assert.ok(read.long === long);
    assert.equal(read.number, 1234567890123456789n);
  }
});

test('fields are converted leniently, and large numbers exactly', async (t) => {
  const client = newClient(t);
  const instance = await addInstance();
  await addReport({
    format: 'pdf',
    instance,
    percentum: '99.5',
    type: null,
    db_names: [1, 2],
    extra: { big: { a: [1234567890123456] }, text: 'a "1234567890123456789" b', list: [-5, 1.5] },
  });
  await control('POST', '/reports', { format: 'pdf', instance, extra: { huge: 0 } });
  const [one] = await client
    .reports({ instanceId: instance })
    .toArray()
    .then((all) => all.filter((report) => 'text' in report.raw));
  assert.equal(one.percentum, 99);
  assert.equal(one.type, undefined);
  assert.equal(one.dbNames, '[1,2]');
  assert.equal(one.raw.big.a[0], 1234567890123456);
  assert.equal(one.raw.text, 'a "1234567890123456789" b');
});

test('numbers with long fractions, and names that are NUL, are read', async (t) => {
  const client = newClient(t);
  const instance = await addInstance();
  // As text, because JavaScript would change the numbers.
  const extra = String.raw`{"n":1234567890123456789,"x":{"\u0000":"abc"},"e":1234567890123456e2,
    "f":[-0.30000000000000004,1e-1234567890123456,9007199254740992,-9007199254740991]}`;
  const body = `{"format":"pdf","instance":"${instance}","percentum":0.30000000000000004,"extra":${extra}}`;
  const headers = { 'Content-Type': 'application/json' };
  const { ok } = await fetch(`${mock.control}/reports`, { method: 'POST', headers, body });
  assert.ok(ok);
  const [{ percentum, raw }] = await client.reports({ instanceId: instance }).toArray();
  assert.equal(percentum, 0);
  assert.equal(raw.percentum, 0.30000000000000004);
  assert.equal(raw.n, 1234567890123456789n);
  assert.deepEqual(raw.x, { '\0': 'abc' });
  assert.equal(raw.e, 123456789012345600);
  assert.deepEqual(raw.f, [-0.30000000000000004, 0, 9007199254740992n, -9007199254740991]);
});

test('a very long number is text, which takes no time', async (t) => {
  const digits = '9'.repeat(2_000_000);
  await fault('@instances', { body: `{"instances":[{"id":"${'a'.repeat(32)}","n":${digits}}]}`, times: 1 });
  const [{ raw }] = await newClient(t).instances().toArray();
  assert.equal(raw.n, digits);
});

test('a report is generated, waited for and deleted', async (t) => {
  const client = newClient(t, { pollIntervalMs: 1 });
  const instance = await addInstance();
  const percents = [];
  const onProgress = ({ percent }) => percents.push(percent);
  const reportId = await client.generate({ instanceId: instance, spec, onProgress });
  assert.equal(percents.at(-1), 100);
  const ids = { instanceId: instance, reportId };
  assert.equal((await client.download(ids)).subarray(0, 5).toString(), '%PDF-');
  await client.wait(ids);
  await client.delete(ids);
  await assert.rejects(client.delete(ids), { code: 'DBSS_ERR_NOT_FOUND' });
  await client.create({ instanceId: instance, spec });
  await assert.rejects(client.create({ instanceId: instance, spec: { templateId } }), {
    code: 'DBSS_ERR_NOT_CONFIGURED',
    parameter: 'startTime',
  });
  await assert.rejects(client.generate({ instanceId: instance, spec: { ...spec, no: '1' } }), {
    code: 'DBSS_ERR_UNKNOWN_KEY',
  });
  await control('POST', '/generation', { percent_per_list: 0 });
  t.after(() => control('POST', '/generation', {}));
  const late = await client
    .generate({ instanceId: instance, spec, waitTimeoutMs: 50 })
    .catch((thrown) => thrown);
  assert.equal(late.code, 'DBSS_ERR_NOT_READY');
  const controller = new AbortController();
  const aborted = await client
    .generate({
      ...{ instanceId: instance, spec, signal: controller.signal },
      onProgress: ({ attempts }) => attempts > 9 && controller.abort(),
    })
    .catch((thrown) => thrown);
  assert.equal(aborted.name, 'AbortError');
  const onLate = ({ attempts }) => {
    if (attempts > 9) throw new Error('mine');
  };
  const thrown = await client
    .generate({ instanceId: instance, spec, onProgress: onLate })
    .catch((error) => error);
  assert.equal(thrown.cancelledBy, 'callback');
  for (const { candidates } of [late, aborted, thrown]) {
    assert.equal(candidates.length, 1);
    const found = { instanceId: instance, reportId: candidates[0] };
    await assert.rejects(client.wait({ ...found, waitTimeoutMs: 50 }), { code: 'DBSS_ERR_NOT_READY' });
  }
});

test('a schedule is changed where changes are given', async (t) => {
  const client = newClient(t);
  const ids = { instanceId: await addInstance(), templateId };
  const before = await client.schedule(ids);
  await client.updateSchedule({ ...ids, changes: { status: 'OFF', format: 'ZIP', topicUrn: '' } });
  const after = await client.schedule(ids);
  assert.deepEqual(
    [after.status, after.format, after.topicUrn, after.frequency],
    ['OFF', 'ZIP', '', before.frequency],
  );
  assert.equal(before.smnEffective, true);
  await assert.rejects(client.updateSchedule({ ...ids, changes: {} }), { code: 'DBSS_ERR_NOT_CONFIGURED' });
});

test('a mirror resolves to its result, and rejects with a partial one', async (t) => {
  const client = newClient(t);
  const { instance, ids } = await addReports(5);
  await fault(ids[2], { status: 403, times: 1 });
  const directory = path.join(temporary(t), 'archive');
  const error = await client
    .mirror({ directory, instanceId: instance, parallel: 2 })
    .catch((thrown) => thrown);
  assert.equal(error.code, 'DBSS_ERR_PARTIAL');
  assert.deepEqual([error.result.downloaded, error.result.failed], [4, 1]);
  const [failure] = error.result.failures;
  assert.deepEqual([failure.instanceId, failure.reportId], [instance, ids[2]]);
  assert.equal(failure.error.code, 'DBSS_ERR_FORBIDDEN');
  assert.ok(failure.error instanceof dbss.ServiceError);
  const percents = [];
  const result = await client.mirror({
    directory,
    instanceId: instance,
    onProgress: ({ percent }) => percents.push(percent),
  });
  assert.deepEqual([result.downloaded, result.present, result.failures], [1, 4, []]);
  assert.equal(percents.at(-1), 100);
  assert.ok(readdirSync(directory).includes('SHA256SUMS'));
  await addReport({
    format: 'pdf',
    instance,
    type: 'AUDIT_REPORT_DAY',
    start_time: '2026-11-01 00:00:00',
    end_time: '2026-11-02 00:00:00',
  });
  const { gaps } = await client.mirror({
    directory,
    instanceId: instance,
    since: '2026-11-01',
    until: '2026-11-03',
    type: 'AUDIT_REPORT_DAY',
  });
  assert.deepEqual(gaps[0], { instanceId: instance, type: 'AUDIT_REPORT_DAY', period: '2026-11-02' });
  // A Date is another day in another time zone.
  for (const since of ['soon', new Date(2026, 10, 1)]) {
    const refused = await client.mirror({ directory, since }).catch((thrown) => thrown);
    assert.deepEqual(
      [refused.code, refused.parameter, refused.result],
      ['DBSS_ERR_INVALID_VALUE', 'since', undefined],
    );
  }
  await assert.rejects(client.mirror({ directory, signal: AbortSignal.abort() }), { name: 'AbortError' });
});

test('a mirror that is aborted has its result so far', async (t) => {
  const client = newClient(t);
  const { instance, ids } = await addReports(3);
  await fault(ids[2], { no_response: true });
  const controller = new AbortController();
  const error = await client
    .mirror({
      ...{ directory: path.join(temporary(t), 'archive'), instanceId: instance, signal: controller.signal },
      onProgress: ({ percent }) => percent > 0 && controller.abort(),
    })
    .catch((thrown) => thrown);
  assert.equal(error.name, 'AbortError');
  assert.ok(error.result.downloaded > 0);
  assert.equal(error.result, error.cause.result);
});
