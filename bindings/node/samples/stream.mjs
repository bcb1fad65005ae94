// Reads a report in Chinese as it arrives, and prints its SHA-256. Control-C ends it.
//
//     node stream.mjs INSTANCE REPORT
//
// DBSS_ENDPOINT (or DBSS_REGION), DBSS_TOKEN and DBSS_PROJECT_ID say where and as whom.

import { createHash } from 'node:crypto';

import { AbortError, Client } from 'dbss';

const [instanceId, reportId] = process.argv.slice(2);
if (!reportId) {
  console.error('usage: node stream.mjs INSTANCE REPORT');
  process.exit(2);
}

const controller = new AbortController();
process.once('SIGINT', () => controller.abort());

const {
  DBSS_ENDPOINT: endpoint,
  DBSS_REGION: region,
  DBSS_TOKEN: token,
  DBSS_PROJECT_ID: projectId,
} = process.env;
const client = new Client({ endpoint, region, token, projectId });
try {
  const stream = await client.open({ instanceId, reportId, locale: 'zh-cn', signal: controller.signal });
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk);
  console.log(`${hash.digest('hex')}  ${stream.filename}`);
} catch (error) {
  console.error(error instanceof AbortError ? 'interrupted' : error.message);
  process.exitCode = 1;
} finally {
  client.close();
}
