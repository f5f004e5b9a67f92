import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { AcaSection } from "../../common/config/load.ts";
import { checkSurroundings } from "../cloud/upkeep/start-checks.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import type { AzureClients } from "./arm/clients.ts";
import { acaChecks } from "./start-checks.ts";

const configured = {
  subscriptionId: "00000000-0000-0000-0000-000000000001",
  resourceGroup: "group",
  managedEnvironmentName: "main",
  location: "westeurope",
  storageAccountName: "files",
  registryServer: "images.azurecr.io",
  identity: "system",
  logAnalyticsWorkspaceId: "00000000-0000-0000-0000-000000000002",
};

/** Azure as it is where nothing is wrong, by the names of the calls. */
const sound: Readonly<Record<string, object>> = {
  ManagedEnvironments_Get: {
    provisioningState: "Succeeded",
    location: "West Europe",
    workloadProfiles: [{ name: "Consumption" }],
  },
  Jobs_ListByResourceGroup: {},
  StorageAccounts_GetProperties: {},
};

const missing = Object.assign(new Error("not found"), { statusCode: 404 });

/** The log of a start where Azure answers so; an `Error` is what it refuses with. */
async function logOf(
  answers: Readonly<Record<string, object>>,
  config: Readonly<Record<string, unknown>> = {},
): Promise<ReturnType<typeof capturedLogger>> {
  const answerOf = async (operation: string): Promise<object> => {
    const answer = { ...sound, ...answers }[operation];
    if (answer === undefined || answer instanceof Error) {
      throw answer ?? new Error(`${operation} is not known here`);
    }
    return answer;
  };
  const azure = {
    apps: {
      managedEnvironments: { get: () => answerOf("ManagedEnvironments_Get") },
      jobs: { listByResourceGroup: () => ({ next: () => answerOf("Jobs_ListByResourceGroup") }) },
    },
    storage: { storageAccounts: { getProperties: () => answerOf("StorageAccounts_GetProperties") } },
    call: (_operation: string, send: (options: object) => Promise<unknown>) => send({}),
  } as unknown as AzureClients;
  const captured = capturedLogger();
  const checks = acaChecks({ ...configured, ...config } as unknown as AcaSection, azure, captured.logger);
  await checkSurroundings(checks, captured.logger, new AbortController().signal);
  return captured;
}

const environment = (fields: object): Readonly<Record<string, object>> => ({
  ManagedEnvironments_Get: { ...sound["ManagedEnvironments_Get"], ...fields },
});

describe("looking at what is configured of Azure", () => {
  for (const [what, answers, config, expected] of [
    ["nothing where all is there", {}, {}, []],
    [
      "an environment that is not there",
      { ManagedEnvironments_Get: missing },
      {},
      ["there is no environment main in the resource group group: no container will start"],
    ],
    [
      "an environment that is not ready",
      environment({ provisioningState: "Failed" }),
      {},
      ["the environment main is Failed: no container will start"],
    ],
    [
      "an environment in another region",
      environment({ location: "North Europe" }),
      {},
      ["the environment main is in North Europe, and aca.location is westeurope: no container will start"],
    ],
    [
      "the sizes of an environment without workload profiles",
      environment({ workloadProfiles: [] }),
      {},
      ["the environment main has no workload profiles: containers have 2 vCPU and 4 GiB of memory at most"],
    ],
    [
      "a storage account that is not there",
      { StorageAccounts_GetProperties: missing },
      {},
      ["there is no storage account files in the resource group group: no volume can be made"],
    ],
    [
      "no storage account where none is configured",
      { StorageAccounts_GetProperties: new Error("asked") },
      { storageAccountName: undefined },
      [],
    ],
    [
      "a registry that nobody may pull from",
      {},
      { identity: undefined },
      [
        "nobody may pull from images.azurecr.io: set aca.identity, or aca.registry_username and aca.registry_password",
      ],
    ],
    [
      "logs that nobody keeps",
      {},
      { logAnalyticsWorkspaceId: undefined },
      [
        "aca.log_analytics_workspace_id is not set: of containers whose agent is gone only what was taken in of their logs is shown",
      ],
    ],
    [
      "what cannot be looked at, and looks at the rest",
      {
        ManagedEnvironments_Get: new Error("denied"),
        Jobs_ListByResourceGroup: new Error("not allowed"),
        StorageAccounts_GetProperties: missing,
      },
      {},
      [
        "cannot look at jobs: not allowed",
        "cannot look at the environment: denied",
        "there is no storage account files in the resource group group: no volume can be made",
      ],
    ],
  ] as const) {
    it(`warns of ${what}`, async () => {
      assert.deepEqual(new Set((await logOf(answers, config)).warnings()), new Set<string>(expected));
    });
  }

  it("says whose resources these are", async () => {
    const told = (await logOf({})).lines.filter(({ level }) => level === "info").map(({ msg }) => msg);
    assert.deepEqual(told, ["Azure subscription 00000000-0000-0000-0000-000000000001, resource group group"]);
  });
});
