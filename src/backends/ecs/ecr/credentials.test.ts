import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../../common/manual-clock.ts";
import type { AwsClients } from "../aws/clients.ts";
import { ecrCredentials, isEcr } from "./credentials.ts";

describe("a registry", () => {
  it("is ECR by AWS's own names", () => {
    for (const host of [
      "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
      "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
      "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
      "123456789012.dkr-ecr.eu-west-1.on.aws",
    ]) {
      assert.ok(isEcr(host), host);
    }
  });

  it("is not shown a token where it only sounds like one", () => {
    for (const host of [
      "123456789012.dkr.ecr.eu-west-1.example.com",
      "123456789012.dkr.ecr.eu-west-1.amazonaws.com.example.com",
      "123456789012.dkr.ecr.amazonaws.com.evil",
      "registry.example.com",
    ]) {
      assert.ok(!isEcr(host), host);
    }
  });
});

describe("a token", () => {
  function setUp() {
    const clock = new ManualClock();
    const asked: string[] = [];
    const ecrOf = (region: string): AwsClients["ecr"] =>
      ({
        send: ({ input }: { readonly input: { readonly registryIds?: readonly string[] } }) => {
          asked.push(`${region} ${input.registryIds?.join() ?? "-"}`);
          const authorizationToken = Buffer.from(`AWS:${asked.length}`).toString("base64");
          const expiresAt = new Date(clock.nowMs() + 12 * 3_600_000);
          return Promise.resolve({ authorizationData: [{ authorizationToken, expiresAt }] });
        },
      }) as unknown as AwsClients["ecr"];
    const credentials = ecrCredentials({ ecr: ecrOf("own"), ecrIn: ecrOf }, clock);
    return { asked, clock, credentials };
  }

  it("is asked for in the region and account of its registry, once for each registry", async () => {
    const { asked, credentials } = setUp();
    const hosts = [
      "111111111111.dkr.ecr.eu-west-1.amazonaws.com",
      "222222222222.dkr.ecr.eu-west-1.amazonaws.com",
      "111111111111.dkr.ecr.cn-north-1.amazonaws.com.cn",
      "111111111111.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
      "127.0.0.1:5000",
    ];
    const passwords = await Promise.all([...hosts, ...hosts].map((host) => credentials.get(host)));
    assert.deepEqual(asked, [
      "eu-west-1 111111111111",
      "eu-west-1 222222222222",
      "cn-north-1 111111111111",
      "us-gov-west-1 111111111111",
      "own -",
    ]);
    assert.deepEqual(
      passwords.map(({ password }) => password),
      ["1", "2", "3", "4", "5", "1", "2", "3", "4", "5"],
    );
  });

  it("is kept for the last 64 registries", async () => {
    const { asked, credentials } = setUp();
    const hostOf = (account: number): string =>
      `${String(account).padStart(12, "0")}.dkr.ecr.eu-west-1.amazonaws.com`;
    for (let account = 0; account <= 64; account++) {
      await credentials.get(hostOf(account));
    }
    await credentials.get(hostOf(1));
    assert.equal(asked.length, 65);
    await credentials.get(hostOf(0));
    assert.equal(asked.length, 66);
  });

  it("is asked for anew where it ends soon, or its registry has refused it", async () => {
    const { asked, clock, credentials } = setUp();
    const host = "111111111111.dkr.ecr.eu-west-1.amazonaws.com";
    await credentials.get(host);
    await clock.advance(11.75 * 3_600_000);
    await credentials.get(host);
    credentials.forget(host);
    await credentials.get(host);
    assert.equal(asked.length, 3);
  });
});
