// Several copies of the package in one thread, as of two packages that depend on it.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import * as first from '../index.mjs';
import { addReport, options } from './mock.mjs';

const require = createRequire(import.meta.url);

/** Another copy, with the addon in common, or with its own. */
function another(isShared) {
  for (const name of Object.keys(require.cache))
    if (/dist.[^/]*\.js$/.test(name) || (!isShared && name.endsWith('.node'))) delete require.cache[name];
  return require('../dist/index.js');
}

test('copies of the package do not disturb each other', async () => {
  const copies = [first, another(true), another(true), another(false)];
  assert.equal(new Set(copies.map((one) => one.Client)).size, 4);
  const sizes = [5000, 6000, 300_000, 400_000];
  const reports = await Promise.all(sizes.map((size) => addReport({ format: 'pdf', size })));
  await Promise.all(
    copies.map(async ({ Client, ServiceError }, index) => {
      let records = 0;
      const client = new Client({ ...options, logLevel: 'info', log: () => records++ });
      const calls = Array.from({ length: 50 }, () => client.download(reports[index]));
      for (const bytes of await Promise.all(calls)) assert.equal(bytes.length, sizes[index]);
      const given = {
        ...reports[index],
        instanceId: reports[index].instanceId,
        reportId: 'missing-0123456789',
      };
      await assert.rejects(client.download(given), (error) => error instanceof ServiceError);
      assert.throws(
        () => client.setToken('a b'),
        (error) => error instanceof copies[index].ArgumentError,
      );
      client.close();
      assert.ok(records >= 50);
    }),
  );
});
