/** `sockerless doctor` in the simulated AWS: each check with its thing broken, and well beside all else that is. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { loadConfig } from "../../src/common/config/load.ts";
import { examine, isHealthy } from "../../src/cli/doctor/doctor.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { EcsAccount } from "../support/ecs-daemon.ts";

/** Settings that name what is not there, by the check that tells so. */
const broken: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  "the cluster": { "ecs.cluster": "nowhere" },
  "the subnets": { "ecs.subnets": ["subnet-0123456789abcdef0"] },
  "the security groups": { "ecs.security_groups": ["sg-0123456789abcdef0"], "ecs.agent_mode": "direct" },
  "the file system": { "ecs.efs_filesystem_id": "fs-0123456789abcdef0" },
  "the log group": { "ecs.log_group": "/nowhere" },
};

describe("the doctor of ECS", () => {
  let account: EcsAccount;
  before(async () => {
    account = await EcsAccount.open();
    Object.assign(process.env, account.env);
  });
  after(() => account[Symbol.asyncDispose]());

  async function look(flags: Readonly<Record<string, unknown>>) {
    const [, file = ""] = account.args;
    const { config } = loadConfig({ command: "serve", backend: "ecs", file, flags, environment: {}, uid: 0 });
    const findings = await examine(config);
    const statusOf = (name: string) => findings.find(({ check }) => check === name)?.status;
    return { findings, isWell: isHealthy(findings), statusOf, text: JSON.stringify(findings) };
  }

  it("finds nothing where nothing is broken, and ends with the exit code 0", async () => {
    const args = ["doctor", "--backend", "ecs", ...account.args, "--format", "json"];
    const { code, text, errorText } = await runCommand(join(checkout, "bin/sockerless"), args, {
      env: { ...process.env, ...account.env },
    });
    assert.equal(code, 0, text + errorText);
    const findings = JSON.parse(text) as readonly { readonly status: string }[];
    assert.ok(findings.length > 0 && findings.every(({ status }) => status === "ok"), text);
  });

  for (const [check, flags] of Object.entries(broken)) {
    it(`finds ${check} wrong, and well where all else is`, async () => {
      const alone = await look(flags);
      assert.deepEqual([alone.statusOf(check), alone.isWell], ["wrong", false], alone.text);
      const others = Object.entries(broken).filter(([other]) => other !== check);
      const rest = await look(Object.assign({}, ...others.map(([, other]) => other)));
      for (const [other] of others) {
        assert.notEqual(rest.statusOf(other), "ok", rest.text);
      }
      // Whether mount targets are in the subnets cannot be well where those are others.
      if (check !== "the file system") {
        assert.equal(rest.statusOf(check), "ok", rest.text);
      }
    });
  }

  it("finds credentials that AWS does not take wrong, and no check well with them", async () => {
    process.env["AWS_ACCESS_KEY_ID"] = "AKIANOBODY0000000000";
    const { findings, isWell, text } = await look({});
    assert.ok(!isWell && findings.every(({ status }) => status !== "ok"), text);
  });
});
