// What a program of its own must survive; program.mjs has the programs.

import assert from 'node:assert/strict';
import { constants } from 'node:buffer';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { addReport, build, options, silent, temporary } from './mock.mjs';

const program = fileURLToPath(new URL('program.mjs', import.meta.url));
const report = await addReport({ format: 'pdf', size: 300_000 });
const small = await addReport({ format: 'pdf', size: 16_384 });
// The engine's own heap grows in large steps.
const FLAGS = ['--expose-gc', '--max-semi-space-size=2'];
const env = { ...process.env, DBSS_TEST: '' };

/** How a program ends, and what it prints. */
function run(what, { of = report, limit = 300_000, variables = {} } = {}) {
  return new Promise((resolve) => {
    silent().then((lost) => {
      env.DBSS_TEST = JSON.stringify({ options, report: of, silent: lost });
      const started = performance.now();
      const child = execFile(
        process.execPath,
        [...FLAGS, program, what],
        { env: { ...env, ...variables }, timeout: limit },
        (_, stdout, stderr) => {
          resolve({
            code: child.exitCode,
            signal: child.signalCode,
            stdout,
            stderr,
            took: performance.now() - started,
          });
        },
      );
    });
  });
}

async function succeeds(what, more) {
  const { code, signal, stdout, stderr } = await run(what, more);
  assert.deepEqual([code, signal, stderr], [0, null, '']);
  return stdout && JSON.parse(stdout);
}

test('a process that exits during calls exits at once', async () => {
  const { code, signal, stderr, took } = await run('exit');
  assert.deepEqual([code, signal, stderr], [7, null, '']);
  assert.ok(took < 20_000, `${took} ms`);
});

test('a process ends although a client and a stream are open', () => succeeds('ends'));

test('an exception of the log is an uncaught exception', async () => {
  const { code, stderr } = await run('throws');
  assert.equal(code, 1);
  assert.match(stderr, /Error: from the log\n +at Client.log /);
});

test('an exception of a data handler is an uncaught exception', async () => {
  const { code, stderr } = await run('reads');
  assert.equal(code, 1);
  assert.match(stderr, /Error: from the handler\n +at ReportStream/);
});

test('a process goes on after an exception of a Writable that it handles', async () => {
  const written = await succeeds('writes');
  assert.deepEqual(written, ['from the Writable', 'from the Writable']);
});

test('the collector frees what is not closed, while calls run', () => succeeds('storm'));

test('a signal does not keep the streams that are forgotten', async () => {
  // More than the socket holds, so that each needs its connection.
  const of = await addReport({ format: 'pdf', size: 50_000_000 });
  const { before, after, name } = await succeeds('forgets', { of });
  assert.ok(after <= before, `${before} descriptors, then ${after}`);
  assert.equal(name, 'AbortError');
});

test('workers are terminated during calls', () => succeeds('terminate'));

test('a worker ends with a client that is not closed', () => succeeds('leaves'));

test('programs that are started during calls inherit nothing', async () => {
  const { before, most } = await succeeds('inherits');
  assert.equal(most, before);
});

test('a hundred calls are aborted in time', async () => {
  const { median, most } = await succeeds('aborts');
  assert.ok(median < 250 && most < 10_000, `${median} ms late, or ${most}`);
});

test('silent downloads in six workers do not hold up the files', async () => {
  // Behind the downloads it would be minutes each time; a busy machine is late now and then.
  for (let attempt = 1; ; attempt++) {
    const { threads, median, most } = await succeeds('workers');
    assert.ok(threads > 6 * 64, `${threads} threads`);
    if (median < 50) return;
    assert.ok(attempt < 5, `median ${median} ms, most ${most} ms`);
  }
});

test('ten thousand calls leave nothing', async () => {
  // Memory grows at first, as the allocators keep what they have freed.
  const rounds = await succeeds('leaks', { of: small });
  const growth = rounds.slice(1).map(([resident], index) => resident - rounds[index][0]);
  assert.ok(Math.min(...growth) < 4 << 10, `resident memory grows by ${growth} KiB`);
  const [[, files, threads], [, filesAtEnd, threadsAtEnd]] = [rounds[0], rounds.at(-1)];
  // A client keeps one for each call that ran at once.
  assert.ok(filesAtEnd <= files + 16, `descriptors from ${files} to ${filesAtEnd}`);
  assert.ok(threadsAtEnd <= threads + 10, `threads from ${threads} to ${threadsAtEnd}`);
});

test('threads that nobody needs end', async () => {
  const { many, few } = await succeeds('idle');
  assert.ok(few < many - 5, `${many} threads, then ${few}`);
});

/** The variables for a library before libdbss, which does what a test needs. */
async function instead(t, variables) {
  const library = path.join(temporary(t), 'library.so');
  const source = fileURLToPath(new URL('library.c', import.meta.url));
  const flags = ['-shared', '-fPIC', `-I${path.join(build, 'include')}`];
  await promisify(execFile)(process.env.CC ?? 'cc', [...flags, source, '-o', library]);
  const libraries = [process.env.LD_PRELOAD, library].filter(Boolean);
  return { ...variables, LD_PRELOAD: libraries.join(' ') };
}

test('a call of a provider fails if it can have no thread', async (t) => {
  const variables = await instead(t, { DBSS_TEST_THREADS: '1' });
  assert.deepEqual(await succeeds('provides', { variables }), ['DBSS_ERR_NO_TOKEN', 'DBSS_ERR_RESOURCE']);
});

test('an addon that cannot be loaded says why', async (t) => {
  const directory = temporary(t);
  cpSync(fileURLToPath(new URL('../dist', import.meta.url)), path.join(directory, 'dist'), {
    recursive: true,
  });
  mkdirSync(path.join(directory, 'build'));
  writeFileSync(path.join(directory, 'build/dbss.node'), 'no library');
  const { stderr } = await promisify(execFile)(process.execPath, [
    path.join(directory, 'dist/index.js'),
  ]).catch((thrown) => thrown);
  assert.match(stderr, /no prebuilt package .*dbss\.node: .*(file too short|invalid ELF header)/);
});

test('another libdbss than that of the package is refused', async (t) => {
  const { LD_PRELOAD } = await instead(t);
  for (const [version, isFine] of [
    ['99', false],
    ['101', true],
    ['10000', false],
  ]) {
    const { code, stderr } = await run('ends', { variables: { LD_PRELOAD, DBSS_TEST_VERSION: version } });
    assert.equal(code, isFine ? 0 : 1);
    if (!isFine)
      assert.match(stderr, /libdbss (0\.0\.99|1\.0\.0), but the package needs 0\.1\.0\. Another libdbss/);
  }
});

test('a report that no Buffer can hold is an error', async (t) => {
  // Newer versions have no limit that the memory would not have.
  if (constants.MAX_LENGTH > 2 ** 40) return t.skip();
  const variables = await instead(t, { DBSS_TEST_SIZE: String(constants.MAX_LENGTH + 1) });
  const [name, code, message] = await succeeds('large', { variables });
  assert.deepEqual([name, code], ['ResourceError', 'DBSS_ERR_LIMIT_EXCEEDED']);
  assert.match(message, /the report has 4294967297 bytes, but a Buffer/);
});
