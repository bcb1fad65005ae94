// Creates a report, waits until it is ready, and saves it.
//
//     node generate.mjs INSTANCE TEMPLATE START END FILE
//
// START and END are times such as "2026-11-24 00:00:00". DBSS_ENDPOINT (or DBSS_REGION),
// DBSS_TOKEN and DBSS_PROJECT_ID say where and as whom.

import { Client } from 'dbss';

const [instanceId, templateId, startTime, endTime, file] = process.argv.slice(2);
if (!file) {
  console.error('usage: node generate.mjs INSTANCE TEMPLATE START END FILE');
  process.exit(2);
}

const {
  DBSS_ENDPOINT: endpoint,
  DBSS_REGION: region,
  DBSS_TOKEN: token,
  DBSS_PROJECT_ID: projectId,
} = process.env;
const client = new Client({ endpoint, region, token, projectId });
const spec = { templateId, startTime, endTime };
const onProgress = ({ percent }) => process.stderr.isTTY && process.stderr.write(`\r${percent ?? 0} %`);
try {
  const reportId = await client.generate({ instanceId, spec, onProgress });
  await client.download({ instanceId, reportId, file });
  console.log(`saved ${reportId} as ${file}`);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  client.close();
}
