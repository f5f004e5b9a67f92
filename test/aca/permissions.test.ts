/**
 * Each role that the Terraform module gives the backend taken away in turn, from the daemon's start on: whoever sets a
 * cloud up is told which one is missing. A sample; with SOCKERLESS_SOAK=1 (`npm run soak -- "missing permissions"`) all.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import type { Azure } from "../simulators/azure/azure.ts";
import { AcaAccount } from "../support/aca-daemon.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { liveWithout } from "../support/missing-permission.ts";
import { isSoak } from "../support/soak.ts";

/** Azure's own definitions of the roles, as far as sockerless needs them, and what each is assigned on. */
const roles: Readonly<
  Record<string, readonly [actions: readonly string[], scope: (azure: Azure) => string]>
> = {
  "Container Apps Jobs Contributor": [
    ["Microsoft.App/jobs/*", "Microsoft.App/managedEnvironments/join/action"],
    groupOf,
  ],
  "Container Apps ManagedEnvironments Contributor": [
    ["Microsoft.App/managedEnvironments/*"],
    ({ subscription }) => subscription.environmentId,
  ],
  "Managed Identity Operator": [
    ["Microsoft.ManagedIdentity/userAssignedIdentities/*/read", "*/assign/action"],
    identityOf,
  ],
  "Log Analytics Reader": [["Microsoft.OperationalInsights/workspaces/*/read"], groupOf],
  "Storage Account Contributor": [["Microsoft.Storage/storageAccounts/*"], groupOf],
  AcrPush: [
    ["Microsoft.ContainerRegistry/registries/pull/read", "*/push/write"],
    ({ registry }) => registry.id,
  ],
  AcrDelete: [["Microsoft.ContainerRegistry/registries/artifacts/delete"], ({ registry }) => registry.id],
  "Container Registry Data Importer and Data Reader": [
    ["Microsoft.ContainerRegistry/registries/importImage/action", "*/registries/read", "*/pull/read"],
    ({ registry }) => registry.id,
  ],
};
/**
 * Roles that a short life does without: of images of other users than root, and of logs whose agent is gone. Their calls are
 * named in `errors.test.ts` and `log-analytics.test.ts`.
 */
const unneeded = ["Container Registry Data Importer and Data Reader", "Log Analytics Reader"];
const sample = ["Storage Account Contributor"];
const chosen = process.env["SOCKERLESS_ROLES"]?.split(",") ?? (isSoak ? Object.keys(roles) : sample);

/** The resource group, which has one resource of each type. */
function groupOf({ subscription: { subscriptionId, resourceGroup } }: Azure): string {
  return `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}`;
}

function identityOf(azure: Azure): string {
  return `${groupOf(azure)}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/containers`;
}

describe("a life on Azure in which the backend has not the role", () => {
  it("that the module gives it: the table has all", async () => {
    const module = await readFile(join(checkout, "terraform/modules/aca/identity.tf"), "utf8");
    const given = [...module.matchAll(/= \{ role = "([^"]+)"/g)].map(([, role]) => role);
    assert.deepEqual(new Set(Object.keys(roles)), new Set(given));
  });

  for (const role of chosen) {
    it(`${role} tells so`, async (test) => {
      await using account = await AcaAccount.open({
        aca: (azure) =>
          Promise.resolve({
            ...{ linger: "0s", drain_timeout: "2s", start_timeout: "60s" },
            identity: identityOf(azure),
            registry_id: azure.registry.id,
            registry_username: undefined,
            registry_password: undefined,
            storage_account_key: undefined,
          }),
      });
      const { azure } = account;
      const { entra } = azure;
      const pull = "Microsoft.ContainerRegistry/registries/pull/read";
      entra.assign(entra.createIdentity(identityOf(azure)), [pull], azure.registry.id);
      const backend = entra.createApplication();
      for (const [name, [actions, scope]] of Object.entries(roles)) {
        if (name !== role) {
          entra.assign(backend, actions, scope(azure));
        }
      }
      const denials = () =>
        entra.denials.filter(
          ({ objectId, action }) =>
            objectId === backend.objectId && !/Operation(Results|Statuses)\//.test(action),
        );
      await using daemons = new AsyncDisposableStack();
      const life = await liveWithout(
        {
          isNamedIn: (said) => said.includes(role) || denials().some(({ action }) => said.includes(action)),
          deniedAt: () => denials().map(({ atMs }) => atMs),
        },
        async () => {
          const args = ["--backend", "aca", ...account.args];
          const daemon = await Daemon.start({ args, env: azure.environmentFor(backend) });
          daemons.use(daemon);
          daemons.defer(() => void entra.assign(backend, ["*"])); // The removal is to go through.
          return daemon;
        },
      );
      test.diagnostic(
        `${role}: ${life.denials} denials, logged after ${life.loggedAfterMs} ms, told after ${life.toldAfterMs} ms`,
      );
      assert.equal(life.denials > 0, !unneeded.includes(role), life.transcript);
      if (life.denials > 0) {
        assert.ok(life.loggedAfterMs !== undefined, `the log has no word of it: ${life.transcript}`);
        assert.deepEqual(life.untold, [], life.transcript);
      }
    });
  }
});
