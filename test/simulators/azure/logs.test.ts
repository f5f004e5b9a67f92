import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { type Answer, AzureScene } from "./azure-scene.ts";

const audience = "https://api.loganalytics.io";
let scene: AzureScene;

before(async () => {
  scene = await AzureScene.start();
});

after(() => scene[Symbol.asyncDispose]());

async function query(text: string, more: object = {}, token?: string): Promise<Answer> {
  const { azure } = scene;
  return await scene.follow(`${azure.endpoint}/v1/workspaces/${azure.subscription.workspaceId}/query`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token ?? azure.token(undefined, audience)}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({ query: text, ...more }),
  });
}

async function rows(text: string, more: object = {}): Promise<unknown[][]> {
  const { status, body } = await query(text, more);
  assert.equal(status, 200, JSON.stringify(body));
  return body.tables[0].rows;
}

async function refusal(text: string): Promise<string> {
  const { body } = await query(text);
  return body.error.innererror?.code ?? body.error.code;
}

test("output is found after a while, by execution and time, and the table is there from then on", async () => {
  const { azure } = scene;
  azure.delays.logIngestion = 600_000;
  const table = "ContainerAppConsoleLogs_CL";
  await scene.output("talker", "echo one; echo 'it'\\''s \"two\"'; echo three");
  const [seen] = azure.app.executions;
  assert.equal(await refusal(table), "SemanticError");
  azure.clock.advance(600_000);
  azure.delays.logIngestion = 0;
  const mine = `where ContainerGroupName_s == "x" or ContainerGroupName_s startswith_cs "${seen?.name}-"`;
  const all = `${table} | ${mine} | where ContainerName_s == "main"`;
  const log = "order by _timestamp_d asc | project Log_s";
  assert.deepEqual(await rows(`${all} | ${log}`), [["one"], [`it's "two"`], ["three"]]);
  assert.deepEqual(await rows(`${all} | order by _timestamp_d desc | take 1 | project Log_s`), [["three"]]);
  assert.deepEqual(await rows(`${table} | where ContainerJobName_s == 'other' | ${log}`), []);
  const now = azure.clock.nowMs() / 1000;
  assert.deepEqual(await rows(`${table} | where _timestamp_d >= ${now} | count`), [[0]]);
  assert.deepEqual(await rows(`${table} | where _timestamp_d < ${now} | count`), [[3]]);
  const escaped = 'it\\\'s "two"';
  assert.deepEqual(await rows(`${table} | where Log_s == '${escaped}' or Log_s == "one" | count`), [[2]]);
});

test("a query that Kusto would not take is refused, and one that is not simulated says so", async () => {
  await scene.output("refusing", "echo line");
  assert.equal(await refusal("Nothing_CL"), "SemanticError");
  assert.equal(await refusal("ContainerAppConsoleLogs_CL | where Nobody_s == 'a'"), "SemanticError");
  assert.equal(await refusal("ContainerAppConsoleLogs_CL | where Log_s == 'it's'"), "SyntaxError");
  assert.equal(await refusal("ContainerAppConsoleLogs_CL | where Log_s =="), "SyntaxError");
  assert.equal(await refusal("ContainerAppConsoleLogs_CL | summarize count()"), "NotSimulated");
});

test("queries need a token and a role of their own, and are limited", async () => {
  const { azure } = scene;
  const principal = azure.entra.createApplication();
  assert.equal((await query("x", {}, azure.token(principal))).body.error.code, "InvalidTokenError");
  const { body } = await query("x", {}, azure.token(principal, audience));
  assert.equal(body.error.code, "InsufficientAccessError");
  azure.rates.enabled = true;
  azure.rates.override("queries", { burst: 0, perSecond: 1 });
  const { status, headers } = await query("x");
  assert.deepEqual([status, headers.get("retry-after")], [429, "1"]);
  azure.rates.enabled = false;
});

test("lines can be lost", async () => {
  scene.azure.switches.logLossEvery = 1;
  await scene.output("lossy", "echo lost");
  scene.azure.switches.logLossEvery = 0;
  await scene.output("lossy", "echo kept");
  const found = await rows(
    "ContainerAppConsoleLogs_CL | where ContainerJobName_s == 'lossy' | project Log_s",
  );
  assert.deepEqual(found, [["kept"]]);
});
