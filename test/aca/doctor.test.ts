/**
 * `sockerless doctor` in the simulated Azure: what is broken, and which lines tell so, all others being as they were; and
 * each right of the backend's roles taken away.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterEach, before, beforeEach, describe, it } from "node:test";

import type { Azure } from "../simulators/azure/azure.ts";
import type { Principal } from "../simulators/azure/entra/entra.ts";
import { defaultSwitches } from "../simulators/azure/switches.ts";
import { runCommand } from "../support/command.ts";
import { AcaAccount } from "../support/aca-daemon.ts";
import { checkout } from "../support/daemon.ts";
import { type Breakage, type DoctorLook, doctorLook, type Statuses } from "../support/doctor-look.ts";
import { duringTests } from "../support/during-tests.ts";
import { inSoak } from "../support/soak.ts";

/** Lines about what Azure alone sees. */
const alwaysUnknown: Statuses = { "the agent's image": "unknown", "the callback address": "unknown" };

/** Things that can be broken each by itself. */
const breakages: Readonly<Record<string, AcaBreakage>> = {
  "a location that is not the environment's": {
    flags: { "aca.location": "northeurope" },
    lines: { "the environment": "wrong" },
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
  "a quota of cores that is too small": {
    change: ({ switches }) => {
      switches.maxCores = 0.1;
      return () => {
        switches.maxCores = defaultSwitches().maxCores;
      };
    },
    lines: { "the quota of cores": "warning" },
  },
  "a workspace that is not there": {
    flags: { "aca.log_analytics_workspace_id": "00000000-0000-0000-0000-000000000000" },
    lines: { "the workspace": "wrong" },
  },
  "no address for agents": {
    without: ["callback_url"],
    lines: { "the callback address": "wrong" },
  },
  "nobody who may pull": { without: ["identity"], lines: { "the configuration": "wrong" } },
};

/** Things without which others cannot be looked at; each is broken alone. */
const foundations: Readonly<Record<string, AcaBreakage>> = {
  "an environment that is not there": {
    flags: { "aca.managed_environment_name": "nowhere" },
    lines: { "the environment": "wrong", "the quota of cores": "unknown" },
  },
  "a storage account that is not there": {
    flags: { "aca.storage_account_name": "nowhere" },
    lines: { "the storage account": "wrong", "the storage account's key": "wrong", "NFS shares": "warning" },
  },
  "nothing that brings the agent": {
    without: ["agent_image", "registry_server"],
    lines: { "the agent's image": "wrong" },
  },
  "more containers than there is room for": { containers: 401, lines: { "the quota of cores": "warning" } },
};

/** Something that is broken, or missing in the configuration. */
interface AcaBreakage extends Breakage<Azure> {
  readonly without?: readonly string[];
}

describe("the doctor of ACA", () => {
  const account = duringTests(() =>
    AcaAccount.open({
      azure: { lightweight: true },
      aca: ({ registry, subscription: { subscriptionId, resourceGroup } }) =>
        Promise.resolve({
          registry_id: registry.id,
          identity: `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/containers`,
          registry_username: undefined,
          registry_password: undefined,
        }),
    }),
  );
  let azure: Azure;
  /** The caller, one for all tests: the SDK keeps a managed identity's token in the process. */
  let backend: Principal;
  let takeBack: () => void;
  before(async () => {
    azure = account.azure;
    await azure.trustHere();
    backend = azure.entra.createApplication();
    Object.assign(process.env, azure.environmentFor(backend));
  });
  beforeEach(() => {
    takeBack = azure.entra.assign(backend, ["*"]);
  });
  afterEach(() => takeBack());

  const look = (): Promise<DoctorLook> => doctorLook("aca", account.args[1] ?? "");

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

  /** Looks where these things are broken. */
  async function lookWith(...broken: readonly AcaBreakage[]): Promise<DoctorLook> {
    const without = new Set(broken.flatMap((each) => each.without ?? []));
    const aca = Object.fromEntries(Object.entries(account.settings).filter(([key]) => !without.has(key)));
    const file = join(account.directory, "broken.yaml");
    await writeFile(file, JSON.stringify({ aca }));
    const undoings = broken.map(({ change }) => change?.(azure));
    try {
      const flags = Object.assign({}, ...broken.map((each) => each.flags));
      return await doctorLook("aca", file, flags, { containers: broken[0]?.containers ?? 1 });
    } finally {
      for (const undo of undoings) {
        undo?.();
      }
    }
  }

  for (const [name, breakage] of Object.entries({ ...breakages, ...foundations })) {
    it(`finds ${name}, and nothing else`, async () => {
      const { lines } = breakage;
      const { statuses, isWell, text } = await lookWith(breakage);
      assert.deepEqual(statuses, { ...alwaysUnknown, ...lines }, text);
      assert.equal(isWell, !Object.values(lines).includes("wrong"));
    });
  }

  for (const [name, { lines }] of Object.entries(breakages)) {
    it(`finds all well that ${name} would break, where all else is broken`, async () => {
      const others = Object.entries(breakages).filter(([other]) => other !== name);
      const { statuses, text } = await lookWith(...others.map(([, breakage]) => breakage));
      for (const check of Object.keys(lines)) {
        assert.equal(statuses[check], (alwaysUnknown as Statuses)[check], check + text);
      }
    });
  }

  it("finds a resource group that is not there, and nothing well in it", async () => {
    const { findings, text } = await lookWith({ flags: { "aca.resource_group": "nowhere" }, lines: {} });
    const having = (wanted: string): string[] =>
      findings.filter(({ status }) => status === wanted).map(({ check }) => check);
    assert.deepEqual(having("wrong"), ["the environment", "jobs", "the storage account"], text);
    assert.ok(!having("ok").some((check) => check.startsWith("Microsoft.App/")), text);
  });

  it("finds each right that no role has, and nothing else wrong", async () => {
    const rights = (await look()).findings.map(({ check }) => check).filter((check) => check.includes("/"));
    assert.equal(rights.length, 23, rights.join());
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

  describe("asked to start jobs", () => {
    /** Ends the jobs that are started, by the agent's mode. @returns what the look found */
    const lookWhile = async (exits: Readonly<Record<string, number>>): Promise<DoctorLook> => {
      const done = new AbortController();
      const ending = (async () => {
        while (!done.signal.aborted) {
          for (const { name, job, status } of azure.app.executions.filter(
            ({ status }) => status === "Running",
          )) {
            const [container] = azure.app.jobs.body(job)?.properties?.template?.containers ?? [];
            azure.app.end(name, exits[container?.args?.[0] ?? ""] ?? assert.fail(status));
          }
          await setTimeout(20);
        }
      })();
      const found = await doctorLook("aca", account.args[1] ?? "", {}, { starts: "job" });
      done.abort();
      await ending;
      assert.deepEqual(azure.app.jobs.names(), []);
      return found;
    };
    const { "the callback address": _, ...others } = alwaysUnknown;

    it("finds nothing where nothing is broken", async () => {
      assert.deepEqual((await lookWhile({ version: 0, call: 0 })).statuses, others);
    });

    it("finds a callback address that no job reaches, and nothing else", async () => {
      const { statuses, text } = await lookWhile({ version: 0, call: 1 });
      assert.deepEqual(statuses, { ...others, "the callback address": "wrong" }, text);
    });

    it("knows nothing of the callback address where jobs fail", async () => {
      const { statuses, text } = await lookWhile({ version: 1, call: 1 });
      assert.deepEqual(
        statuses,
        { ...others, "a job that starts": "wrong", "the callback address": "unknown" },
        text,
      );
    });

    it("knows nothing where no job may be made", async () => {
      takeBack();
      takeBack = azure.entra.assign(backend, ["Microsoft.App/*/read"]);
      const { findings } = await lookWhile({});
      const statusOf = (name: string) => findings.find(({ check }) => check === name)?.status;
      assert.deepEqual(
        [statusOf("a job that starts"), statusOf("the callback address")],
        ["unknown", "unknown"],
      );
    });
  });

  it("finds nothing well that a caller without any role asks for", async () => {
    takeBack();
    const { findings, isWell, text } = await look();
    assert.ok(!isWell, text);
    const well = findings.filter(({ status }) => status === "ok").map(({ check }) => check);
    assert.deepEqual(well, ["the configuration", "the storage account's key"], text);
  });

  it("finds an agent's image that nobody has pushed, until somebody has", inSoak, async () => {
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
