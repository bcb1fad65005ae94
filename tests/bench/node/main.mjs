// Downloads a report COUNT times over one connection and prints what that cost, as JSON.
//
//     node main.mjs PEER SINK ENDPOINT REPORT COUNT
//
// PEER is libdbss, http (of Node's core) or undici; SINK is memory or stream, which discards
// the bytes.

import { readFileSync } from 'node:fs';
import http from 'node:http';
import { buffer } from 'node:stream/consumers';

const PROJECT = '0123456789abcdef0123456789abcdef';
const INSTANCE = '00000000-1111-2222-3333-444444444444';
// As long as those of IAM.
const TOKEN = 't'.repeat(4096);
const HEADERS = { 'X-Auth-Token': TOKEN, 'Content-Type': 'application/json' };
const pathOf = (report) => `/v1/${PROJECT}/audit/${INSTANCE}/reports/${report}/download`;

async function count(stream) {
  let bytes = 0;
  for await (const chunk of stream) bytes += chunk.length;
  return bytes;
}

/** A function that downloads a report once, and returns the number of its bytes. */
const peers = {
  async libdbss(endpoint, stream) {
    const { Client } = await import('../../../bindings/node/index.mjs');
    const client = new Client({ endpoint, token: TOKEN, projectId: PROJECT });
    return async (reportId, signal) => {
      const options = { instanceId: INSTANCE, reportId, signal };
      return stream ? count(await client.open(options)) : (await client.download(options)).length;
    };
  },
  async http(endpoint, stream) {
    const agent = new http.Agent({ keepAlive: true });
    return async (report, signal) => {
      const response = await new Promise((resolve, reject) => {
        http.get(endpoint + pathOf(report), { agent, headers: HEADERS, signal }, resolve).on('error', reject);
      });
      if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}`);
      return stream ? count(response) : (await buffer(response)).length;
    };
  },
  async undici(endpoint, stream) {
    const { Client } = await import('undici');
    const client = new Client(endpoint);
    return async (report, signal) => {
      const { statusCode, body } = await client.request({
        path: pathOf(report),
        method: 'GET',
        headers: HEADERS,
        signal,
      });
      if (statusCode !== 200) throw new Error(`HTTP ${statusCode}`);
      return stream ? count(body) : (await body.arrayBuffer()).byteLength;
    };
  },
};

/** The peak of resident memory in KiB; that of getrusage includes the parent's. */
const peak = () => Number(/VmHWM:\s*(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);

const [, , peer, sink, endpoint, report, times] = process.argv;
// One that can abort, as programs have.
const { signal } = new AbortController();
const get = await peers[peer](endpoint, sink === 'stream');
await get('benchmark-warm-up', signal);
const idle = peak();
// Compiled by the engine, as in a program that runs for long.
for (let i = 0; sink !== 'stream' && i < Number(times); i++) await get(report, signal);
const started = performance.now();
const before = process.cpuUsage();
let bytes = 0;
for (let i = 0; i < Number(times); i++) bytes += await get(report, signal);
const { user, system } = process.cpuUsage(before);
const wall = (performance.now() - started) / 1000;
console.log(
  JSON.stringify({ wall_s: wall, cpu_s: (user + system) / 1e6, bytes, idle_kib: idle, peak_kib: peak() }),
);
process.exit();
