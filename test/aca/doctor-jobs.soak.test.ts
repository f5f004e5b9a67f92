/** `sockerless doctor --start-job` in a simulated Azure that really runs the jobs. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";

import { callbackCheck } from "../../src/backends/aca/doctor/start-jobs.ts";
import type { Finding } from "../../src/common/finding.ts";
import { AcaDaemon } from "../support/aca-daemon.ts";
import { doctorLook } from "../support/doctor-look.ts";
import { duringTests } from "../support/during-tests.ts";

describe("the doctor of ACA, asked to start jobs", () => {
  const own = duringTests(() => AcaDaemon.start());
  before(async () => {
    await own.azure.trustHere();
    Object.assign(process.env, own.account.env);
  });

  const look = async (flags: Readonly<Record<string, unknown>> = {}): Promise<(check: string) => Finding> => {
    const { findings } = await doctorLook("aca", own.account.args[1] ?? "", flags, { starts: "job" });
    assert.deepEqual(own.azure.app.jobs.names(), [], "jobs are left");
    return (check) => findings.find((finding) => finding.check === check) ?? assert.fail(check);
  };

  it("has one reach the backend that runs here", async () => {
    const of = await look();
    assert.equal(of(callbackCheck).status, "ok", of(callbackCheck).text);
    assert.match(of("a job that starts").text, /^it had run after \d+ s$/);
    assert.match(own.daemon.output, /agents are waited for/);
  });

  describe("with no backend beside it", () => {
    before(() => own.daemon.shutDown());

    it("is reached itself, with everything else broken", async () => {
      const of = await look({
        "aca.storage_account_name": "nowhere",
        "aca.log_analytics_workspace_id": "00000000-0000-0000-0000-000000000000",
      });
      assert.equal(of(callbackCheck).status, "ok", of(callbackCheck).text);
      assert.equal(of("the storage account").status, "wrong");
    });

    it("finds an address that leads nowhere, and one that leads to another", async () => {
      for (const address of ["nowhere.example", `${own.azure.hostAddress}:1`]) {
        const of = await look({ "aca.callback_url": `wss://${address}/sockerless` });
        assert.equal(of(callbackCheck).status, "wrong");
        assert.match(of(callbackCheck).text, /^a job does not reach this backend at wss:/);
        assert.equal(of("a job that starts").status, "ok");
      }
    });
  });
});
