import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { EcsSection } from "../../common/config/load.ts";
import type { AwsClients } from "./aws/clients.ts";
import { checkSurroundings } from "./start-checks.ts";
import { capturedLogger } from "./testing/captured-logger.ts";

describe("looking at what is configured", () => {
  it("says whose account it is", async () => {
    const sts = { send: async () => ({ Account: "123456789012", Arn: "arn:aws:iam::123456789012:role/r" }) };
    const failing = { send: () => Promise.reject(new Error("not asked here")) };
    const aws = { sts, ecs: failing, ec2: failing, efs: failing, logs: failing } as unknown as AwsClients;
    const { logger, lines } = capturedLogger();
    await checkSurroundings({} as EcsSection, aws, logger, new AbortController().signal);
    const told = lines.filter(({ level }) => level === "info").map(({ msg }) => msg);
    assert.deepEqual(told, ["AWS account 123456789012 as arn:aws:iam::123456789012:role/r"]);
  });

  it("ends with the backend, though AWS has not answered", async () => {
    const silent = {
      send: (_command: object, { abortSignal }: { readonly abortSignal: AbortSignal }) =>
        new Promise((_resolve, reject) => {
          abortSignal.addEventListener("abort", () => reject(abortSignal.reason as Error));
        }),
    };
    const aws = { sts: silent, ecs: silent, ec2: silent, efs: silent, logs: silent } as unknown as AwsClients;
    const config = { cluster: "c", subnets: [], securityGroups: [], efsFilesystemId: "fs-1" };
    const { logger, warnings } = capturedLogger();
    const closing = new AbortController();
    const checks = checkSurroundings(config as unknown as EcsSection, aws, logger, closing.signal);
    closing.abort(new Error("shutting down"));
    await checks;
    assert.deepEqual(warnings(), []);
  });
});
