// Downloads a report to a file.
//
//     node download.mjs INSTANCE REPORT FILE
//
// DBSS_ENDPOINT (or DBSS_REGION), DBSS_TOKEN and DBSS_PROJECT_ID say where and as whom.

import { Client, DbssError } from 'dbss';

const [instanceId, reportId, file] = process.argv.slice(2);
if (!file) {
  console.error('usage: node download.mjs INSTANCE REPORT FILE');
  process.exit(2);
}

const {
  DBSS_ENDPOINT: endpoint,
  DBSS_REGION: region,
  DBSS_TOKEN: token,
  DBSS_PROJECT_ID: projectId,
} = process.env;
const client = new Client({ endpoint, region, token, projectId });
try {
  const { path } = await client.download({ instanceId, reportId, file });
  console.log(`saved ${path}`);
} catch (error) {
  if (!(error instanceof DbssError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
