// Keeps a local archive of all reports up to date.
//
//     node mirror.mjs DIRECTORY [SINCE]
//
// SINCE is a day such as 2026-11-24. DBSS_ENDPOINT (or DBSS_REGION), DBSS_TOKEN and
// DBSS_PROJECT_ID say where and as whom.

import { Client } from 'dbss';

const [directory, since] = process.argv.slice(2);
if (!directory) {
  console.error('usage: node mirror.mjs DIRECTORY [SINCE]');
  process.exit(2);
}

const {
  DBSS_ENDPOINT: endpoint,
  DBSS_REGION: region,
  DBSS_TOKEN: token,
  DBSS_PROJECT_ID: projectId,
} = process.env;
const client = new Client({ endpoint, region, token, projectId });
const print = ({ downloaded, present, notReady, failures, gaps }) => {
  console.log(
    `${downloaded} new, ${present} already there, ${notReady} not ready, ${failures.length} failed`,
  );
  for (const { instanceId, reportId, error } of failures)
    console.error(`${instanceId} ${reportId}: ${error.message}`);
  for (const { instanceId, type, period } of gaps) console.log(`no ${type} of ${instanceId} for ${period}`);
};
try {
  print(await client.mirror({ directory, since }));
} catch (error) {
  if (error.result) print(error.result);
  console.error(error.message);
  process.exitCode = 1;
} finally {
  client.close();
}
