// What torture.test.mjs runs in other processes and in workers: `program.mjs WHAT`. The
// variable DBSS_TEST has the address, the token and the ids.

import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { Writable } from 'node:stream';
import { promisify } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { setTimeout as delay } from 'node:timers/promises';

import { Client } from '../index.mjs';

const { options, report, silent } = JSON.parse(process.env.DBSS_TEST);
const what = isMainThread ? process.argv[2] : workerData;
const ignore = () => {};
const times = (count, work) => Array.from({ length: count }, work);
const newWorker = (name) => new Worker(new URL(import.meta.url), { workerData: name });

const resident = () => process.memoryUsage().rss / 1024;
const descriptors = () => readdirSync('/proc/self/fd').length;
const threads = () => readdirSync('/proc/self/task').length;

async function collect() {
  for (let i = 0; i < 5; i++) {
    globalThis.gc();
    await delay(5);
  }
}

const programs = {
  /** Leaves by process.exit during calls, streams and a token provider that never answers. */
  async exit() {
    const client = new Client({ ...options, log: ignore });
    const waiting = new Client({
      endpoint: options.endpoint,
      projectId: options.projectId,
      tokenProvider: () => new Promise(ignore),
    });
    const stream = await client.open(report);
    stream.resume();
    times(20, () => client.download({ ...silent, onProgress: ignore }).catch(ignore));
    waiting.check().catch(ignore);
    await delay(50);
    process.exit(7);
  },
  /** Ends by an exception of the log. */
  async throws() {
    const log = () => {
      throw new Error('from the log');
    };
    await new Client({ ...options, logLevel: 'info', log }).download(report);
    await delay(10_000);
  },
  /** Ends by an exception of a handler of a stream. */
  async reads() {
    const stream = await new Client(options).open(report);
    stream.on('data', () => {
      throw new Error('from the handler');
    });
  },
  /** Handles the exceptions of two Writables, and still has calls. */
  async writes() {
    const seen = [];
    process.on('uncaughtException', (error) => seen.push(error.message));
    const client = new Client(options);
    for (let i = 1; i <= 2; i++) {
      const stream = await client.open(report);
      const write = () => {
        throw new Error('from the Writable');
      };
      stream.pipe(new Writable({ write }));
      while (seen.length < i) await delay(1);
      stream.destroy();
    }
    await client.download(report);
    console.log(JSON.stringify(seen));
  },
  /** Nothing keeps the process: neither a client nor a stream that is open. */
  async ends() {
    globalThis.kept = await new Client(options).open(report);
  },
  /** Many calls while the collector frees what nobody closed. */
  async storm() {
    for (let i = 0; i < 300; i++) {
      const client = new Client({ ...options, log: ignore, tokenProvider: undefined });
      const calls = [
        client.download({ ...report, onProgress: ignore }),
        client.open(report).then((one) => one.read()),
      ];
      const reports = client.reports({ instanceId: report.instanceId });
      const { value } = await reports[Symbol.asyncIterator]().next();
      if (!value.id) throw new Error('no report');
      if (i % 3 === 0) globalThis.gc();
      await Promise.all(calls);
    }
    await collect();
  },
  /** Streams that nobody has any more, with a signal that lives on, and one that is kept. */
  async forgets() {
    const client = new Client(options);
    const controller = new AbortController();
    const { signal } = controller;
    const kept = await client.open({ ...report, signal });
    // The client keeps a descriptor of each for later calls.
    const opened = await Promise.all(times(40, () => client.open(report)));
    for (const stream of opened) stream.destroy();
    await collect();
    const before = descriptors();
    for (let i = 0; i < 30; i++) await client.open({ ...report, signal });
    for (let i = 0; i < 200 && descriptors() > before; i++) await collect();
    const after = descriptors();
    const failed = new Promise((resolve) => kept.once('error', resolve));
    controller.abort();
    console.log(JSON.stringify({ before, after, name: (await failed).name }));
  },
  /** What stays of 10,000 calls, and of 300 clients, streams and aborts that nobody closed. */
  async leaks() {
    const client = new Client(options);
    const some = async (count) => {
      for (let i = 0; i < count / 10; i++) await Promise.all(times(10, () => client.download(report)));
      for (let i = 0; i < count / 100; i++) {
        const controller = new AbortController();
        const aborted = client
          .download({ ...silent, signal: controller.signal, onProgress: ignore })
          .catch(ignore);
        const forgotten = new Client(options);
        await (await forgotten.open(report)).toArray();
        await client.download({ ...report, reportId: 'missing-0123456789' }).catch(ignore);
        controller.abort();
        await aborted;
      }
      await collect();
    };
    const rounds = [];
    for (let i = 0; i < 4; i++) {
      await some(10_000);
      rounds.push([resident(), descriptors(), threads()]);
    }
    console.log(JSON.stringify(rounds));
  },
  /** Workers that are terminated during calls. */
  async terminate() {
    for (let i = 0; i < 10; i++) {
      const workers = times(3, () => newWorker('busy'));
      await Promise.all(workers.map((one) => new Promise((resolve) => one.once('message', resolve))));
      await Promise.all(workers.map((one) => one.terminate()));
    }
    await new Client(options).download(report);
  },
  async busy() {
    const client = new Client({ ...options, log: ignore });
    const waiting = new Client({
      endpoint: options.endpoint,
      projectId: options.projectId,
      tokenProvider: () => new Promise(ignore),
    });
    waiting.check().catch(ignore);
    times(10, () => client.download({ ...silent, onProgress: ignore }).catch(ignore));
    (await client.open(report)).resume();
    await client.download(report);
    parentPort.postMessage('busy');
    for (;;) await client.download({ ...report, onProgress: ignore });
  },
  /** Six workers with silent downloads, and a hundred of them in this thread. */
  async workers() {
    const workers = times(6, () => newWorker('silent'));
    await Promise.all(workers.map((one) => new Promise((resolve) => one.once('message', resolve))));
    const client = new Client(options);
    times(100, () => client.download(silent).catch(ignore));
    await delay(100);
    const { readFile } = await import('node:fs/promises');
    const took = [];
    for (let i = 0; i < 50; i++) {
      const started = performance.now();
      await readFile(new URL(import.meta.url));
      took.push(performance.now() - started);
    }
    took.sort((a, b) => a - b);
    console.log(JSON.stringify({ threads: threads(), median: took[25], most: took.at(-1) }));
    process.exit();
  },
  async silent() {
    const client = new Client(options);
    times(100, () => client.download(silent).catch(ignore));
    await delay(50);
    parentPort.postMessage('silent');
    await delay(60_000);
  },
  /** Programs that are started during calls have no descriptor of them. */
  async inherits() {
    const count = async () => {
      const { stdout } = await promisify(execFile)('ls', ['/proc/self/fd']);
      return stdout.split('\n').length - 1;
    };
    const before = await count();
    const client = new Client(options);
    times(20, () => client.download(silent).catch(ignore));
    (await client.open(report)).resume();
    console.log(JSON.stringify({ before, most: Math.max(...(await Promise.all(times(20, count)))) }));
    process.exit();
  },
  /** A hundred calls that wait, aborted one by one at random times. */
  async aborts() {
    const client = new Client(options);
    const late = times(100, async () => {
      const controller = new AbortController();
      let aborted;
      setTimeout(() => {
        aborted = performance.now();
        controller.abort();
      }, Math.random() * 500);
      const call = Math.random() < 0.5 ? 'download' : 'open';
      const error = await client[call]({ ...silent, signal: controller.signal }).catch((thrown) => thrown);
      if (error.name !== 'AbortError') throw error;
      return performance.now() - aborted;
    });
    const took = (await Promise.all(late)).sort((a, b) => a - b);
    console.log(JSON.stringify({ median: took[50], most: took.at(-1) }));
  },
  /** A worker that ends by itself, with a client that nobody closed. */
  async leaves() {
    await new Client(options).download(report);
    const worker = newWorker('quiet');
    const code = await new Promise((resolve) => worker.once('exit', resolve));
    if (code !== 0) throw new Error(`code ${code}`);
  },
  async quiet() {
    globalThis.kept = await new Client({ ...options, log: ignore }).open(report);
  },
  /** A download into memory, of what test/library.c says. */
  async large() {
    const client = new Client(options);
    const { name, code, message } = await client.download(report).catch((thrown) => thrown);
    globalThis.gc();
    await delay(10);
    console.log(JSON.stringify([name, code, message]));
  },
  /** A provider whose own call can have no thread, as test/library.c says. */
  async provides() {
    const other = new Client(options);
    const { endpoint, projectId } = options;
    const client = new Client({ endpoint, projectId, tokenProvider: () => other.check() });
    const { code, cause } = await client.check().catch((thrown) => thrown);
    console.log(JSON.stringify([code, cause.code]));
  },
  /** Threads that nobody needs end. */
  async idle() {
    const client = new Client(options);
    await Promise.all(times(40, () => client.download(report)));
    const many = threads();
    await delay(11_000);
    for (let i = 0; i < 300 && threads() >= many - 5; i++) await delay(100);
    console.log(JSON.stringify({ many, few: threads() }));
  },
};

await programs[what]();
