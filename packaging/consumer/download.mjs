// Downloads the report that the environment names, with the installed package.

import { createHash } from 'node:crypto';

import { Client } from 'dbss';

const { env } = process;
const client = new Client({ endpoint: env.DBSS_ENDPOINT, token: env.DBSS_TOKEN, caFile: env.DBSS_CA_FILE });
const report = await client.download({
  projectId: env.DBSS_PROJECT_ID,
  instanceId: env.DBSS_INSTANCE_ID,
  reportId: env.DBSS_REPORT_ID,
  locale: env.DBSS_LOCALE,
});
client.close();
if (createHash('sha256').update(report).digest('hex') !== env.REPORT_SHA256) {
  throw new Error('not the report that the service has');
}
