/**
 * `sockerless doctor` in the simulated Azure: what is broken, and which lines tell so, all others being as they were; and
 * each right of the backend's roles taken away.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import type { Azure } from "../simulators/azure/azure.ts";
import type { Principal } from "../simulators/azure/entra/entra.ts";
import { runCommand } from "../support/command.ts";
import { AcaAccount } from "../support/aca-daemon.ts";
import { checkout } from "../support/daemon.ts";
import { type Breakage, type DoctorLook, doctorLook, type Statuses } from "../support/doctor-look.ts";

/** Lines about what Azure alone sees. */
const alwaysUnknown: Statuses = { "the agent's image": "unknown", "the callback address": "unknown" };

const breakages: Readonly<Record<string, Breakage<Azure>>> = {
  "an environment that is not there": {
    flags: { "aca.managed_environment_name": "nowhere" },
    lines: { "the environment": "wrong" },
  },
  "a location that is not the environment's": {
    flags: { "aca.location": "northeurope" },
    lines: { "the environment": "wrong" },
  },
  "a storage account that is not there": {
    flags: { "aca.storage_account_name": "nowhere" },
    lines: { "the storage account": "wrong", "the storage account's key": "wrong", "NFS shares": "warning" },
  },
  "a key that the storage account does not have": {
    change: ({ storage, subscription: { storageAccount } }) => {
      const account = storage.account(storageAccount) ?? assert.fail();
      const { keys } = account;
      account.keys = ["b3RoZXI=", "b3RoZXI="];
      return () => {
        account.keys = keys;
      };
    },
    lines: { "the storage account's key": "wrong" },
  },
  "a storage account that takes secure transfer alone": {
    change: ({ storage, subscription: { storageAccount } }) => {
      const account = storage.account(storageAccount) ?? assert.fail();
      account.isHttpsOnly = true;
      return () => {
        account.isHttpsOnly = false;
      };
    },
    lines: { "NFS shares": "warning" },
  },
  "a workspace that is not there": {
    flags: { "aca.log_analytics_workspace_id": "00000000-0000-0000-0000-000000000000" },
    lines: { "the workspace": "wrong" },
  },
};

describe("the doctor of ACA", () => {
  let account: AcaAccount;
  let azure: Azure;
  /** The caller, one for all tests: the SDK keeps a managed identity's token in the process. */
  let backend: Principal;
  let takeBack: () => void;
  before(async () => {
    account = await AcaAccount.open({
      azure: { lightweight: true },
      aca: ({ registry, subscription: { subscriptionId, resourceGroup } }) =>
        Promise.resolve({
          registry_id: registry.id,
          identity: `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/containers`,
          registry_username: undefined,
          registry_password: undefined,
        }),
    });
    azure = account.azure;
    await azure.trustHere();
    backend = azure.entra.createApplication();
    Object.assign(process.env, azure.environmentFor(backend));
  });
  after(() => account[Symbol.asyncDispose]());
  beforeEach(() => {
    takeBack = azure.entra.assign(backend, ["*"]);
  });
  afterEach(() => takeBack());

  const look = (flags?: Readonly<Record<string, unknown>>): Promise<DoctorLook> =>
    doctorLook("aca", account.args[1] ?? "", flags);

  it("finds nothing where nothing is broken, and changes nothing", async () => {
    azure.calls.clear();
    const { statuses, isWell, text } = await look();
    assert.deepEqual(statuses, alwaysUnknown, text);
    assert.ok(isWell);
    const changing = azure.calls
      .all()
      .map(({ operation }) => operation)
      .filter((operation) => !/^Token$|_(Get|GetProperties|List\w*|Execute)$/.test(operation));
    assert.deepEqual(changing, []);
  });

  for (const [name, { flags, change, lines }] of Object.entries(breakages)) {
    it(`finds ${name}, and nothing else`, async () => {
      const undo = change?.(azure);
      try {
        const { statuses, isWell, text } = await look(flags);
        assert.deepEqual(statuses, { ...alwaysUnknown, ...lines }, text);
        assert.equal(isWell, !Object.values(lines).includes("wrong"));
      } finally {
        undo?.();
      }
    });
  }

  it("finds each right that no role has, and nothing else wrong", async () => {
    const rights = (await look()).findings.map(({ check }) => check).filter((check) => check.includes("/"));
    assert.equal(rights.length, 22, rights.join());
    for (const right of rights) {
      takeBack();
      takeBack = azure.entra.assign(backend, [
        ...rights.filter((each) => each !== right),
        "Microsoft.OperationalInsights/workspaces/*",
      ]);
      const { findings, text } = await look();
      const wrong = findings.filter(({ status }) => status === "wrong").map(({ check }) => check);
      assert.deepEqual(wrong, [right], text);
    }
  });

  it("finds nothing well that a caller without any role asks for", async () => {
    takeBack();
    const { findings, isWell, text } = await look();
    assert.ok(!isWell, text);
    const well = findings.filter(({ status }) => status === "ok").map(({ check }) => check);
    assert.deepEqual(well, ["the configuration", "the storage account's key"], text);
  });

  it("finds an agent's image that nobody has pushed, until somebody has", async () => {
    await using own = await AcaAccount.open({
      azure: { lightweight: true },
      aca: () => Promise.resolve({ agent_image: undefined }),
    });
    const args = ["--backend", "aca", ...own.args, "--format", "json"];
    const program = join(checkout, "bin/sockerless");
    const env = { ...process.env, ...own.env };
    const statusOfAgent = async (): Promise<[code: number | null, status: string | undefined]> => {
      const { code, text } = await runCommand(program, ["doctor", ...args], { env });
      const findings = JSON.parse(text) as readonly { readonly check: string; readonly status: string }[];
      return [code, findings.find(({ check }) => check === "the agent's image")?.status];
    };
    assert.deepEqual(await statusOfAgent(), [1, "wrong"]);
    const pushed = await runCommand(program, ["aca", "push-agent", ...own.args], { env });
    assert.equal(pushed.code, 0, pushed.errorText);
    assert.deepEqual(await statusOfAgent(), [0, "ok"]);
  });
});
