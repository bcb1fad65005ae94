// The mock service for the tests: the program dbss-mock, which tests/mock/README.md describes.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { Worker } from 'node:worker_threads';

import { Client } from '../index.mjs';

export const build = process.env.DBSS_BUILD_DIR ?? fileURLToPath(new URL('../../../build', import.meta.url));

// Credentials and proxies of the user must not reach the tests.
for (const name of ['http_proxy', 'HTTP_PROXY', 'HUAWEICLOUD_SDK_AK', 'HUAWEICLOUD_SDK_SK'])
  delete process.env[name];

// It ends with its input.
const program = spawn(path.join(build, 'bin/dbss-mock'), { stdio: ['pipe', 'pipe', 'inherit'] });
const [line] = await once(createInterface({ input: program.stdout }), 'line');
after(() => program.stdin.end());

/** What the mock service has: its addresses, ids and secrets. */
export const mock = JSON.parse(line);
export const instanceId = mock.instance_id;
export const pdf = mock.reports.find((one) => one.format === 'pdf');
/** The arguments of a call about the report that is there. */
export const report = { instanceId, reportId: pdf.id };

export async function control(method, route, body) {
  const headers = { 'Content-Type': 'application/json' };
  const response = await fetch(mock.control + route, { method, headers, body: JSON.stringify(body ?? {}) });
  if (!response.ok) throw new Error(`${method} ${route}: ${await response.text()}`);
  return response.json().catch(() => undefined);
}

/** The ids of a new report, which inherits the rest. */
export async function addReport(fields = { format: 'pdf' }) {
  const added = await control('POST', '/reports', fields);
  return Object.assign(Object.create(added), {
    instanceId: fields.instance ?? instanceId,
    reportId: added.id,
  });
}

export const fault = (reportId, how) => control('POST', '/faults', { report: reportId, ...how });

/** The ids of a report whose download never gets an answer. */
export async function silent() {
  const reportId = `silent-${randomBytes(8).toString('hex')}`;
  await fault(reportId, { no_response: true });
  return { instanceId, reportId };
}

/** The requests for a report that the service has received. */
export const requests = (reportId) =>
  fetch(`${mock.control}/requests?report=${reportId}`).then((got) => got.json());

/** Holds the event loop until the service has received so many requests for a report. */
export function holdUntilRequested(reportId, count) {
  const done = new Int32Array(new SharedArrayBuffer(4));
  const poll = async () => {
    const { workerData } = await import('node:worker_threads');
    const { done, url, count } = workerData;
    while ((await (await fetch(url)).json()).length < count);
    Atomics.store(done, 0, 1);
    Atomics.notify(done, 0);
  };
  const url = `${mock.control}/requests?report=${reportId}`;
  new Worker(`(${poll})()`, { eval: true, workerData: { done, url, count } });
  Atomics.wait(done, 0, 0, 60_000);
}

/** Whether something takes less than 250 ms: on a busy machine, at one time of five. */
export async function isPrompt(measure) {
  for (let i = 0; i < 5; i++) if ((await measure()) < 250) return true;
  return false;
}

export async function addInstance() {
  return (await control('POST', '/instances', { name: 'audit' })).ids[0];
}

export const options = { endpoint: mock.http, token: mock.token, projectId: mock.project_id };

/** A client for the mock service; it is closed at the end of the test. */
export function newClient(t, more = {}) {
  const client = new Client({ ...options, ...more });
  t.after(() => client.close());
  return client;
}

export function temporary(t) {
  const directory = mkdtempSync(path.join(tmpdir(), 'dbss-node-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}
