import assert from "node:assert/strict";
import { test } from "node:test";

import { type Answer, AzureScene } from "./azure-scene.ts";
import { duringTests } from "../../support/during-tests.ts";

const audience = "https://api.loganalytics.io";
const scene = duringTests(() => AzureScene.start());

async function query(text: string, token?: string): Promise<Answer> {
  const { azure } = scene;
  return await scene.follow(`${azure.endpoint}/v1/workspaces/${azure.subscription.workspaceId}/query`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token ?? azure.token(undefined, audience)}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({ query: text }),
  });
}

/** The backend's query of an execution's lines. */
function asked(execution = "x", more = "", order = "asc", most = 10): string {
  return [
    "ContainerAppConsoleLogs_CL",
    `| where ContainerGroupName_s == "${execution}" or ContainerGroupName_s startswith_cs "${execution}\\u002d"`,
    '| where ContainerName_s == "main"',
    `${more}| order by _timestamp_d ${order}`,
    `| take ${most}`,
    "| project _timestamp_d, Log_s",
  ].join("\n");
}

async function lines(...what: Parameters<typeof asked>): Promise<unknown[]> {
  const { status, body } = await query(asked(...what));
  assert.equal(status, 200, JSON.stringify(body));
  return body.tables[0].rows.map(([, line]: unknown[]) => line);
}

async function refusal(text: string): Promise<string> {
  const { body } = await query(text);
  return body.error.innererror?.code ?? body.error.code;
}

test("output is found after a while, by execution and time, and the table is there from then on", async () => {
  const { azure } = scene;
  azure.delays.logIngestion = 600_000;
  await scene.output("talker", "echo one; echo 'it'\\''s \"two\"'; echo three");
  const [{ name = "" } = {}] = azure.app.executions;
  assert.equal(await refusal(asked()), "SemanticError");
  azure.clock.advance(600_000);
  azure.delays.logIngestion = 0;
  const all = ["one", `it's "two"`, "three"];
  assert.deepEqual(await lines(name), all);
  assert.deepEqual(await lines(name, "", "desc", 1), ["three"]);
  assert.deepEqual(await lines("other"), []);
  const now = azure.clock.nowMs() / 1000;
  assert.deepEqual(await lines(name, `| where _timestamp_d >= ${now}\n`), []);
  assert.deepEqual(await lines(name, `| where _timestamp_d < ${now}\n`), all);
});

test("another query than the backend's is refused, and says so", async () => {
  await scene.output("refusing", "echo line");
  assert.equal(await refusal(asked('it"s')), "NotSimulated");
  assert.equal(await refusal("ContainerAppConsoleLogs_CL | summarize count()"), "NotSimulated");
});

test("queries need a token and a role of their own, and are limited", async () => {
  const { azure } = scene;
  const principal = azure.entra.createApplication();
  assert.equal((await query("x", azure.token(principal))).body.error.code, "InvalidTokenError");
  const { body } = await query("x", azure.token(principal, audience));
  assert.equal(body.error.code, "InsufficientAccessError");
  azure.rates.enabled = true;
  azure.rates.override("queries", { burst: 0, perSecond: 1 });
  const { status, headers } = await query("x");
  assert.deepEqual([status, headers.get("retry-after")], [429, "1"]);
  azure.rates.enabled = false;
});
